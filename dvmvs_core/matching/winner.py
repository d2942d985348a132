# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The best plane of each pixel, between planes by a parabola, and how far it is ahead of the others.

Symbols: (h, w) cells, P planes.
"""

from __future__ import annotations

import numpy as np

from dvmvs_core.runtime.compiled import compiled

_ONE, _HALF, _LEAST = np.float32(1), np.float32(0.5), np.float32(-3e38)
_FLATTEST = np.float32(-1e-6)


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
            best_score = _LEAST
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
            second = _LEAST
            for p in range(0, best - 2):
                second = max(second, own[p])
            for p in range(best + 3, planes):
                second = max(second, own[p])
            margin[y, x] = best_score - second
            views[y, x] = counts[y // coarser, x // coarser, best]
