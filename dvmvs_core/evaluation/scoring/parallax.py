# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""How much parallax the measurement frames give each pixel: what matching can know of its depth."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from dvmvs_core.geometry import inverse_pose

DEPTH_STEP = 1.25
"""Factor between the two depths whose projections are compared: the widest error that counts as right in <1.25."""


def parallax_px(
    depth: np.ndarray, K: np.ndarray, world_T_ref: np.ndarray, world_T_measurements: Iterable[np.ndarray]
) -> np.ndarray:
    """Return how far a depth step of 25 % moves the point of each pixel in a measurement frame.

    The distance in pixels between the projections of the points at depth d and at 1.25 d; of several measurement frames
    the largest. A frame in which the point at depth d is outside the image gives it no parallax.

    Args:
        depth: (h, w) metres, 0 = invalid.
        K: (3, 3) intrinsics of all frames.
        world_T_ref: (4, 4) pose of the reference frame.
        world_T_measurements: (4, 4) pose of each measurement frame.

    Returns:
        (h, w) pixels; 0 where depth is invalid or no frame sees the point.
    """
    height, width = depth.shape
    y, x = np.nonzero(depth > 0)
    d = depth[y, x].astype(np.float64)
    scaled_pixels = np.stack((x * d, y * d, d))  # (3, N): K times the points
    largest = np.zeros(len(d))
    for world_T_meas in world_T_measurements:
        meas_T_ref = inverse_pose(world_T_meas) @ world_T_ref
        turned = K @ meas_T_ref[:3, :3] @ np.linalg.inv(K) @ scaled_pixels
        shift = (K @ meas_T_ref[:3, 3])[:, None]
        near, far = turned + shift, DEPTH_STEP * turned + shift
        with np.errstate(divide="ignore", invalid="ignore"):
            pixels = near[:2] / near[2]
            distance = np.hypot(*(far[:2] / far[2] - pixels))
        in_view = (near[2] > 0) & (far[2] > 0)
        for coordinate, size in zip(pixels, (width, height), strict=True):
            in_view &= (coordinate >= 0) & (coordinate <= size - 1)
        np.maximum(largest, distance, out=largest, where=in_view)
    parallax = np.zeros(depth.shape)
    parallax[y, x] = largest
    return parallax
