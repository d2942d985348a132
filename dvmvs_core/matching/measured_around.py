# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What a cell's depth should be by what was measured around it: planes fitted to clear matches.

Surfaces of rooms are planes, and the inverse depth of a plane is linear in the pixel. Symbols: (q, r) cells of the
quarter-resolution grid.
"""

from __future__ import annotations

import cv2
import numpy as np

NEAREST_M, FARTHEST_M = 0.25, 20.0

REACHES = (3.0, 8.0)
"""Deviation, in cells, of the windows that planes are fitted in."""

CLEAR_SCORE, CLEAR_PARALLAX_PX = 0.3, 4.0
"""Score of images alone and parallax of a 25 % depth step from which on a match counts in full."""

MIN_WEIGHT, RIDGE = 1e-4, 1e-3
"""Added to weights, and to the variance of the cells, so that a plane can be fitted anywhere."""


def fitted_depths(log_depth: np.ndarray, score: np.ndarray, parallax: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return log depths (2, q, r) by planes of two reaches, and the weight (q, r) of each match.

    Args:
        log_depth: (q, r) float32, matched.
        score: (q, r) float32 of images alone at the matched plane.
        parallax: (q, r) float32 pixels that a depth step of 25 % moves the point.
    """
    weight = np.clip(cv2.blur(score, (3, 3)) / CLEAR_SCORE, 0, 1) ** 2 * np.minimum(parallax / CLEAR_PARALLAX_PX, 1)
    inverse = np.exp(-log_depth)
    planes = [_plane(inverse, weight + MIN_WEIGHT, reach) for reach in REACHES]
    return -np.log(np.clip(np.stack(planes), 1 / FARTHEST_M, 1 / NEAREST_M)), weight


def _plane(values: np.ndarray, weight: np.ndarray, reach: float) -> np.ndarray:
    """Value (q, r) at each cell of the plane a + b·x + c·y that fits the values around it best, by least squares."""
    height, width = values.shape
    y, x = (axis.astype(np.float32) / np.float32(reach) for axis in np.mgrid[:height, :width])
    moments = [
        cv2.GaussianBlur(part, (0, 0), reach, borderType=cv2.BORDER_CONSTANT)
        for part in (
            weight,
            *(weight * one for one in (x, y, values)),
            *(weight * one for one in (x * x, x * y, y * y, values * x, values * y)),
        )
    ]
    total = moments[0] + 1e-6
    mean_x, mean_y, mean, xx, xy, yy, vx, vy = (moment / total for moment in moments[1:])
    xx, yy, xy = xx - mean_x**2 + RIDGE, yy - mean_y**2 + RIDGE, xy - mean_x * mean_y
    vx, vy = vx - mean * mean_x, vy - mean * mean_y
    determinant = xx * yy - xy**2
    return mean + ((vx * yy - vy * xy) * (x - mean_x) + (vy * xx - vx * xy) * (y - mean_y)) / determinant
