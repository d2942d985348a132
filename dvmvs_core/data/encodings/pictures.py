# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Pictures for a person: values in colours, PNG and JPEG."""

from __future__ import annotations

import cv2
import numpy as np

from dvmvs_core.errors import DataError


def colour_depth(depth: np.ndarray, near_m: float, far_m: float) -> np.ndarray:
    """Return depth in the colours of Turbo, evenly over inverse depth, so that near steps show as clearly as far ones.

    Args:
        depth: (h, w) metres; 0, NaN or infinity where it is invalid.
        near_m: depth of the red end; what is nearer has its colour.
        far_m: depth of the blue end; what is farther has its colour.

    Returns:
        (h, w, 3) uint8 RGB, black where depth is invalid.
    """
    valid = np.isfinite(depth) & (depth > 0)
    inverse = 1.0 / np.where(valid, depth, far_m)
    share = (inverse - 1.0 / far_m) / max(1.0 / near_m - 1.0 / far_m, 1e-9)
    return coloured(share, valid, cv2.COLORMAP_TURBO)


def coloured(share: np.ndarray, valid_mask: np.ndarray, colormap: int) -> np.ndarray:
    """Return values (h, w) from 0 to 1 as RGB (h, w, 3) uint8, black where they are not valid.

    Args:
        share: clipped to the ends of the map.
        valid_mask: (h, w) bool.
        colormap: OpenCV's number of the map.
    """
    values = np.rint(255.0 * np.nan_to_num(share).clip(0.0, 1.0)).astype(np.uint8)
    picture = cv2.cvtColor(cv2.applyColorMap(values, colormap), cv2.COLOR_BGR2RGB)
    picture[~valid_mask] = 0
    return picture


def encode_jpeg(picture: np.ndarray, quality: int = 88) -> bytes:
    """Return an RGB picture (h, w, 3) uint8 as JPEG bytes, a fifth of a PNG's size."""
    return _encode(picture, ".jpg", [cv2.IMWRITE_JPEG_QUALITY, quality])


def encode_png(picture: np.ndarray) -> bytes:
    """Return an RGB picture (h, w, 3) uint8, or an image (h, w) uint8 or uint16, as PNG bytes."""
    return _encode(picture, ".png", [])


def _encode(picture: np.ndarray, suffix: str, parameters: list[int]) -> bytes:
    channels = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR) if picture.ndim == 3 else picture
    done, data = cv2.imencode(suffix, channels, parameters)
    if not done:
        raise DataError(f"a picture of shape {picture.shape} could not be encoded as {suffix}")
    return data.tobytes()
