# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Which views to match a view against: those that see the same points at a good angle.

Below the best angle the rays hardly intersect; above it the same surface looks different from both sides.

Source: Yao et al., "MVSNet", ECCV 2018, section 4.1: the score of a pair of views. There the points are those of a
sparse reconstruction; here they are of the prior depth, and count as well how much of the image is in view.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dvmvs_core.geometry import backproject, inverse_pose

BEST_ANGLE_DEG = 5.0
"""Between the two rays that meet in a point."""

SMALLER_DEG, LARGER_DEG = 4.0, 10.0
"""Standard deviations of the score, below and above the best angle."""

MIN_SCORE = 0.02
"""Of a view that is worth matching."""

STEP = 4
"""Cells of the prior depth between the points asked for, in both directions."""


def best_views(
    depth: np.ndarray,
    K: np.ndarray,
    world_T_cam: np.ndarray,
    others_K: Sequence[np.ndarray],
    others_world_T_cam: Sequence[np.ndarray],
    count: int,
) -> list[int]:
    """Return the indices of at most `count` of the other views, the best first; of those not worth matching none.

    Args:
        depth: (h, w) metres of the view's cells; 0 = none.
        K: (3, 3) its intrinsics, in cells.
        world_T_cam: (4, 4) its pose.
        others_K: (3, 3) intrinsics of the others, in cells.
        others_world_T_cam: (4, 4) their poses.
        count: how many.
    """
    points = backproject(depth, K)[STEP // 2 :: STEP, STEP // 2 :: STEP].reshape(-1, 3)
    points = points[points[:, 2] > 0] @ world_T_cam[:3, :3].T + world_T_cam[:3, 3]
    if not len(others_K) or not len(points):
        return []
    size = depth.shape
    scores = np.array(
        [
            _score(points, world_T_cam, K_other, world_T_other, size)
            for K_other, world_T_other in zip(others_K, others_world_T_cam, strict=True)
        ]
    )
    order = np.argsort(-scores, kind="stable")[:count]
    return [int(index) for index in order if scores[index] > MIN_SCORE]


def _score(
    points: np.ndarray, world_T_cam: np.ndarray, K: np.ndarray, world_T_other: np.ndarray, size: tuple[int, int]
) -> float:
    """Mean over the points (N, 3), 0..1: in view of the other, at a good angle, and at a like distance."""
    from_view = points - world_T_cam[:3, 3]
    other_T_world = inverse_pose(world_T_other)
    in_other = points @ other_T_world[:3, :3].T + other_T_world[:3, 3]
    from_other = points - world_T_other[:3, 3]
    a, b = np.sqrt((from_view * from_view).sum(axis=1)), np.sqrt((from_other * from_other).sum(axis=1))
    cosine = (from_view * from_other).sum(axis=1) / np.maximum(a * b, 1e-9)
    off = np.degrees(np.arccos(np.clip(cosine, -1, 1))) - BEST_ANGLE_DEG
    good = np.exp(-0.5 * (off / np.where(off < 0, SMALLER_DEG, LARGER_DEG)) ** 2)
    z = np.maximum(in_other[:, 2], 1e-9)
    u, v = K[0, 0] * in_other[:, 0] / z + K[0, 2], K[1, 1] * in_other[:, 1] / z + K[1, 2]
    height, width = size
    visible = (in_other[:, 2] > 0) & (u >= 0) & (u <= width - 1) & (v >= 0) & (v <= height - 1)
    return float((good * visible * np.minimum(a, b) / np.maximum(np.maximum(a, b), 1e-9)).mean())
