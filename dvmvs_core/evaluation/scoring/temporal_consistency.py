# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Temporal consistency: how much the depth of one surface changes from keyframe to keyframe.

The previous keyframe's prediction is moved into the current view, point by point, and compared with the current
prediction there:

    disagreement = mean |d' − d| / d        d' the moved depth, d the current one

Only pixels count where the scene lets them agree: the sensor's own depth, moved in the same way, must be within 5 % of
the sensor's depth now. That leaves out what was hidden, what moved, and what the sensor does not see. A depth that is
wrong but always in the same way has no disagreement, so the figure comes with the errors and not in their place.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dvmvs_core.geometry import backproject, inverse_pose, project

SAME_SURFACE = 0.05
"""Relative difference of the two sensor depths up to which both are taken to see the same surface."""

MIN_SHARE = 0.01
"""Share of the picture that must be comparable; below it the views hardly overlap, and there is no figure."""


@dataclass(frozen=True, eq=False)
class ComparedDepth:
    """Predicted and measured depth of one keyframe.

    Attributes:
        depth: (h, w) predicted metres.
        truth: (h, w) sensor metres, 0 = invalid.
        world_T_cam: (4, 4) pose.
    """

    depth: np.ndarray
    truth: np.ndarray
    world_T_cam: np.ndarray


def temporal_disagreement(previous: ComparedDepth, current: ComparedDepth, K: np.ndarray) -> float:
    """Return the mean relative disagreement of two predictions; NaN where too few pixels can be compared.

    Args:
        previous: the keyframe before.
        current: the keyframe.
        K: (3, 3) intrinsics of both.
    """
    current_T_previous = inverse_pose(current.world_T_cam) @ previous.world_T_cam
    moved_truth = move_depth(previous.truth, current_T_previous, K)
    moved_depth = move_depth(previous.depth, current_T_previous, K)
    same_surface = np.abs(moved_truth - current.truth) <= SAME_SURFACE * current.truth
    comparable = same_surface & (moved_truth > 0) & (current.truth > 0) & (moved_depth > 0)
    if np.count_nonzero(comparable) < MIN_SHARE * comparable.size:
        return float("nan")
    now = current.depth[comparable].astype(np.float64)
    return float((np.abs(moved_depth[comparable] - now) / now).mean())


def move_depth(depth: np.ndarray, b_T_a: np.ndarray, K: np.ndarray) -> np.ndarray:
    """Return depth (h, w) of camera a as camera b sees it: the nearest point of each pixel, 0 where none falls.

    Args:
        depth: (h, w) metres in camera a; 0 = invalid.
        b_T_a: (4, 4) pose of camera a in camera b.
        K: (3, 3) intrinsics of both.
    """
    height, width = depth.shape
    points = backproject(depth, K)[depth > 0] @ b_T_a[:3, :3].T + b_T_a[:3, 3]
    points = points[points[:, 2] > 0]
    x, y = np.rint(project(points, K)).T
    lands = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    cell = y[lands].astype(np.int64) * width + x[lands].astype(np.int64)
    moved = np.full(height * width, np.inf)
    np.minimum.at(moved, cell, points[lands, 2])
    return np.where(np.isfinite(moved), moved, 0.0).reshape(height, width)
