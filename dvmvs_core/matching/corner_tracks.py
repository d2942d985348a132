# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Corners of a keyframe, tracked to each past view from where the prior depth expects them.

Source: Shi and Tomasi, "Good Features to Track", CVPR 1994 (corners); Bouguet, "Pyramidal Implementation of the Lucas
Kanade Feature Tracker".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from dvmvs_core.geometry import inverse_pose
from dvmvs_core.matching.keyframe import MatchingView
from dvmvs_core.matching.relative_view import HALF
from dvmvs_core.matching.track_kernels import keep_found, keep_returned, keep_visible
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
"""Depth below which a corner is not looked for."""

MIN_TRACKS = 15
"""Tracks that a view needs; it counts as one without any where it has fewer."""

_CELL_FROM_PIXEL = np.linalg.inv(HALF.pixel_from_cell)


@dataclass(frozen=True)
class CornerTracks:
    """N corners of a keyframe, and where V views show them.

    Attributes:
        x: (N, 3) rays at depth 1 in the reference view.
        depth: (N,) prior depth in the reference view, metres.
        agreement: (N,) 0…1, of the past that it comes from.
        y: (V, N, 2) places at depth 1 in the views.
        seen: (V, N) bool: where a view shows the corner; elsewhere `y` says nothing.
        focal: (V, 2) fx, fy of the views' cells.
        view_T_ref: (V, 4, 4) float64 as given.
    """

    x: np.ndarray
    depth: np.ndarray
    agreement: np.ndarray
    y: np.ndarray
    seen: np.ndarray
    focal: np.ndarray
    view_T_ref: np.ndarray

    @property
    def tracked_views(self) -> np.ndarray:
        """Which views have tracks."""
        return np.flatnonzero(self.seen.any(axis=1))

    def of_views(self, views: np.ndarray) -> CornerTracks:
        """Return the tracks of some views, without the corners that none of them shows."""
        seen = self.seen[views]
        shown = seen.any(axis=0)
        y = np.ascontiguousarray(self.y[views][:, shown])
        seen = np.ascontiguousarray(seen[:, shown])
        prior = self.depth[shown], self.agreement[shown]
        return CornerTracks(self.x[shown], *prior, y, seen, self.focal[views], self.view_T_ref[views])


def track_corners(
    reference: MatchingView, views: Sequence[MatchingView], prior: np.ndarray, agreement: np.ndarray
) -> CornerTracks:
    """Track corners of the reference view to the others and back.

    Args:
        reference: the keyframe.
        views: those that it is to be matched against.
        prior: (h/2, w/2) metres of its prior depth, on the quarter-resolution grid.
        agreement: (h/2, w/2) 0…1, of the past that the prior comes from.
    """
    corners = cv2.goodFeaturesToTrack(np.asarray(reference.descriptors.grey), MAX_CORNERS, QUALITY, SPACING)
    corners = np.empty((0, 2), np.float32) if corners is None else corners[:, 0]
    column, row = np.minimum(np.rint(corners / 2).astype(int), (prior.shape[1] - 1, prior.shape[0] - 1)).T
    count = len(corners)
    tracks = CornerTracks(
        _rays(corners, _CELL_FROM_PIXEL @ reference.K),
        prior[row, column].astype(np.float64),
        agreement[row, column].astype(np.float64),
        np.zeros((len(views), count, 2)),
        np.zeros((len(views), count), bool),
        np.array([(_CELL_FROM_PIXEL @ view.K)[(0, 1), (0, 1)] for view in views]).reshape(-1, 2),
        np.array([inverse_pose(view.world_T_cam) @ reference.world_T_cam for view in views], float).reshape(-1, 4, 4),
    )
    if count >= MIN_TRACKS:
        parallel_rows(_track, len(views), corners, np.asarray(reference.descriptors.grey), views, tracks)
    return tracks


def _track(
    first: int, last: int, corners: np.ndarray, grey: np.ndarray, views: Sequence[MatchingView], tracks: CornerTracks
) -> None:
    """Track corners (N, 2) to the views of first…last. OpenCV releases the GIL."""
    for i in range(first, last):
        if not _track_view(corners, grey, views[i], tracks, i):
            tracks.seen[i] = False


def _track_view(corners: np.ndarray, grey: np.ndarray, view: MatchingView, tracks: CornerTracks, i: int) -> bool:
    """Track corners to a view and back; return whether there are enough.

    OpenCV tracks each corner on its own, so that those that are lost ahead need not be tracked back.
    """
    K = _CELL_FROM_PIXEL @ view.K
    view_grey = np.asarray(view.descriptors.grey)
    interior = (*view_grey.shape, BORDER)
    starts, expected = np.empty_like(corners), np.empty_like(corners)
    index, count = np.empty(len(corners), np.int64), np.empty(1, np.int64)
    camera = (tracks.view_T_ref[i], K, *interior, NEAREST_M)
    keep_visible(corners, tracks.x, tracks.depth, *camera, starts, expected, index, count)
    n = count[0]
    if n < MIN_TRACKS:
        return False
    found, status = _flow(grey, view_grey, starts[:n], expected[:n])
    keep_found(status, *interior, found, starts, index, count)
    n = count[0]
    if n < MIN_TRACKS:
        return False
    found = found[:n]
    returned, status = _flow(view_grey, grey, found, starts[:n])
    keep_returned(status, returned, np.float32(MAX_RETURN), found, starts, K, index, tracks.y[i], tracks.seen[i], count)
    return count[0] >= MIN_TRACKS


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
