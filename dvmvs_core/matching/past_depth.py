# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The prior depth: what past keyframes and the network say, fused by a weighted median.

Past depth is splatted into the current view. Matched depth counts by its margin, so what many small motions measured
adds up; the network's predictions count little each. Symbols: (h, w) cells, K depth maps.
"""

from __future__ import annotations

import numpy as np

from dvmvs_core.runtime.compiled import compiled

_ZERO, _HALF, _ONE = np.float32(0), np.float32(0.5), np.float32(1)

BINS = 128
"""Of the histogram that finds the median."""

NEAREST_BIN_M, FARTHEST_BIN_M = 0.1, 20.0
"""Its range; what lies beyond counts in its first or last bin. A bin is 4 % wide."""


@compiled
def fuse_rows(first, last, own, own_weight, nearest, weights, measured, tolerance, full_weight, fused, agreement):
    """Weighted median in rows first…last, and how much of what was measured agrees with it.

    Args:
        first: first row.
        last: row after the last.
        own: (h, w) float32 metres that the network says of this view, everywhere above 0.
        own_weight: its weight.
        nearest: (K, h, w) float32 metres of `splat_maps`; 0 = none.
        weights: (K, h, w) float32 their weights.
        measured: how many of the K maps, the first ones, were matched; the others are the network's.
        tolerance: difference of log depth within which values agree.
        full_weight: agreement is 1 where so much weight agrees, or all of a greater one.
        fused: (h, w) float32 metres: the mean of what lies in the bin of the median.
        agreement: (h, w) float32, 0…1.
    """
    maps, _, width = nearest.shape
    low = np.log(np.float32(NEAREST_BIN_M))
    scale = np.float32(BINS) / (np.log(np.float32(FARTHEST_BIN_M)) - low)
    histogram = np.empty(BINS, np.float32)
    sums = np.empty(BINS, np.float32)
    logs = np.empty(maps, np.float32)
    for y in range(first, last):
        for x in range(width):
            histogram[:] = _ZERO
            sums[:] = _ZERO
            log_own = np.log(own[y, x])
            at = min(max(np.int32((log_own - low) * scale), np.int32(0)), np.int32(BINS - 1))
            histogram[at] = own_weight
            sums[at] = own_weight * log_own
            total = own_weight
            for k in range(maps):
                if nearest[k, y, x] > _ZERO:
                    logs[k] = np.log(nearest[k, y, x])
                    at = min(max(np.int32((logs[k] - low) * scale), np.int32(0)), np.int32(BINS - 1))
                    histogram[at] += weights[k, y, x]
                    sums[at] += weights[k, y, x] * logs[k]
                    total += weights[k, y, x]
            middle, before, median = _HALF * total, histogram[0], 0
            while before < middle and median < BINS - 1:
                median += 1
                before += histogram[median]
            centre = sums[median] / histogram[median]
            agreeing = _ZERO
            for k in range(measured):
                if nearest[k, y, x] > _ZERO and abs(logs[k] - centre) < tolerance:
                    agreeing += weights[k, y, x]
            fused[y, x] = np.exp(centre)
            agreement[y, x] = agreeing / max(total, full_weight)
