# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The loops of tracking over corners. Importing this module needs numba.

Symbols: N corners; K of cells, (3, 3). Cells are float32, as OpenCV tracks them, all else float64.

A loop that leaves some corners out moves the others to the front of their arrays. `count` (1,) is for their number.
"""

from __future__ import annotations

from dvmvs_core.runtime.compiled import compiled, inlined


@compiled
def keep_visible(corners, rays, prior, view_T_ref, K, height, width, border, nearest_m, starts, expected, index, count):
    """Keeps the corners that the view shows, and says where.

    Args:
        corners: (N, 2) cells of the reference view.
        rays: (N, 3) at depth 1.
        prior: (N,) metres of their depth.
        view_T_ref: (4, 4).
        K: of the view.
        height: of the view's image, cells.
        width: the same.
        border: cells along the border in which no corner is kept.
        nearest_m: depth in either view below which no corner is kept.
        starts: (N, 2) for those kept of `corners`.
        expected: (N, 2) for the cells of the view where they should be.
        index: (N,) for the places of those kept among all.
        count: for their number.
    """
    kept = 0
    for n in range(len(corners)):
        # Direction of the corner at infinite depth: where the view sees it without translation.
        far = (_dot(view_T_ref[0], rays[n]), _dot(view_T_ref[1], rays[n]), _dot(view_T_ref[2], rays[n]))
        z = prior[n] * far[2] + view_T_ref[2, 3]
        if not (prior[n] > nearest_m and z > nearest_m and far[2] > 0):
            continue
        u = (prior[n] * far[0] + view_T_ref[0, 3]) / z * K[0, 0] + K[0, 2]
        v = (prior[n] * far[1] + view_T_ref[1, 3]) / z * K[1, 1] + K[1, 2]
        if not _is_inside(u, v, height, width, border):
            continue
        starts[kept, 0], starts[kept, 1] = corners[n, 0], corners[n, 1]
        expected[kept, 0], expected[kept, 1] = u, v
        index[kept] = n
        kept += 1
    count[0] = kept


@compiled
def keep_found(status, height, width, border, found, starts, index, count):
    """Keeps the corners that were found in the view, off its border.

    Args:
        status: (N, 1) uint8, 0 where a corner was not found.
        height: of the view's image, cells.
        width: the same.
        border: cells along the border in which no corner is kept.
        found: (N, 2) cells of the view.
        starts: (≥ N, 2) cells of the reference view.
        index: (≥ N,) places of the corners among all.
        count: for the number of those that are kept of the last three.
    """
    kept = 0
    for n in range(len(found)):
        if status[n, 0] > 0 and _is_inside(found[n, 0], found[n, 1], height, width, border):
            found[kept, 0], found[kept, 1] = found[n, 0], found[n, 1]
            starts[kept, 0], starts[kept, 1] = starts[n, 0], starts[n, 1]
            index[kept] = index[n]
            kept += 1
    count[0] = kept


@compiled
def keep_returned(status, returned, max_return, found, starts, K, index, y, seen, count):
    """Puts down the corners that are tracked back to where they started.

    Args:
        status: (N, 1) uint8, 0 where a corner was not found again.
        returned: (N, 2) where it was, cells of the reference view.
        max_return: cells, along either axis, by which that may differ.
        found: (N, 2) cells of the view.
        starts: (≥ N, 2) cells of the reference view.
        K: of the view.
        index: (≥ N,) places of the corners among all.
        y: (all, 2) for their places at depth 1 in the view.
        seen: (all,) bool, set where a corner is put down.
        count: for their number.
    """
    kept = 0
    for n in range(len(found)):
        returns = abs(returned[n, 0] - starts[n, 0]) <= max_return and abs(returned[n, 1] - starts[n, 1]) <= max_return
        if status[n, 0] > 0 and returns:
            place = index[n]
            y[place, 0], y[place, 1] = (found[n, 0] - K[0, 2]) / K[0, 0], (found[n, 1] - K[1, 2]) / K[1, 1]
            seen[place] = True
            kept += 1
    count[0] = kept


@inlined
def _is_inside(u, v, height, width, border):
    """Whether a cell is in an image of that size, off its border."""
    return border <= u <= width - 1 - border and border <= v <= height - 1 - border


@inlined
def _dot(a, b):
    """Product of the first three components."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
