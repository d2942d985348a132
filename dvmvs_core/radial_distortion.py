# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Radial distortion k1 that a camera's images still have: taken out of them, and put back into their depth.

A point at (x, y) of the plane at depth 1 is seen at (1 + k1 r²) (x, y), r² = x² + y²: below 0 as a barrel bends it.

Symbols: h×w network resolution, K intrinsics (3, 3).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

LARGEST_BEND = 0.25
"""Of k1 r² in the corners, at most: beyond a third, a lens would map two rays to a pixel."""

_INVERTING_STEPS = 8
_LEAST_BEND = 2 / 3  # where rays are mapped farthest from the axis: what lies beyond is in no image


def removable(distortion: float, K: np.ndarray, size: tuple[int, int]) -> float:
    """Return as much of a distortion as can be taken out of images (h, w)."""
    corners = np.stack([((x - K[0, 2]) / K[0, 0], (y - K[1, 2]) / K[1, 1]) for x in (0, size[1]) for y in (0, size[0])])
    largest = LARGEST_BEND / np.square(corners).sum(axis=1).max()
    return float(np.clip(distortion, -largest, largest))


def straightened(image: Tensor, K: np.ndarray, distortion: float) -> Tensor:
    """Return an image (h, w, C) as a camera without distortion sees it; what it does not show repeats its border.

    Args:
        image: as it came.
        K: of both images.
        distortion: k1, which must be `removable`.
    """
    return _straight(image.permute(2, 0, 1), K, distortion, "bilinear").permute(1, 2, 0).contiguous()


def straight_maps(maps: Tensor, K: np.ndarray, distortion: float) -> Tensor:
    """Return maps (C, h, w) as `straightened` does with an image, each pixel from the nearest."""
    return _straight(maps, K, distortion, "nearest")


def bent(maps: Tensor, K: np.ndarray, distortion: float, outside: str) -> Tensor:
    """Return maps (C, h, w) of a straightened image at the pixels of the distorted one, each from the nearest.

    Args:
        maps: depth in metres, which stays, since it is measured along the axis; or confidence.
        K: of both images.
        distortion: k1 that was taken out.
        outside: "border" repeats it where the straightened image does not show the pixel; "zeros" puts zeros there.
    """
    grid = _grid(K.tobytes(), K.dtype, tuple(maps.shape[1:]), distortion, True, maps.device)
    return _sampled(maps, grid, "nearest", outside)


def _straight(maps: Tensor, K: np.ndarray, distortion: float, mode: str) -> Tensor:
    grid = _grid(K.tobytes(), K.dtype, tuple(maps.shape[1:]), distortion, False, maps.device)
    return _sampled(maps, grid, mode, "border")


def _sampled(maps: Tensor, grid: Tensor, mode: str, outside: str) -> Tensor:
    return functional.grid_sample(maps[None], grid, mode=mode, padding_mode=outside, align_corners=True)[0]


@lru_cache(maxsize=16)
def _grid(
    K_bytes: bytes, dtype: np.dtype, size: tuple[int, int], distortion: float, inverse: bool, device: torch.device
) -> Tensor:
    """Places (1, h, w, 2) for `grid_sample` of straight pixels in the distorted image; inverse, the other way round.

    They are the same from keyframe to keyframe.
    """
    K = np.frombuffer(K_bytes, dtype).reshape(3, 3).astype(np.float64)
    v, u = np.mgrid[: size[0], : size[1]]
    rays = np.stack(((u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1]))
    places = rays
    for _ in range(_INVERTING_STEPS if inverse else 1):
        bend = 1 + distortion * np.square(places).sum(axis=0)
        places = rays / np.maximum(bend, _LEAST_BEND) if inverse else rays * bend
    u, v = K[0, 0] * places[0] + K[0, 2], K[1, 1] * places[1] + K[1, 2]
    grid = np.stack((u * (2 / (size[1] - 1)) - 1, v * (2 / (size[0] - 1)) - 1), axis=-1)
    return torch.from_numpy(grid.astype(np.float32))[None].to(device)
