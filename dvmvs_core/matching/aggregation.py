# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Scores averaged over square neighbourhoods of the image, by running sums: the time does not depend on their side.

Symbols: (h, w) cells, P planes.
"""

from __future__ import annotations

import numpy as np

from dvmvs_core.runtime.compiled import compiled

_ZERO = np.float32(0)


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
