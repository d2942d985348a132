# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The loops of plane propagation on a CPU: what `dvmvs_core.plane_propagation` computes in many operators.

Its weights of all cells of a line for each other are a matrix there. They fall exponentially along the line, so that
here one pass ahead and one back do the same. Importing this module needs numba.

Symbols: H×W network resolution, h×w = H/2×W/2, cells q×r = H/4×W/4. A plane is (a, b, c, mean): inverse depth
a + b·x + c·y, and the mean that it was fitted to, with x and y from the middle in widths of the image.
"""

from __future__ import annotations

import numpy as np

from dvmvs_core.runtime.compiled import compiled, inlined

_ZERO, _HALF, _ONE = np.float32(0), np.float32(0.5), np.float32(1)
_QUARTER = np.float32(0.25)


@compiled
def moment_rows(first, last, depth, confidence, min_weight, planes, limit, off, moments):
    """Weighted sums of inverse depth and place, by every other pixel, in rows first…last of cells.

    Args:
        first: first row.
        last: row after the last.
        depth: (H, W) metres.
        confidence: (H, W), 0…1; its cube is the weight.
        min_weight: added to it.
        planes: (q, r, 4) of a first fit, or (0, 0, 4): depth that lies off it weighs less.
        limit: largest factor between a plane and its mean.
        off: part of inverse depth off the plane at which a pixel counts half.
        moments: (q, r, 9) for the means of weight times 1, x, y, v, x², x·y, y², v·x, v·y; v is inverse depth.
    """
    rows, columns, _ = moments.shape
    per_width = _ONE / np.float32(2 * columns)
    fitted = planes.shape[0] > 0
    plane = np.empty(4, np.float32)
    for row in range(first, last):
        for column in range(columns):
            own = moments[row, column]
            own[:] = _ZERO
            for part in range(4):
                j, i = 2 * row + part // 2, 2 * column + part % 2
                x = (np.float32(i) - np.float32(columns)) * per_width
                y = (np.float32(j) - np.float32(rows)) * per_width
                value, sure = _ONE / depth[2 * j, 2 * i], confidence[2 * j, 2 * i]
                weight = sure * sure * sure + min_weight
                if fitted:
                    _between(planes, j, i, plane)
                    difference = (value / _limited(plane, x, y, limit) - _ONE) / off
                    weight /= _ONE + difference * difference
                weight *= _QUARTER
                own[0] += weight
                own[1] += weight * x
                own[2] += weight * y
                own[3] += weight * value
                own[4] += weight * x * x
                own[5] += weight * x * y
                own[6] += weight * y * y
                own[7] += weight * value * x
                own[8] += weight * value * y


@inlined
def _between(planes, j, i, plane):
    """The plane (4,) at row j and column i of every other pixel, between those of the cells around it."""
    rows, columns, _ = planes.shape
    top, left = max((j - 1) // 2, 0), max((i - 1) // 2, 0)
    bottom, right = min((j + 1) // 2, rows - 1), min((i + 1) // 2, columns - 1)
    down = _QUARTER if j % 2 else np.float32(0.75)
    across = _QUARTER if i % 2 else np.float32(0.75)
    for k in range(4):
        upper = planes[top, left, k] + across * (planes[top, right, k] - planes[top, left, k])
        lower = planes[bottom, left, k] + across * (planes[bottom, right, k] - planes[bottom, left, k])
        plane[k] = upper + down * (lower - upper)


@inlined
def _limited(plane, x, y, limit):
    """Inverse depth of a plane, not too far from its mean."""
    value, mean = plane[0] + plane[1] * x + plane[2] * y, plane[3]
    return min(max(value, mean / limit), mean * limit)


@compiled
def smooth_rows(first, last, values, kept):
    """Sums (q, r, C) along rows first…last, in place, by weights that fall along them.

    Args:
        first: first row.
        last: row after the last.
        values: (q, r, C) float32.
        kept: (q, r - 1) float32 share of a weight that is left at the next cell.
    """
    _, columns, channels = values.shape
    ahead = np.empty((columns, channels), np.float32)
    back = np.empty(channels, np.float32)
    for row in range(first, last):
        ahead[0] = values[row, 0]
        for column in range(1, columns):
            share = kept[row, column - 1]
            for c in range(channels):
                ahead[column, c] = values[row, column, c] + share * ahead[column - 1, c]
        back[:] = _ZERO
        for column in range(columns - 1, -1, -1):
            share = kept[row, column] if column < columns - 1 else _ZERO
            for c in range(channels):
                back[c] *= share
                own = values[row, column, c]
                values[row, column, c] = ahead[column, c] + back[c]
                back[c] += own


@compiled
def smooth_columns(first, last, values, kept):
    """Sums (q, r, C) along columns first…last, in place.

    The arguments are those of `smooth_rows`, with shares (q - 1, r) from row to row.
    """
    rows, _, channels = values.shape
    width = last - first
    ahead = np.empty((rows, width, channels), np.float32)
    back = np.zeros((width, channels), np.float32)
    for i in range(width):
        ahead[0, i] = values[0, first + i]
    for row in range(1, rows):
        for i in range(width):
            share = kept[row - 1, first + i]
            for c in range(channels):
                ahead[row, i, c] = values[row, first + i, c] + share * ahead[row - 1, i, c]
    for row in range(rows - 1, -1, -1):
        for i in range(width):
            share = kept[row, first + i] if row < rows - 1 else _ZERO
            for c in range(channels):
                back[i, c] *= share
                own = values[row, first + i, c]
                values[row, first + i, c] = ahead[row, i, c] + back[i, c]
                back[i, c] += own


@compiled
def fit_rows(first, last, moments, ridge, planes):
    """Planes by least squares in rows first…last.

    Args:
        first: first row.
        last: row after the last.
        moments: (q, r, 9) of `moment_rows`, summed.
        ridge: added to the variances of places.
        planes: (q, r, 4) for the result.
    """
    for row in range(first, last):
        for column in range(moments.shape[1]):
            own, plane = moments[row, column], planes[row, column]
            scale = _ONE / own[0]
            mean_x, mean_y, mean = own[1] * scale, own[2] * scale, own[3] * scale
            xx, xy = own[4] * scale - mean_x * mean_x + ridge, own[5] * scale - mean_x * mean_y
            yy = own[6] * scale - mean_y * mean_y + ridge
            vx, vy = own[7] * scale - mean * mean_x, own[8] * scale - mean * mean_y
            determinant = xx * yy - xy * xy
            b, c = (vx * yy - vy * xy) / determinant, (vy * xx - vx * xy) / determinant
            plane[0], plane[1], plane[2], plane[3] = mean - b * mean_x - c * mean_y, b, c, mean


_CELL, _AROUND = 4, 3
_PLANE, _COLOURS, _MAPS = 4, 3, 7


@compiled
def propagate_rows(first, last, depth, confidence, colours, planes, cells, placed, farthest, limit, unsure, propagated):
    """Depth of rows first…last, of which what is unsure lies on the planes of cells of its colour.

    Args:
        first: first row.
        last: row after the last.
        depth: (H, W) metres.
        confidence: (H, W), 0…1.
        colours: (H, 3, W) of the pixels, in units of which a difference of d weighs exp(-d²).
        planes: (q, r, 4).
        cells: (q, 3, r) colours of the cells, in the same units.
        placed: (4, 3) weights by place: of each pixel in a cell for the cell before, its own and the one after.
        farthest: exponent from which on no colour is less like another.
        limit: largest factor between a plane and its mean.
        unsure: confidence at which half of depth is the plane's.
        propagated: (H, W) for the result.
    """
    height, width = depth.shape
    columns = cells.shape[2]
    whole = _CELL * columns
    # What cells around have, once for each pixel, so that the loops below are vectors.
    wide = np.empty((_AROUND, _MAPS, whole + 2 * _CELL), np.float32)
    by_place = np.empty((_AROUND, whole), np.float32)
    for right in range(_AROUND):
        for x in range(whole):
            by_place[right, x] = placed[x % _CELL, right]
    total, plane = np.empty(whole, np.float32), np.empty(_PLANE, np.float32)
    sum_a, sum_b = np.empty(whole, np.float32), np.empty(whole, np.float32)
    sum_c, sum_mean = np.empty(whole, np.float32), np.empty(whole, np.float32)
    for y in range(first, last):
        if y == first or y % _CELL == 0:
            for down in range(_AROUND):
                _widen(planes, cells, min(max(y // _CELL + down - 1, 0), cells.shape[0] - 1), wide[down])
        total[:], sum_a[:], sum_b[:], sum_c[:], sum_mean[:] = _ZERO, _ZERO, _ZERO, _ZERO, _ZERO
        red, green, blue = colours[y, 0], colours[y, 1], colours[y, 2]
        for down in range(_AROUND):
            by_row = placed[y % _CELL, down]
            for right in range(_AROUND):
                # Rows of memory: with a stride, or an offset in the index, the loop would not become vectors.
                there, across = slice(right * _CELL, right * _CELL + whole), by_place[right]
                a, b, c = wide[down, 0][there], wide[down, 1][there], wide[down, 2][there]
                mean, cell_red = wide[down, 3][there], wide[down, 4][there]
                cell_green, cell_blue = wide[down, 5][there], wide[down, 6][there]
                for x in range(whole):
                    r, g, v = red[x] - cell_red[x], green[x] - cell_green[x], blue[x] - cell_blue[x]
                    weight = by_row * across[x] * _falling(min(r * r + g * g + v * v, farthest))
                    total[x] += weight
                    sum_a[x] += weight * a[x]
                    sum_b[x] += weight * b[x]
                    sum_c[x] += weight * c[x]
                    sum_mean[x] += weight * mean[x]
        py = (np.float32(y) - _HALF * np.float32(height)) / np.float32(width)
        for x in range(width):
            scale = _ONE / total[x]
            plane[0], plane[1], plane[2] = sum_a[x] * scale, sum_b[x] * scale, sum_c[x] * scale
            plane[3] = sum_mean[x] * scale
            px = (np.float32(x) - _HALF * np.float32(width)) / np.float32(width)
            sure = confidence[y, x] / unsure
            share = _ONE / (_ONE + sure * sure * sure)
            inverse = _limited(plane, px, py, limit)
            propagated[y, x] = depth[y, x] * np.exp(-share * np.log(depth[y, x] * inverse))


@inlined
def _widen(planes, cells, row, wide):
    """Planes and colours (7, 4·(r + 2)) of a row of cells, each as often as it has pixels; the outermost repeated."""
    columns = cells.shape[2]
    for column in range(columns + 2):
        inside = min(max(column - 1, 0), columns - 1)
        for i in range(_CELL):
            for k in range(_PLANE):
                wide[k, _CELL * column + i] = planes[row, inside, k]
            for k in range(_COLOURS):
                wide[_PLANE + k, _CELL * column + i] = cells[row, k, inside]


@inlined
def _falling(x):
    """exp(-x) for x of 0 to 12, within 0.02 % where it is more than 0.001: as vectors, which numba's exp is not."""
    t = x * np.float32(-1 / 32)
    part = np.float32(1 / 24) + t * np.float32(1 / 120)
    part = _HALF + t * (np.float32(1 / 6) + t * part)
    part = _ONE + t * (_ONE + t * part)
    part *= part
    part *= part
    part *= part
    part *= part
    return part * part
