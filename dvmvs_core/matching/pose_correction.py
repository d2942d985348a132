# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Moves past views a little, where corners show that the given poses are off: a plane sweep follows epipolar lines.

Corners of a keyframe are tracked to the past views that it is matched against. Bundle adjustment then finds how each
view must turn and move, and how far away each corner is, so that all tracks end where they should: by Gauss-Newton,
with a robust cost. Its priors say that poses and prior depth are about right. One view alone tells little of a rotation
along its epipolar lines, which looks like another depth; several views must agree on the depth of each corner, and past
depths that agree with each other are trusted. What the network says may be wrong by a factor, and too flat, in all
corners together.

The views are moved where that explains the tracks better than other depths alone do. Otherwise they stay as given:
tracks err by a quarter of a pixel themselves, and good poses by less. How good they are is learned from keyframe to
keyframe, and so are focal length and distortion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

from dvmvs_core.geometry import inverse_pose
from dvmvs_core.matching.bundle_adjustment import OF_A_VIEW, Adjusted, adjusted, parameters, prior_precision, turning
from dvmvs_core.matching.corner_tracks import CornerTracks, track_corners
from dvmvs_core.matching.keyframe import MatchingView
from dvmvs_core.matching.measured_intrinsics import with_measured_intrinsics
from dvmvs_core.matching.self_calibration import MAX_DISTORTION, SelfCalibration
from dvmvs_core.radial_distortion import removable
from dvmvs_core.runtime.threads import in_background

EXPECTED_DEPTH, EXPECTED_KNOWN_DEPTH, FULL_AGREEMENT = 0.8, 0.1, 0.5
"""Deviations of log prior depth of each corner, besides what all share: where no past agrees, and where so much of it
does. There the prior is off by 1 to 3 % on rendered worlds and in rooms that were recorded by 2 to 5 %, but by more
than 10 % where a recorded camera mostly turns; where hardly any past agrees, by 8 to 45 %."""

MIN_GAIN = 0.3
"""Log likelihood that moving the views must add to what a change of depth explains. Constants were chosen on rendered
worlds; in how far to trust tracks a recording had a say, too. See benchmarks/ablation.md."""


def corrected_views(
    reference: MatchingView,
    views: Sequence[MatchingView],
    prior: np.ndarray,
    agreement: np.ndarray,
    calibration: SelfCalibration,
) -> tuple[list[MatchingView], SelfCalibration]:
    """Return the views, with other poses where these explain the tracks better, and what is known of the camera now.

    Views whose poses stay are the same objects.

    Args:
        reference: the keyframe.
        views: those that it is to be matched against, as straight as it.
        prior: (h/2, w/2) metres of its prior depth, on the quarter-resolution grid.
        agreement: (h/2, w/2) 0…1, of the past that the prior comes from.
        calibration: what was known of the camera before, whose focal length reference and views have.
    """
    tracks = track_corners(reference, views, prior, agreement)
    tracked = tracks.tracked_views
    result = list(views)
    if not len(tracked):
        return result, calibration
    tracks = tracks.of_views(tracked)
    poses, told = corrections(tracks, calibration)
    if poses is not None:
        for i, view_T_ref in zip(tracked, poses, strict=True):
            world_T_cam = reference.world_T_cam @ inverse_pose(view_T_ref)
            result[i] = replace(views[i], world_T_cam=world_T_cam.astype(views[i].world_T_cam.dtype))
    size = tuple(2 * side for side in reference.descriptors.grey.shape)
    largest = removable(MAX_DISTORTION, reference.K, size)
    return result, with_measured_intrinsics(tracks, told, reference.distortion, largest)


def corrections(tracks: CornerTracks, calibration: SelfCalibration) -> tuple[list[np.ndarray] | None, SelfCalibration]:
    """Return view_T_ref (4, 4) of each view, or None where all poses are to stay; and what is known of poses now.

    Args:
        tracks: of views that all have some, of corners that all are seen.
        calibration: what was known before.
    """
    count = len(tracks.view_T_ref)
    known = np.clip(tracks.agreement / FULL_AGREEMENT, 0, 1)
    expected_depth = EXPECTED_DEPTH ** (1 - known) * EXPECTED_KNOWN_DEPTH**known
    precision = prior_precision(tracks.view_T_ref, calibration.expected_turn)
    prior = (tracks, precision, 1 - known, expected_depth)
    moves, depths = parameters(count)
    alone = in_background(adjusted, *prior, depths)
    together = adjusted(*prior, range(moves.start, depths.stop))
    if not np.isfinite(together.cost):
        return None, calibration
    unexpected = _mean_square(turning(count), precision, together)
    told = calibration.with_turn(unexpected * calibration.expected_turn**2)
    if not alone.result().cost - together.cost > MIN_GAIN:
        return None, told
    by_view = together.solution[moves.start : moves.stop].reshape(count, OF_A_VIEW)
    return [_moved(pose, *np.split(move, 2)) for pose, move in zip(tracks.view_T_ref, by_view, strict=True)], told


def _moved(view_T_ref: np.ndarray, turn: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """A pose after a rotation vector and then a translation of the view."""
    moved = np.eye(4)
    moved[:3, :3] = cv2.Rodrigues(turn)[0]
    moved[:3, 3] = shift
    return moved @ view_T_ref


def _mean_square(places: np.ndarray, precision: np.ndarray, found: Adjusted) -> float:
    """Expected mean square of some parameters (N,), over what their prior expects: one step of the EM algorithm.

    Source: Dempster, Laird and Rubin, "Maximum Likelihood from Incomplete Data via the EM Algorithm", 1977.
    """
    block = np.ix_(places, places)
    values, covariance = found.solution[places], np.linalg.inv(found.information)[block]
    return float(values @ precision[block] @ values + (precision[block] * covariance).sum()) / len(places)
