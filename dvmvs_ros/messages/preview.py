# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Depth as a picture for a person, in colours that mean the same distance in every frame."""

from __future__ import annotations

import cv2
import numpy as np


def colour_depth(depth: np.ndarray, near_m: float, far_m: float) -> np.ndarray:
    """Return depth in the colours of Turbo, red near and blue far, evenly spaced in inverse depth.

    Args:
        depth: (h, w) metres; 0, NaN or infinity where it is invalid.
        near_m: depth of the red end; what is nearer has its colour.
        far_m: depth of the blue end; what is farther has its colour.

    Returns:
        (h, w, 3) uint8 RGB, black where depth is invalid.
    """
    valid = np.isfinite(depth) & (depth > 0)
    inverse = 1.0 / np.where(valid, depth, far_m)
    share = (inverse - 1.0 / far_m) / (1.0 / near_m - 1.0 / far_m)
    levels = np.rint(255.0 * share.clip(0.0, 1.0)).astype(np.uint8)
    picture = cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB)
    picture[~valid] = 0
    return picture
