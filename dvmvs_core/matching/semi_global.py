# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Semi-global matching: scores of neighbouring pixels made to agree along lines of the image.

Along each direction, a pixel's score of a plane is its own plus the best of the pixel before it, less a penalty: none
for the same plane, a small one for the next, a large one for any other. The large one falls where the image has an
edge.

Source: Hirschmüller, "Stereo Processing by Semiglobal Matching and Mutual Information", PAMI 2008, section 2.2; its
costs are scores here, so that more is better. Symbols: (h, w) cells, P planes.
"""

from __future__ import annotations

import numpy as np

from dvmvs_core.runtime.compiled import compiled, inlined

_LOWEST = np.float32(-3e38)


@compiled
def jump_penalties(first, last, image, largest, least, edge, across, down):
    """Penalties of a jump between a pixel and the one before it, in rows first…last.

    Args:
        first: first row.
        last: row after the last.
        image: (h, w, 3) float32, 0…255.
        largest: penalty where the image is flat.
        least: no penalty is smaller.
        edge: difference of colour at which the penalty has fallen to 1/e.
        across: (h, w) float32 for the penalty between (y, x - 1) and (y, x).
        down: (h, w) float32 for the penalty between (y - 1, x) and (y, x).
    """
    width = image.shape[1]
    for y in range(first, last):
        for x in range(width):
            left, above = max(x - 1, 0), max(y - 1, 0)
            a = b = np.float32(0)
            for c in range(3):
                a = max(a, abs(image[y, x, c] - image[y, left, c]))
                b = max(b, abs(image[y, x, c] - image[above, x, c]))
            across[y, x] = max(largest * np.exp(-a / edge), least)
            down[y, x] = max(largest * np.exp(-b / edge), least)


@inlined
def step_along(own, before, penalty, next_penalty, now):
    """Path scores (P + 2,) of a pixel from those of the pixel before it; the first and the last entry are a border.

    Args:
        own: (P,) the pixel's scores.
        before: (P + 2,) path scores of the pixel before.
        penalty: of a jump.
        next_penalty: of going to a neighbouring plane.
        now: (P + 2,) for the result, less the best of the pixel before, which decides nothing and keeps numbers small.
    """
    planes = own.shape[0]
    best = _LOWEST
    for p in range(planes):
        best = max(best, before[p + 1])
    floor = best - penalty
    for p in range(planes):
        near = max(before[p], before[p + 2]) - next_penalty
        now[p + 1] = own[p] + (max(max(near, before[p + 1]), floor) - best)


@compiled
def paths_across(first, last, scores, across, next_penalty, weight, result):
    """Scores along rows first…last from the left and from the right, times a weight, written to the result.

    Args:
        first: first row.
        last: row after the last.
        scores: (h, w, P) float32.
        across: (h, w) penalties of a jump.
        next_penalty: of going to a neighbouring plane.
        weight: factor of the result.
        result: (h, w, P) float32.
    """
    _, width, planes = scores.shape
    before, now = np.full(planes + 2, _LOWEST, np.float32), np.full(planes + 2, _LOWEST, np.float32)
    for y in range(first, last):
        for p in range(planes):
            before[p + 1] = scores[y, 0, p]
            result[y, 0, p] = weight * scores[y, 0, p]
        for x in range(1, width):
            step_along(scores[y, x], before, across[y, x], next_penalty, now)
            for p in range(planes):
                result[y, x, p] = weight * now[p + 1]
            before, now = now, before
        for p in range(planes):
            before[p + 1] = scores[y, width - 1, p]
            result[y, width - 1, p] += weight * scores[y, width - 1, p]
        for x in range(width - 2, -1, -1):
            step_along(scores[y, x], before, across[y, x + 1], next_penalty, now)
            for p in range(planes):
                result[y, x, p] += weight * now[p + 1]
            before, now = now, before


@compiled
def paths_down(first, last, scores, down, next_penalty, weight, result):
    """Scores along columns first…last from above and from below, times a weight, added to the result.

    The arguments are those of `paths_across`, with the penalties (h, w) between rows.
    """
    height, _, planes = scores.shape
    columns = last - first
    before = np.full((columns, planes + 2), _LOWEST, np.float32)
    now = np.full((columns, planes + 2), _LOWEST, np.float32)
    for i in range(columns):
        for p in range(planes):
            before[i, p + 1] = scores[0, first + i, p]
            result[0, first + i, p] += weight * scores[0, first + i, p]
    for y in range(1, height):
        for i in range(columns):
            step_along(scores[y, first + i], before[i], down[y, first + i], next_penalty, now[i])
            for p in range(planes):
                result[y, first + i, p] += weight * now[i, p + 1]
        before, now = now, before
    for i in range(columns):
        for p in range(planes):
            before[i, p + 1] = scores[height - 1, first + i, p]
            result[height - 1, first + i, p] += weight * scores[height - 1, first + i, p]
    for y in range(height - 2, -1, -1):
        for i in range(columns):
            step_along(scores[y, first + i], before[i], down[y + 1, first + i], next_penalty, now[i])
            for p in range(planes):
                result[y, first + i, p] += weight * now[i, p + 1]
        before, now = now, before
