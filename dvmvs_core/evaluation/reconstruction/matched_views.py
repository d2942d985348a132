# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Which views to match a view against: those that see the same points at a good angle.

Below the best angle the rays hardly intersect; above it the same surface looks different from both sides.

Source: Yao et al., "MVSNet", ECCV 2018, section 4.1: the score of a pair of views. There the points are those of a
sparse reconstruction; here they are of the predicted depth, and count as well how much of the image is in view.
"""

from __future__ import annotations

import numpy as np

from dvmvs_core.evaluation.reconstruction.depth_views import DepthView
from dvmvs_core.geometry import backproject, points_in_view

BEST_ANGLE_DEG = 5.0
"""Between the two rays that meet in a point."""

SMALLER_DEG, LARGER_DEG = 4.0, 10.0
"""Standard deviations of the score, below and above the best angle."""

LEAST_SCORE = 0.02
"""Of a view that is worth matching."""

STEP = 16
"""Pixels between the points asked for, in both directions."""


def best_views(view: DepthView, others: list[DepthView], count: int) -> list[int]:
    """Return the indices of at most `count` of the other views, the best first; of those not worth matching none."""
    points = _points(view)
    scores = np.array([_score(points, view, other) for other in others])
    order = np.argsort(-scores, kind="stable")[:count]
    return [int(index) for index in order if scores[index] > LEAST_SCORE]


def _score(points: np.ndarray, view: DepthView, other: DepthView) -> float:
    """Mean over the points (N, 3) of a view, 0..1: in view of the other, at a good angle, and at a like distance."""
    from_view, from_other = points - view.world_T_cam[:3, 3], points - other.world_T_cam[:3, 3]
    near, far = np.sort((np.linalg.norm(from_view, axis=1), np.linalg.norm(from_other, axis=1)), axis=0)
    cosine = (from_view * from_other).sum(axis=1) / np.maximum(near * far, 1e-9)
    off = np.degrees(np.arccos(np.clip(cosine, -1, 1))) - BEST_ANGLE_DEG
    good = np.exp(-0.5 * (off / np.where(off < 0, SMALLER_DEG, LARGER_DEG)) ** 2)
    in_view, _ = points_in_view(points, other.K, other.world_T_cam, other.depth.shape)
    return float((good * near / np.maximum(far, 1e-9))[in_view].sum() / max(1, len(points)))


def _points(view: DepthView) -> np.ndarray:
    """Points (N, 3) of the world, at every `STEP`-th pixel that has depth."""
    some = backproject(view.depth, view.K)[STEP // 2 :: STEP, STEP // 2 :: STEP].reshape(-1, 3)
    return some[some[:, 2] > 0] @ view.world_T_cam[:3, :3].T + view.world_T_cam[:3, 3]
