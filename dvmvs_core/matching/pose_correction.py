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
tracks err by a quarter of a pixel themselves, and good poses by less.

The reference stays where it is. Its own pose is as uncertain as those of the views, which makes their priors depend on
each other: what it is off by, all of them are off by.

Source: Triggs, McLauchlan, Hartley and Fitzgibbon, "Bundle Adjustment - A Modern Synthesis", 1999.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

from dvmvs_core.geometry import inverse_pose
from dvmvs_core.matching.bundle_kernels import adjust
from dvmvs_core.matching.corner_tracks import CornerTracks, track_corners
from dvmvs_core.matching.keyframe import MatchingView

EXPECTED_TURN = np.deg2rad(0.5)
"""Deviation of each component of the rotation by which a pose is off, radians."""

EXPECTED_SHIFT_M, EXPECTED_SHARE = 0.01, 0.1
"""Deviation of each component of the translation by which a pose is off, metres, and at most this share of the
translation between the views: odometry errs by what it moved."""

EXPECTED_SCALE, EXPECTED_EXPONENT = 0.8, 0.3
"""Deviations of log prior depth that all corners share: of a scale and of an exponent (a network that sees too little
depth keeps less of its range)."""

EXPECTED_DEPTH, EXPECTED_KNOWN_DEPTH, FULL_AGREEMENT = 0.8, 0.1, 0.5
"""Deviations of log prior depth of each corner besides: where no past agrees, and where so much of it does. There the
prior is off by 1 to 3 % on rendered worlds and in rooms that were recorded by 2 to 5 %, but by more than 10 % where a
recorded camera mostly turns; where hardly any past agrees, by 8 to 45 %."""

TRACK_NOISE, OUTLIER = 0.6, 3.0
"""Deviation of tracks, cells, and the squared residual over its variance that counts half (Cauchy); also of depth."""

CORRELATED = 20.0
"""Tracks that count as one, since the errors of neighbours resemble each other."""

MIN_GAIN = 0.3
"""Log likelihood that moving the views must add to what a change of depth explains. Constants were chosen on rendered
worlds; in how far to trust tracks a recording had a say, too. See benchmarks/ablation.md."""

ITERATIONS, CONVERGED = 5, 1e-3
"""Of Gauss-Newton, and the gain of log likelihood after which there is none."""

_PARAMETERS = 6  # of a view: rotation vector and translation
_LEAST_SHIFT_M = 1e-5  # a prior without any width has no precision


def corrected_views(
    reference: MatchingView, views: Sequence[MatchingView], prior: np.ndarray, agreement: np.ndarray
) -> list[MatchingView]:
    """Return the views, with other poses where these explain the tracks better; the same objects where they do not.

    Args:
        reference: the keyframe.
        views: those that it is to be matched against.
        prior: (h/2, w/2) metres of its prior depth, on the quarter-resolution grid.
        agreement: (h/2, w/2) 0…1, of the past that the prior comes from.
    """
    tracks = track_corners(reference, views, prior, agreement)
    tracked = tracks.tracked_views
    result = list(views)
    if not len(tracked):
        return result
    poses = corrections(tracks.of_views(tracked))
    if poses is None:
        return result
    for i, view_T_ref in zip(tracked, poses, strict=True):
        world_T_cam = reference.world_T_cam @ inverse_pose(view_T_ref)
        result[i] = replace(views[i], world_T_cam=world_T_cam.astype(views[i].world_T_cam.dtype))
    return result


def corrections(tracks: CornerTracks) -> list[np.ndarray] | None:
    """Return view_T_ref (4, 4) of each view; None where all poses are to stay.

    Args:
        tracks: of views that all have some, of corners that all are seen.
    """
    count = len(tracks.view_T_ref)
    solution, gain = np.empty(_PARAMETERS * count + 2), np.empty(1)
    seen = (tracks.x, tracks.y, tracks.seen, tracks.depth, tracks.focal, tracks.view_T_ref)
    known = np.clip(tracks.agreement / FULL_AGREEMENT, 0, 1)
    expected_depth = EXPECTED_DEPTH ** (1 - known) * EXPECTED_KNOWN_DEPTH**known
    prior = (_precision(tracks.view_T_ref), 1 - known, expected_depth)
    adjust(*seen, *prior, TRACK_NOISE, OUTLIER, CORRELATED, ITERATIONS, CONVERGED, solution, gain)
    if not gain[0] > MIN_GAIN:
        return None
    moves = solution[:-2].reshape(count, _PARAMETERS)
    return [_moved(pose, *np.split(move, 2)) for pose, move in zip(tracks.view_T_ref, moves, strict=True)]


def _moved(view_T_ref: np.ndarray, turn: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """A pose after a rotation vector and then a translation of the view."""
    moved = np.eye(4)
    moved[:3, :3] = cv2.Rodrigues(turn)[0]
    moved[:3, 3] = shift
    return moved @ view_T_ref


def _precision(view_T_ref: np.ndarray) -> np.ndarray:
    """Inverse covariance (6 V + 2, 6 V + 2) of the views' moves, and of scale and exponent.

    With an error e of each camera's pose, and R of view_T_ref, the view is off by e_view + R e_ref.
    """
    count = len(view_T_ref)
    R = view_T_ref[:, :3, :3].reshape(-1, 3)
    together = np.linalg.inv(np.eye(3 * count) + R @ R.T)
    share = np.linalg.norm(view_T_ref[:, :3, 3], axis=1) * EXPECTED_SHARE
    shifts = np.repeat(np.minimum(EXPECTED_SHIFT_M, share) + _LEAST_SHIFT_M, 3)
    turning = np.arange(_PARAMETERS * count).reshape(count, _PARAMETERS)[:, :3].ravel()
    precision = np.zeros((_PARAMETERS * count + 2,) * 2)
    precision[np.ix_(turning, turning)] = together / EXPECTED_TURN**2
    precision[np.ix_(turning + 3, turning + 3)] = together / np.outer(shifts, shifts)
    precision[-2, -2], precision[-1, -1] = 1 / EXPECTED_SCALE**2, 1 / EXPECTED_EXPONENT**2
    return precision
