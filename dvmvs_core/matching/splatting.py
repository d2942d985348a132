# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Depth of past views moved into the current one: the nearest point of each cell, and the median over views.

Symbols: (h, w) cells, K views.
"""

from __future__ import annotations

import numpy as np

from dvmvs_core.runtime.compiled import compiled

_ZERO, _HALF, _ONE = np.float32(0), np.float32(0.5), np.float32(1)
_NEAREST_M = np.float32(0.1)


@compiled
def splat_views(first, last, depths, homographies, translations, nearest):
    """Z-buffers of views first…last.

    Args:
        first: first view.
        last: view after the last.
        depths: (K, h, w) float32 metres in each view; 0 = none.
        homographies: (K, 3, 3) float32, from the views' cells to the current view's for points at infinity.
        translations: (K, 3) float32, what 1/m of inverse depth adds to that.
        nearest: (K, h, w) float32 for the depth in the current view; 0 where no point falls.
    """
    _, height, width = depths.shape
    for k in range(first, last):
        H, t = homographies[k], translations[k]
        target = nearest[k]
        target[:] = _ZERO
        for y in range(height):
            fy = np.float32(y)
            for x in range(width):
                depth = depths[k, y, x]
                if depth <= _ZERO:
                    continue
                fx = np.float32(x)
                z = (H[2, 0] * fx + H[2, 1] * fy + H[2, 2]) * depth + t[2]
                if z < _NEAREST_M:
                    continue
                scale = _ONE / z
                u = ((H[0, 0] * fx + H[0, 1] * fy + H[0, 2]) * depth + t[0]) * scale + _HALF
                v = ((H[1, 0] * fx + H[1, 1] * fy + H[1, 2]) * depth + t[1]) * scale + _HALF
                if u < _ZERO or v < _ZERO or u >= width or v >= height:
                    continue
                column, row = np.int32(u), np.int32(v)
                if target[row, column] == _ZERO or z < target[row, column]:
                    target[row, column] = z


@compiled
def median_rows(first, last, own, own_weight, nearest, median):
    """Median in rows first…last of what the views say and of `own_weight` times the own depth.

    Args:
        first: first row.
        last: row after the last.
        own: (h, w) float32 metres, everywhere above 0.
        own_weight: how often it counts.
        nearest: (K, h, w) float32 of `splat_views`.
        median: (h, w) float32 for the result; the mean of the two middle values of an even number.
    """
    views, _, width = nearest.shape
    values = np.empty(views + own_weight, np.float32)
    for y in range(first, last):
        for x in range(width):
            count = 0
            for k in range(views + own_weight):
                value = nearest[k, y, x] if k < views else own[y, x]
                if value <= _ZERO:
                    continue
                at = count
                while at > 0 and values[at - 1] > value:
                    values[at] = values[at - 1]
                    at -= 1
                values[at] = value
                count += 1
            median[y, x] = _HALF * (values[(count - 1) // 2] + values[count // 2])
