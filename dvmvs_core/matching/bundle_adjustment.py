# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Bundle adjustment of a keyframe's past views, corners, focal length and distortion, and what is expected of them.

The reference stays where it is. Its own pose is as uncertain as those of the views, which makes their priors depend on
each other: what it is off by, all of them are off by.

Source: Triggs, McLauchlan, Hartley and Fitzgibbon, "Bundle Adjustment - A Modern Synthesis", 1999.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dvmvs_core.matching.bundle_kernels import adjust
from dvmvs_core.matching.corner_tracks import CornerTracks

EXPECTED_SHIFT_M, EXPECTED_SHARE = 0.01, 0.1
"""Deviation of each component of the translation by which a pose is off, metres, and at most this share of the
translation between the views: odometry errs by what it moved."""

EXPECTED_SCALE, EXPECTED_EXPONENT = 0.8, 0.3
"""Deviations of log prior depth that all corners share: of a scale and of an exponent (a network that sees too little
depth keeps less of its range)."""

EXPECTED_FOCAL, EXPECTED_DISTORTION = 0.1, 0.3
"""Deviations of log focal length and radial distortion: weak, so that they only keep the adjustment near the start."""

TRACK_NOISE, OUTLIER = 0.6, 3.0
"""Deviation of tracks, cells, and the squared residual over its variance that counts half (Cauchy); also of depth."""

CORRELATED = 20.0
"""Tracks that count as one, since the errors of neighbours resemble each other."""

ITERATIONS, CONVERGED = 5, 1e-3
"""Of Gauss-Newton, and the gain of log likelihood after which there is none."""

OF_A_VIEW, SHARED = 6, 4
"""Parameters: rotation vector and translation of each view; scale, exponent, log focal length and distortion of all."""

_LEAST_SHIFT_M = 1e-5  # a prior without any width has no precision


class Adjusted(NamedTuple):
    """What explains the tracks best.

    Attributes:
        solution: (6 V + 4,) as in `bundle_kernels`.
        information: (P, P) inverse covariance of the P free parameters.
        cost: negative logarithm of the likelihood, up to a constant.
    """

    solution: np.ndarray
    information: np.ndarray
    cost: float


def adjusted(
    tracks: CornerTracks, precision: np.ndarray, doubt: np.ndarray, expected_depth: np.ndarray, free: range
) -> Adjusted:
    """Return the parameters that explain the tracks best; the cost is not finite where tracks are no numbers.

    Args:
        tracks: of views that all have some, of corners that all are seen.
        precision: (6 V + 4, 6 V + 4) of the prior, as of `prior_precision`.
        doubt: (N,) 0…1: how much of scale and exponent the corners take part in.
        expected_depth: (N,) deviation of each corner's own change of log depth.
        free: the parameters that may differ from 0.
    """
    solution, cost = np.empty(len(precision)), np.empty(1)
    information = np.empty((len(free), len(free)))
    seen = (tracks.x, tracks.y, tracks.seen, tracks.depth, tracks.focal, tracks.view_T_ref)
    noise = (TRACK_NOISE, OUTLIER, CORRELATED, ITERATIONS, CONVERGED)
    adjust(*seen, precision, doubt, expected_depth, *noise, free.start, free.stop, solution, information, cost)
    return Adjusted(solution, information, cost[0])


def parameters(views: int) -> tuple[range, range]:
    """Return the places of the views' moves, and of scale and exponent; log focal length and distortion come last."""
    moves = OF_A_VIEW * views
    return range(moves), range(moves, moves + SHARED - 2)


def turning(views: int) -> np.ndarray:
    """Return the places (3 V,) of the views' rotations."""
    return np.arange(OF_A_VIEW * views).reshape(views, OF_A_VIEW)[:, :3].ravel()


def prior_precision(view_T_ref: np.ndarray, expected_turn: float) -> np.ndarray:
    """Return the inverse covariance (6 V + 4, 6 V + 4) of what is expected of the parameters.

    With an error e of each camera's pose, and R of view_T_ref, the view is off by e_view + R e_ref.

    Args:
        view_T_ref: (V, 4, 4).
        expected_turn: deviation of each component of the rotation by which a pose is off, radians.
    """
    count = len(view_T_ref)
    R = view_T_ref[:, :3, :3].reshape(-1, 3)
    together = np.linalg.inv(np.eye(3 * count) + R @ R.T)
    share = np.linalg.norm(view_T_ref[:, :3, 3], axis=1) * EXPECTED_SHARE
    shifts = np.repeat(np.minimum(EXPECTED_SHIFT_M, share) + _LEAST_SHIFT_M, 3)
    turns = turning(count)
    precision = np.zeros((OF_A_VIEW * count + SHARED,) * 2)
    precision[np.ix_(turns, turns)] = together / expected_turn**2
    precision[np.ix_(turns + 3, turns + 3)] = together / np.outer(shifts, shifts)
    shared = np.arange(OF_A_VIEW * count, len(precision))
    precision[shared, shared] = 1 / np.square((EXPECTED_SCALE, EXPECTED_EXPONENT, EXPECTED_FOCAL, EXPECTED_DISTORTION))
    return precision
