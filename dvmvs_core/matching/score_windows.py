# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Scores of the planes about the matched one, for the regulariser.

Symbols: (h, w) cells of the half-resolution grid, (q, r) = (h/2, w/2), P planes.
"""

from __future__ import annotations

import numpy as np

from dvmvs_core.runtime.compiled import compiled

_ZERO, _ONE = np.float32(0), np.float32(1)
_QUARTER = np.float32(0.25)
LEAST_AGREED, LEAST_ALONE = np.float32(-2), np.float32(-1)
"""Of windows: scores are not lower, and are these beyond the planes."""

_BESIDE = 2


@compiled
def quarter_means(first, last, scores, means):
    """Mean scores of 2 × 2 cells, −1…1, in rows first…last of the result.

    Args:
        first: first row.
        last: row after the last.
        scores: (h, w, P) float32.
        means: (q, r, P) float32 for the result.
    """
    for y in range(first, last):
        for x in range(means.shape[1]):
            upper, lower = scores[2 * y], scores[2 * y + 1]
            for p in range(means.shape[2]):
                total = upper[2 * x, p] + upper[2 * x + 1, p] + lower[2 * x, p] + lower[2 * x + 1, p]
                means[y, x, p] = min(max(_QUARTER * total, LEAST_ALONE), _ONE)


@compiled
def window_rows(first, last, position, agreed, alone, reach, windows, windows_alone, evidence):
    """Scores of the planes about the matched one in rows first…last, and how clearly images alone speak for it.

    Args:
        first: first row.
        last: row after the last.
        position: (q, r) float32 of the matched plane.
        agreed: (h, w, P) float32 scores after semi-global matching.
        alone: (q, r, P) float32, see `quarter_means`.
        reach: planes on each side.
        windows: (q, r, 2 · reach + 1) float32 for scores less the best of their cell, −2…0; −2 beyond the planes.
        windows_alone: (q, r, 2 · reach + 1) float32 for those of images alone; −1 beyond the planes.
        evidence: (q, r, 2) float32 for the score of images alone at the matched plane, and that less the best score
            outside of ±2 planes.
    """
    planes = agreed.shape[2]
    best = np.empty(4, np.float32)
    for y in range(first, last):
        for x in range(position.shape[1]):
            middle = np.int64(np.rint(position[y, x]))
            for i in range(4):
                cell = agreed[2 * y + i // 2, 2 * x + i % 2]
                best[i] = cell[0]
                for p in range(1, planes):
                    best[i] = max(best[i], cell[p])
            for k in range(2 * reach + 1):
                p = middle + k - reach
                if p < 0 or p >= planes:
                    windows[y, x, k], windows_alone[y, x, k] = LEAST_AGREED, LEAST_ALONE
                    continue
                total = _ZERO
                for i in range(4):
                    total += max(agreed[2 * y + i // 2, 2 * x + i % 2, p] - best[i], LEAST_AGREED)
                windows[y, x, k] = _QUARTER * total
                windows_alone[y, x, k] = alone[y, x, p]
            chosen = min(max(middle, 0), planes - 1)
            second = LEAST_ALONE
            for p in range(planes):
                if abs(p - chosen) > _BESIDE:
                    second = max(second, alone[y, x, p])
            evidence[y, x, 0] = alone[y, x, chosen]
            evidence[y, x, 1] = alone[y, x, chosen] - second
