# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Which frames become keyframes, and which earlier keyframes each is measured against.

Source: Düzçeker et al. 2021, section 3.4, with the rules for lost tracking of the public implementation.
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from dvmvs_core.config import KeyframeConfig
from dvmvs_core.errors import ConfigError
from dvmvs_core.geometry import is_finite_pose, pose_distance, pose_distances

Payload = TypeVar("Payload")

SHORT_BASELINE_WEIGHT = 5.0
"""A baseline shorter than the optimal one is punished this much harder than one that is as much too long."""


class KeyframeDecision(Enum):
    """What the buffer did with a frame. The values are the response codes of the public implementation."""

    FIRST = 0
    """The buffer was empty: stored, but there is nothing to measure it against, so no depth."""
    KEYFRAME = 1
    """Far enough from the newest keyframe: stored; predict its depth."""
    TOO_CLOSE = 2
    """Too close to the newest keyframe: dropped."""
    TRACKING_LOST = 3
    """Too many invalid poses in a row: the buffer was cleared; forget the recurrent state."""
    STILL_LOST = 4
    """Tracking is still lost, and the buffer is empty already."""
    INVALID_POSE = 5
    """The pose is invalid, but not for long enough to give the keyframes up."""


class BufferedKeyframe(NamedTuple):
    """A pose in the buffer, with whatever the owner of the buffer keeps for it."""

    world_T_cam: np.ndarray
    payload: object


class KeyframeBuffer(Generic[Payload]):
    """First-in, first-out buffer of keyframes.

    Args:
        config: the keyframe rule.
    """

    def __init__(self, config: KeyframeConfig) -> None:
        self._config = config
        self._keyframes: deque[BufferedKeyframe] = deque(maxlen=config.buffer_size)
        self._lost_frames = 0

    def __len__(self) -> int:
        """Return the number of keyframes stored."""
        return len(self._keyframes)

    def add(self, world_T_cam: np.ndarray, payload: Payload) -> KeyframeDecision:
        """Decide on one frame, in the order of time, and store it if it is a keyframe.

        Args:
            world_T_cam: (4, 4) pose; NaN or infinity where tracking is lost.
            payload: what `measurement_frames` shall give back for this keyframe.
        """
        if not is_finite_pose(world_T_cam):
            return self._lose()
        self._lost_frames = 0
        if not self._keyframes:
            self._keyframes.append(BufferedKeyframe(world_T_cam, payload))
            return KeyframeDecision.FIRST
        if pose_distance(world_T_cam, self._keyframes[-1].world_T_cam).combined < self._config.pose_distance:
            return KeyframeDecision.TOO_CLOSE
        self._keyframes.append(BufferedKeyframe(world_T_cam, payload))
        return KeyframeDecision.KEYFRAME

    def measurement_frames(self) -> list[Payload]:
        """Return the payloads of the best measurement frames for the newest keyframe, best first."""
        *candidates, reference = self._keyframes
        return self._best(reference.world_T_cam, candidates)

    def measurement_frames_of(self, world_T_cam: np.ndarray) -> list[Payload]:
        """Return the payloads of the best measurement frames for a frame that is not in the buffer, best first.

        Args:
            world_T_cam: (4, 4) its pose, finite.
        """
        return self._best(world_T_cam, list(self._keyframes))

    def set_rule(self, config: KeyframeConfig) -> None:
        """Follow another rule from the next frame on; the keyframes stay.

        Raises:
            ConfigError: if its buffer is of another size.
        """
        if config.buffer_size != self._config.buffer_size:
            raise ConfigError(
                f"buffer_size must stay {self._config.buffer_size} while there are keyframes; got {config.buffer_size}"
            )
        self._config = config

    def clear(self) -> None:
        """Forget every keyframe and the count of lost frames."""
        self._keyframes.clear()
        self._lost_frames = 0

    def _best(self, world_T_ref: np.ndarray, candidates: list[BufferedKeyframe]) -> list[Payload]:
        chosen = select_measurement_frames(world_T_ref, [k.world_T_cam for k in candidates], self._config)
        return [candidates[i].payload for i in chosen]

    def _lose(self) -> KeyframeDecision:
        self._lost_frames += 1
        if self._lost_frames <= self._config.max_lost_frames:
            return KeyframeDecision.INVALID_POSE
        if not self._keyframes:
            return KeyframeDecision.STILL_LOST
        self._keyframes.clear()
        return KeyframeDecision.TRACKING_LOST


def select_measurement_frames(
    world_T_ref: np.ndarray, candidates: list[np.ndarray], config: KeyframeConfig
) -> list[int]:
    """Return the indices of the candidate poses that suit a reference pose best, best first.

    The penalty is rotation² + weight · (translation − optimal_baseline_m)², with weight 5 below the optimal baseline
    and 1 above. Equal penalties keep their order in the buffer.

    Args:
        world_T_ref: (4, 4) pose of the reference frame.
        candidates: poses (4, 4) of the keyframes to choose from, oldest first.
        config: the keyframe rule; at most `config.measurement_frames` are chosen.
    """
    rotation, translation = pose_distances(world_T_ref, np.reshape(candidates, (-1, 4, 4)))
    baseline_error = translation - config.optimal_baseline_m
    rotation_error = rotation - config.optimal_rotation
    weight = np.where(baseline_error < 0, SHORT_BASELINE_WEIGHT, 1.0)
    penalty = rotation_error**2 + weight * baseline_error**2
    return [int(i) for i in np.argsort(penalty, kind="stable")[: config.measurement_frames]]
