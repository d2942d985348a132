# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What keyframes tell of the camera that took them, beyond what it says of itself.

Its focal length, which data sheets and calibrations give up to a few per cent too long or too short: where a camera
turns, an error of 3 % looks like a rotation that is off by as much of it, and depth follows. And by how much its poses
are turned wrongly, which differs from one source of poses to the next by a factor of five.

What is known after a keyframe travels with what was matched for it, so that nothing of another scene stays.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from dvmvs_core.matching.keyframe import MatchingView

EXPECTED_FOCAL = 0.03
"""Deviation of the logarithm of the true focal length over the given one, before a keyframe has told of it."""

KEYFRAME_FOCAL = 0.03
"""Deviation of what one keyframe tells of it, besides that of its tracks: what else is wrong with a keyframe, such as
distortion or a false pose, is the same for all of its tracks."""

MAX_FOCAL = 0.3
"""Of that logarithm; a keyframe that tells more tells nothing."""

EXPECTED_TURN, EXPECTED_TURN_KEYFRAMES = math.radians(0.5), 2.0
"""Deviation of each component of the rotation by which a pose is off, radians, and how many keyframes' worth of
knowledge that is."""

WORTH_SAYING, SURELY = 0.03, 0.01
"""Of the same logarithm, and the deviation from which on it is said, after some twenty-five keyframes: the first of a
recording may agree on what later ones do not say."""

LEFT_OVER = 0.5
"""Share of a pose's error that correction leaves: from four to six tenths in a rendered room, whose points are brought
back where a view was turned by 0.8°."""


@dataclass(frozen=True)
class SelfCalibration:
    """What is known of a camera.

    Attributes:
        log_focal: logarithm of its focal length over the given one.
        precision: 1 / variance of that.
        turn_squares: sum of the keyframes' mean squares of the components by which poses are turned, radians².
        turn_keyframes: how many keyframes these are, with those that the first value is worth.
    """

    log_focal: float = 0.0
    precision: float = 1 / EXPECTED_FOCAL**2
    turn_squares: float = EXPECTED_TURN_KEYFRAMES * EXPECTED_TURN**2
    turn_keyframes: float = EXPECTED_TURN_KEYFRAMES

    @property
    def deviation(self) -> float:
        """Deviation of `log_focal`."""
        return self.precision**-0.5

    @property
    def is_clearly_off(self) -> bool:
        """Whether the given focal length is wrong by so much, and so surely, that a person should know."""
        return abs(self.log_focal) > WORTH_SAYING and self.deviation < SURELY

    @property
    def expected_turn(self) -> float:
        """Deviation of each component of the rotation by which a pose is off, radians."""
        return math.sqrt(self.turn_squares / self.turn_keyframes)

    def pose_error_px(self, reference: MatchingView, views: Sequence[MatchingView]) -> float:
        """Return the deviation of where poses and focal length say that a point is, pixels, after correction.

        Args:
            reference: a keyframe.
            views: those that it is matched against, at least one.
        """
        rotations = np.stack([view.world_T_cam[:3, :3] for view in views])
        cosines = (np.einsum("vij,ij->v", rotations, reference.world_T_cam[:3, :3]) - 1) / 2
        between = np.square(np.arccos(np.clip(cosines, -1, 1))).mean()
        turn = math.sqrt((LEFT_OVER * self.expected_turn) ** 2 + between * self.deviation**2)
        return turn * math.sqrt(reference.K[0, 0] * reference.K[1, 1])

    def K(self, given: np.ndarray) -> np.ndarray:
        """Return intrinsics (3, 3) with the focal length as it is known now."""
        longer = math.exp(self.log_focal)
        return (given * ((longer, 1, 1), (1, longer, 1), (1, 1, 1))).astype(given.dtype)

    def applied(self, view: MatchingView) -> MatchingView:
        """Return a view with the focal length as it is known now."""
        return replace(view, K=self.K(view.K))

    def with_focal(self, log_focal: float, deviation: float) -> SelfCalibration:
        """Return it with what a keyframe tells of the focal length: its logarithm over the given one."""
        if not (abs(log_focal) < MAX_FOCAL and deviation > 0):
            return self
        weight = 1 / (deviation**2 + KEYFRAME_FOCAL**2)
        total = self.precision + weight
        return replace(self, log_focal=(self.log_focal * self.precision + log_focal * weight) / total, precision=total)

    def with_turn(self, mean_square: float) -> SelfCalibration:
        """Return it with the mean square (radians²) of the components by which a keyframe's poses are turned."""
        return replace(self, turn_squares=self.turn_squares + mean_square, turn_keyframes=self.turn_keyframes + 1)


def known_from(past: Sequence[MatchingView]) -> SelfCalibration:
    """Return what past keyframes, the newest last, have told of their camera."""
    known = (view.matched.calibration for view in reversed(past) if view.matched is not None)
    return next(known, SelfCalibration())
