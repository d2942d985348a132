# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Scores of planes: averaged over squares, brought to a finer grid, and the best of them.

Symbols: (h, w) cells of the half-resolution grid, centred at pixels 2x; P planes.
"""

from __future__ import annotations

import numpy as np

from dvmvs_core.runtime.compiled import compiled

_ZERO, _HALF = np.float32(0), np.float32(0.5)
_LOWEST, _FLATTEST = np.float32(-3e38), np.float32(-1e-6)


@compiled
def box_means(first, last, scores, radius, weight, adds, means):
    """Weighted mean over squares of side 2·radius + 1, cut off at the border, in rows first…last.

    Args:
        first: first row.
        last: row after the last.
        scores: (h, w, P) float32.
        radius: cells.
        weight: factor of the result.
        adds: whether the result is added to what is there.
        means: (h, w, P) float32 for the result.
    """
    height, width, planes = scores.shape
    columns = np.zeros((width, planes), np.float32)
    running = np.empty(planes, np.float32)
    for y in range(max(0, first - radius), min(height, first + radius)):
        for x in range(width):
            for p in range(planes):
                columns[x, p] += scores[y, x, p]
    for y in range(first, last):
        entering, leaving = y + radius, y - radius - 1
        if entering < height and leaving >= 0 and y > first:
            for x in range(width):
                for p in range(planes):
                    columns[x, p] += scores[entering, x, p] - scores[leaving, x, p]
        elif entering < height:
            for x in range(width):
                for p in range(planes):
                    columns[x, p] += scores[entering, x, p]
        elif leaving >= 0 and y > first:
            for x in range(width):
                for p in range(planes):
                    columns[x, p] -= scores[leaving, x, p]
        rows = min(height, y + radius + 1) - max(0, y - radius)
        running[:] = _ZERO
        for x in range(min(radius, width)):
            for p in range(planes):
                running[p] += columns[x, p]
        for x in range(width):
            right, left = min(x + radius, width - 1), max(x - radius, 0)
            factor = np.float32(weight / np.float32(rows * (right - left + 1)))
            enters, leaves = x + radius < width, x - radius - 1 >= 0
            if enters:
                for p in range(planes):
                    running[p] += columns[x + radius, p]
            if leaves:
                for p in range(planes):
                    running[p] -= columns[x - radius - 1, p]
            if adds:
                for p in range(planes):
                    means[y, x, p] += running[p] * factor
            else:
                for p in range(planes):
                    means[y, x, p] = running[p] * factor


@compiled
def add_upsampled(first, last, coarse, weight, scores):
    """Adds scores of a quarter-resolution grid, whose cells are centred at pixels 4x + 3, to rows first…last.

    Args:
        first: first row.
        last: row after the last.
        coarse: (h/2, w/2, P) float32.
        weight: factor of them.
        scores: (h, w, P) float32, changed.
    """
    height, width, planes = coarse.shape
    for y in range(first, last):
        at_y = min(max(_HALF * np.float32(y) - np.float32(0.75), _ZERO), np.float32(height - 1))
        top = np.int64(at_y)
        bottom, down = min(top + 1, height - 1), at_y - np.float32(top)
        for x in range(scores.shape[1]):
            at_x = min(max(_HALF * np.float32(x) - np.float32(0.75), _ZERO), np.float32(width - 1))
            left = np.int64(at_x)
            right_x, right = min(left + 1, width - 1), at_x - np.float32(left)
            w11 = weight * right * down
            w01, w10 = weight * right - w11, weight * down - w11
            w00 = weight - w01 - w10 - w11
            for p in range(planes):
                scores[y, x, p] += (
                    w00 * coarse[top, left, p]
                    + w01 * coarse[top, right_x, p]
                    + w10 * coarse[bottom, left, p]
                    + w11 * coarse[bottom, right_x, p]
                )


@compiled
def best_planes(first, last, scores, counts, position, margin, views):
    """Position of the best plane in rows first…last, with its margin and its number of views.

    Args:
        first: first row.
        last: row after the last.
        scores: (h, w, P) float32.
        counts: (h, w, P) uint8 views that have the sample in view, or (h/2, w/2, P) for 2 × 2 cells each.
        position: (h, w) float32 for the plane, with a fraction.
        margin: (h, w) float32 for the best score less the second best, outside of ±2 planes.
        views: (h, w) uint8 for the number of views at the best plane.
    """
    _, width, planes = scores.shape
    coarser = scores.shape[0] // counts.shape[0]
    for y in range(first, last):
        for x in range(width):
            own = scores[y, x]
            best_score = _LOWEST
            for p in range(planes):
                best_score = max(best_score, own[p])
            best = 0
            while own[best] < best_score:
                best += 1
            offset = np.float32(0)
            if 0 < best < planes - 1:
                bend = min(own[best - 1] - (own[best] + own[best]) + own[best + 1], _FLATTEST)
                offset = min(max((own[best - 1] - own[best + 1]) / (bend + bend), -_HALF), _HALF)
            position[y, x] = np.float32(best) + offset
            second = _LOWEST
            for p in range(0, best - 2):
                second = max(second, own[p])
            for p in range(best + 3, planes):
                second = max(second, own[p])
            margin[y, x] = best_score - second
            views[y, x] = counts[y // coarser, x // coarser, best]
