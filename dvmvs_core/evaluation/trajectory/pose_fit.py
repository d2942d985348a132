# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.


"""At which shift of time, and at which focal length, poses agree best with the images.

Both are searched for together, since a wrong one of them pulls at the other. The spread of each is that of the best
values of random choices of the recording's stretches: where the images cannot tell, it is wide.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dvmvs_core.evaluation.trajectory.pose_track import PoseTrack
from dvmvs_core.evaluation.trajectory.view_pairs import ViewPairs, refined_minimum, resampled, robust_cost

LARGEST_OFFSET_S, COARSE_S, FINE_S = 0.3, 0.02, 0.004
LARGEST_FACTOR, COARSE_FACTOR, FINE_FACTOR = 2.0, 1.05, 1.01
"""How far the focal length is searched on either side, and the steps."""

COARSE_POINTS = 4
"""The coarse search takes every fourth point."""

KNOWN_AT_OFFSET = 0.6
"""Share of the pairs that must have poses at an offset, too, for it to be compared."""


@dataclass(frozen=True)
class PoseFit:
    """The shift of time and the focal length at which poses agree best with the images.

    Attributes:
        offset_s: add this to an image's stamp to find its pose, seconds: positive if poses are stamped too late.
        offset_spread_s: standard error of it; None where poses are too far apart to look between them.
        focal_factor: what the focal length must be multiplied by.
        focal_spread: standard error of its logarithm.
        residual_px: median distance of points from where the poses allow them, then; pixels, as of `ViewPairs`.
        without_offset_px: the same at the stamps as recorded.
        without_focal_px: the same at the focal length as recorded.
        recorded_px: the same with both as recorded.
    """

    offset_s: float
    offset_spread_s: float | None
    focal_factor: float
    focal_spread: float
    residual_px: float
    without_offset_px: float
    without_focal_px: float
    recorded_px: float


def fit_poses(pairs: ViewPairs, poses: PoseTrack) -> PoseFit:
    """Search for shift of time and focal length.

    Args:
        pairs: pairs of images, at least one of which has poses.
        poses: camera-to-world, x right, y down, z forward.
    """
    offsets = _offsets(pairs, poses)
    timed = len(offsets) > 1
    logs = np.log(COARSE_FACTOR) * _steps(np.log(LARGEST_FACTOR) / np.log(COARSE_FACTOR))
    coarse = pairs.thinned(COARSE_POINTS)
    ((offset, log),) = _search(coarse, poses, offsets, logs, np.ones((1, len(pairs))))
    if timed:
        offsets = offset + FINE_S * _steps(1.5 * COARSE_S / FINE_S)
    logs = log + np.log(FINE_FACTOR) * _steps(8)
    weights = np.concatenate((np.ones((1, len(pairs))), resampled(pairs.stretch)))
    found = _search(pairs, poses, offsets, logs, weights)
    (offset, log), spread = found[0], found[1:].std(axis=0)
    factor = float(np.exp(log))
    return PoseFit(
        float(offset),
        float(spread[0]) if timed else None,
        factor,
        float(spread[1]),
        *(
            float(np.nanmedian(pairs.distances_px(pairs.relative_poses(poses, at), focal)))
            for at, focal in ((offset, factor), (0.0, factor), (offset, 1.0), (0.0, 1.0))
        ),
    )


def _steps(count: float) -> np.ndarray:
    return np.arange(-int(count), int(count) + 1)


def _offsets(pairs: ViewPairs, poses: PoseTrack) -> np.ndarray:
    """The offsets to compare; 0 alone where most pairs have no poses at others."""
    offsets = COARSE_S * _steps(LARGEST_OFFSET_S / COARSE_S)
    known = np.array([np.isfinite(pairs.relative_poses(poses, offset)[:, 0, 0]).sum() for offset in offsets])
    usable = offsets[known >= KNOWN_AT_OFFSET * known[len(offsets) // 2]]
    return usable if len(usable) > len(offsets) // 2 else np.zeros(1)


def _search(
    pairs: ViewPairs, poses: PoseTrack, offsets: np.ndarray, logs: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """The best offset and logarithm of the focal factor (W, 2) for each row of weights (W, P) of the pairs."""
    total = np.empty((len(weights), len(offsets), len(logs)))
    for i, offset in enumerate(offsets):
        b_T_a = pairs.relative_poses(poses, offset)
        known = np.isfinite(b_T_a[:, 0, 0])
        part, b_T_a, weight = pairs.subset(known), b_T_a[known], weights[:, known]
        costs = np.array([robust_cost(part, b_T_a, np.exp(log)) for log in logs])
        total[:, i] = weight @ costs.T / np.maximum(weight.sum(axis=1, keepdims=True), 1e-9)
    best = []
    for costs in total:
        i, j = np.unravel_index(np.argmin(costs), costs.shape)
        best.append((refined_minimum(offsets, costs[:, j]), refined_minimum(logs, costs[i])))
    return np.array(best)
