# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What keyframes tell of the camera that took them, beyond what it says of itself.

Its focal length, which data sheets and calibrations give up to a few per cent too long or too short: where a camera
turns, an error of 3 % looks like a rotation that is off by as much of it, and depth follows. The radial distortion that
its images still have, which looks like another focal length here and there. And by how much its poses are turned
wrongly, which differs from one source of poses to the next by a factor of five.

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

EXPECTED_FOCAL, EXPECTED_DISTORTION = 0.03, 0.1
"""Deviations, before a keyframe has told of them, of the logarithm of the true focal length over the given one, and of
radial distortion."""

KEYFRAME_FOCAL, KEYFRAME_DISTORTION = 0.03, 0.02
"""Deviations of what one keyframe tells of them, besides that of its tracks: what else is wrong with a keyframe, such
as a false pose, is the same for all of its tracks."""

MAX_FOCAL, MAX_DISTORTION = 0.3, 0.5
"""Of that logarithm and of distortion; a keyframe that leads to more tells nothing."""

REMOVED, KEPT = 2.0, 1.0
"""Deviations that distortion must differ from 0 by before it is taken out of images: most cameras come rectified. From
then on it is, as long as it differs by the second."""

DISTORTION_STEP = 0.015
"""Change of radial distortion for which images of past keyframes are straightened anew."""

EXPECTED_TURN, EXPECTED_TURN_KEYFRAMES = math.radians(0.5), 2.0
"""Deviation of each component of the rotation by which a pose is off, radians, and how many keyframes' worth of
knowledge that is."""

WORTH_SAYING, SURELY = 0.03, 0.01
"""Of the same logarithm, and the deviation from which on it is said, after some twenty-five keyframes: the first of a
recording may agree on what later ones do not say."""

BENT_WORTH_SAYING, SURELY_BENT = 0.04, 0.015
"""The same of radial distortion."""

LEFT_OVER = 0.5
"""Share of a pose's error that correction leaves: from four to six tenths in a rendered room, whose points are brought
back where a view was turned by 0.8°."""


@dataclass(frozen=True)
class SelfCalibration:
    """What is known of a camera.

    Attributes:
        log_focal: logarithm of its focal length over the given one, for images with just the distortion that is taken
            out of them.
        distortion: radial distortion of its images as they come, see `radial_distortion`.
        information: of both, as the upper triangle of their inverse covariance.
        removed_distortion: what is taken out of its images: the distortion where it is sure, in steps, else 0.
        turn_squares: sum of the keyframes' mean squares of the components by which poses are turned, radians².
        turn_keyframes: how many keyframes these are, with those that the first value is worth.
    """

    log_focal: float = 0.0
    distortion: float = 0.0
    information: tuple[float, float, float] = (1 / EXPECTED_FOCAL**2, 0.0, 1 / EXPECTED_DISTORTION**2)
    removed_distortion: float = 0.0
    turn_squares: float = EXPECTED_TURN_KEYFRAMES * EXPECTED_TURN**2
    turn_keyframes: float = EXPECTED_TURN_KEYFRAMES

    @property
    def deviation(self) -> float:
        """Deviation of `log_focal`."""
        return self.information[0] ** -0.5

    @property
    def distortion_deviation(self) -> float:
        """Deviation of `distortion`."""
        focal, both, distortion = self.information
        return (distortion - both**2 / focal) ** -0.5

    @property
    def is_clearly_off(self) -> bool:
        """Whether the given focal length is wrong by so much, and so surely, that a person should know."""
        # Where distortion explains the tracks as well, it is not the focal length.
        least = min(abs(self.log_focal), abs(self._likeliest_focal))
        return least > WORTH_SAYING and self.deviation < SURELY

    @property
    def is_clearly_bent(self) -> bool:
        """Whether images have so much distortion, and so surely, that a person should know."""
        return abs(self.distortion) > BENT_WORTH_SAYING and self.distortion_deviation < SURELY_BENT

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

    def with_intrinsics(
        self,
        information: np.ndarray,
        weighted: np.ndarray,
        removed_distortion: float,
        largest: float = MAX_DISTORTION,
    ) -> SelfCalibration:
        """Return it with what a keyframe tells of logarithm of focal length and distortion.

        Args:
            information: (2, 2) inverse covariance of what it tells, 0 of what it does not tell.
            weighted: (2,) that times what is to be added to `log_focal` and to the distortion that was taken out.
            removed_distortion: what was taken out of its images.
            largest: distortion that can be taken out of such images.
        """
        is_finite = np.isfinite(information).all() and np.isfinite(weighted).all()
        if not (is_finite and np.linalg.eigvalsh(information)[0] > -1):
            return self
        # Its covariance grows by that of a keyframe; written so that nothing has to be inverted that tells nothing.
        shrunk = np.eye(2) + information @ np.diag((KEYFRAME_FOCAL**2, KEYFRAME_DISTORTION**2))
        told, weighted = np.linalg.solve(shrunk, information), np.linalg.solve(shrunk, weighted)
        focal, both, distortion = self.information
        before = np.array(((focal, both), (both, distortion)))
        total = before + told
        known = before @ (self._likeliest_focal, self.distortion)
        known = known + told @ (self.log_focal, removed_distortion) + weighted
        return self._with(total, *np.linalg.solve(total, known), largest)

    def _with(self, information: np.ndarray, log_focal: float, distortion: float, largest: float) -> SelfCalibration:
        """Return it with other likeliest values of both; itself where these cannot be right."""
        if not (abs(log_focal) < MAX_FOCAL and abs(distortion) < MAX_DISTORTION):
            return self
        focal, both, own = (float(information[place]) for place in ((0, 0), (0, 1), (1, 1)))
        known = replace(self, distortion=float(distortion), information=(focal, both, own))
        sure = abs(distortion) > (KEPT if self.removed_distortion else REMOVED) * known.distortion_deviation
        removed = self.removed_distortion if sure else 0.0
        if sure and abs(distortion - removed) > DISTORTION_STEP:
            removed = float(np.clip(round(float(distortion), 2), -largest, largest))
        log_focal = float(log_focal + both / focal * (distortion - removed))
        return replace(known, log_focal=log_focal, removed_distortion=removed)

    @property
    def _likeliest_focal(self) -> float:
        """Logarithm of the focal length that goes with the likeliest distortion."""
        focal, both, _ = self.information
        return self.log_focal - both / focal * (self.distortion - self.removed_distortion)

    def with_turn(self, mean_square: float) -> SelfCalibration:
        """Return it with the mean square (radians²) of the components by which a keyframe's poses are turned."""
        return replace(self, turn_squares=self.turn_squares + mean_square, turn_keyframes=self.turn_keyframes + 1)


def known_from(past: Sequence[MatchingView]) -> SelfCalibration:
    """Return what past keyframes, the newest last, have told of their camera."""
    known = (view.matched.calibration for view in reversed(past) if view.matched is not None)
    return next(known, SelfCalibration())
