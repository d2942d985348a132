# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Which frames of a recording make a training sample: subsequences whose steps are as long as keyframes' are.

The rules, their bounds and their order are those of the public training code, so that a folder gives the same samples.

Source: Düzçeker et al., "DeepVideoMVS", CVPR 2021, and its public training code.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from dvmvs_core.geometry import inverse_pose

MIN_POSE_DISTANCE, MAX_POSE_DISTANCE = 0.125, 0.325
"""Combined pose distance of two frames that are compared."""
_BORDER = 5
_PAIR_MIN_TRANSLATION_M = 0.05
_PAIR_PASSES = ((1.0, True), (0.666, False), (1.5, True))
_PAIR_LOOSENING = 1.1
_LONGER_PASSES = (
    (1.0, True),
    (0.666, False),
    (1.5, True),
    (0.8, False),
    (1.25, True),
    (1.0, False),
    (0.666, True),
    (1.5, False),
    (0.8, True),
    (1.25, False),
)
"""Factor of the bounds, and whether the pass goes forward in time."""
_LONGER_STRIDE = 3
_LONGER_MIN_TRANSLATION = 0.0625
_MAX_USES = 1
_ROWS_KEPT = 1024


def subsequences(poses: np.ndarray, length: int) -> list[tuple[int, ...]]:
    """Return the training samples of one recording, as indices of its frames.

    Args:
        poses: (N, 4, 4) world_T_cam, finite.
        length: frames of a sample, 2 or more; pairs have rules of their own.
    """
    return _pairs(poses) if length == 2 else _longer(poses, length)


@dataclass(frozen=True)
class _Bounds:
    """Which steps are accepted: combined pose distance from low to high, translation of min_translation_m or more."""

    low: float
    high: float
    min_translation_m: float

    def loosened(self) -> _Bounds:
        return _Bounds(self.low / _PAIR_LOOSENING, self.high * _PAIR_LOOSENING, self.min_translation_m)


class _Steps:
    """Distances between frames, remembered for the frames asked last."""

    def __init__(self, poses: np.ndarray) -> None:
        self._poses = poses
        self._distances = functools.lru_cache(maxsize=_ROWS_KEPT)(self._measure)

    def accepted(self, frame: int, bounds: _Bounds) -> np.ndarray:
        """Return for every frame (N,) whether the step from `frame` to it is within the bounds."""
        combined, translation = self._distances(frame)
        return (combined >= bounds.low) & (combined <= bounds.high) & (translation >= bounds.min_translation_m)

    def _measure(self, frame: int) -> tuple[np.ndarray, np.ndarray]:
        """The distance of geometry.pose_distance to every frame, combined and translation alone."""
        ref_T_meas = inverse_pose(self._poses[frame]) @ self._poses
        trace = np.trace(ref_T_meas[:, :3, :3], axis1=1, axis2=2)
        translation = np.linalg.norm(ref_T_meas[:, :3, 3], axis=1)
        return np.sqrt(translation**2 + 2.0 * (1.0 - np.minimum(3.0, trace) / 3.0)), translation


def _pairs(poses: np.ndarray) -> list[tuple[int, int]]:
    samples: list[tuple[int, int]] = []
    used: set[tuple[int, int]] = set()
    steps, count = _Steps(poses), len(poses)
    for factor, forward in _PAIR_PASSES:
        start = _Bounds(factor * MIN_POSE_DISTANCE, factor * MAX_POSE_DISTANCE, _PAIR_MIN_TRANSLATION_M)
        bounds = start
        measured: set[int] = set()
        for reference in range(count) if forward else range(count - 1, -1, -1):
            for _ in range(2):
                near = np.flatnonzero(steps.accepted(reference, bounds))
                earlier = near[(near > _BORDER) & (near < reference)][::-1].tolist()
                later = near[(near > reference) & (near < count - _BORDER)].tolist()
                found = next(
                    (
                        frame
                        for frame in (earlier + later if forward else later + earlier)
                        if (reference, frame) not in used and frame not in measured
                    ),
                    None,
                )
                if found is not None:
                    break
                bounds = bounds.loosened()
            # Bounds that were loosened in vain stay so until a pair is found.
            if found is not None:
                samples.append((reference, found))
                used.update(((reference, found), (found, reference)))
                measured.add(found)
                bounds = start
    return samples


def _longer(poses: np.ndarray, length: int) -> list[tuple[int, ...]]:
    samples: list[tuple[int, ...]] = []
    used_steps: set[tuple[int, int]] = set()
    uses = np.zeros(len(poses), int)
    steps, count = _Steps(poses), len(poses)
    for number, (factor, forward) in enumerate(_LONGER_PASSES):
        bounds = _Bounds(factor * MIN_POSE_DISTANCE, factor * MAX_POSE_DISTANCE, factor * _LONGER_MIN_TRANSLATION)
        offset = number % _LONGER_STRIDE
        starts = (
            range(offset, count - length + 1, _LONGER_STRIDE)
            if forward
            else range(count - 1 - offset, length, -_LONGER_STRIDE)
        )
        for start in starts:
            if uses[start] > _MAX_USES:
                continue
            sample = [start]
            while len(sample) < length:
                last = sample[-1]
                near = np.flatnonzero(steps.accepted(last, bounds) & (uses <= _MAX_USES))
                ahead = near[near > last] if forward else near[near < last][::-1]
                following = next((frame for frame in ahead.tolist() if (last, frame) not in used_steps), None)
                if following is None:
                    break
                sample.append(following)
            if len(sample) == length:
                samples.append(tuple(sample))
                uses[sample] += 1
                for a, b in zip(sample, sample[1:], strict=False):
                    used_steps.update(((a, b), (b, a)))
    return samples
