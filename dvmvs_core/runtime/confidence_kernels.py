# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The loops of confidence on a CPU: what `dvmvs_core.confidence` computes in many operators, in few passes.

Symbols: h×w cells, P planes (the prediction's first), S neighbourhoods, C channels, H×W network resolution.
"""

from __future__ import annotations

import numpy as np

from dvmvs_core.runtime.compiled import compiled

_ZERO, _ONE, _HALF = np.float32(0), np.float32(1), np.float32(0.5)


@compiled
def sum_above_left(means, counts, sums):
    """Sums (h+1, w+1, 2P) over all that is above and to the left, of means times counts and of counts (h, w, P)."""
    height, width, planes = means.shape
    sums[0] = _ZERO
    for y in range(height):
        sums[y + 1, 0] = _ZERO
        for x in range(width):
            for i in range(planes):
                before = sums[y + 1, x, i] + sums[y, x + 1, i] - sums[y, x, i]
                sums[y + 1, x + 1, i] = before + means[y, x, i] * counts[y, x, i]
            for i in range(planes):
                before = sums[y + 1, x, planes + i] + sums[y, x + 1, planes + i] - sums[y, x, planes + i]
                sums[y + 1, x + 1, planes + i] = before + counts[y, x, i]


@compiled
def estimate_confidence_rows(
    first, last, depth, step, sums, agreement, planes, fine, coarse, sides, sharpness, edge, weights, bias, estimated
):
    """Logistic regression on the cues of each cell of rows first…last.

    Args:
        first: first row of cells.
        last: row after the last.
        depth: (H, W) metres.
        step: pixels of a cell.
        sums: (h+1, w+1, 2P) from `sum_above_left`.
        agreement: (h, w, 2) from `reprojection_kernels.agree_rows`.
        planes: (P,) inverse depths as factors of the predicted one.
        fine: the two planes next to the prediction.
        coarse: the two next ones.
        sides: (S,) cells a side of the neighbourhoods.
        sharpness: of the mean shift.
        edge: cells a side in which depth edges are looked for.
        weights: (S + 1, 4) of similarity, fine peak, coarse peak and shift over each neighbourhood; in the last row of
            agreement, of no confirmation and of edges.
        bias: log odds where all cues are 0.
        estimated: (h, w, 2) receives the confidence, and 1 where a measurement frame has the cell in view.
    """
    height, width, _ = estimated.shape
    count, middle, reach = len(planes), step // 2, edge // 2
    shifts = np.abs(np.log(planes))
    near = np.empty(count, np.float32)
    for y in range(first, last):
        for x in range(width):
            confirmations = agreement[y, x, 1]
            odds = bias + weights[-1, 0] * agreement[y, x, 0] / max(confirmations, _ONE)
            odds += weights[-1, 1] * (_ONE - min(confirmations, _ONE))
            for s in range(len(sides)):
                half = sides[s] // 2
                top, bottom = max(y - half, 0), min(y + half + 1, height)
                left, right = max(x - half, 0), min(x + half + 1, width)
                for p in range(count):
                    i = count + p
                    total = sums[bottom, right, p] - sums[top, right, p] - sums[bottom, left, p] + sums[top, left, p]
                    views = sums[bottom, right, i] - sums[top, right, i] - sums[bottom, left, i] + sums[top, left, i]
                    near[p] = total / max(views, _ONE)
                odds += weights[s, 0] * near[0]
                odds += weights[s, 1] * (near[0] - max(near[fine[0]], near[fine[1]]))
                odds += weights[s, 2] * (near[0] - max(near[coarse[0]], near[coarse[1]]))
                if weights[s, 3] != _ZERO:
                    best, shift, total = near[0], _ZERO, _ZERO
                    for p in range(1, count):
                        best = max(best, near[p])
                    for p in range(count):
                        softmax = np.exp((near[p] - best) * sharpness)
                        shift += softmax * shifts[p]
                        total += softmax
                    odds += weights[s, 3] * shift / total
            nearest = farthest = depth[y * step + middle, x * step + middle]
            for i in range(max(y - reach, 0), min(y + reach + 1, height)):
                for j in range(max(x - reach, 0), min(x + reach + 1, width)):
                    d = depth[i * step + middle, j * step + middle]
                    nearest, farthest = min(nearest, d), max(farthest, d)
            odds += weights[-1, 2] * np.log(farthest / nearest)
            estimated[y, x, 0] = _ONE / (_ONE + np.exp(-odds))
            frames = sums[y + 1, x + 1, count] - sums[y, x + 1, count] - sums[y + 1, x, count] + sums[y, x, count]
            estimated[y, x, 1] = _ONE if frames > _HALF else _ZERO


@compiled
def confidence_rows(first, last, estimated, confidence):
    """Confidence of pixels, linear between cells (h, w, 2) of `estimate_confidence_rows`, in rows first…last of (H, W).

    A pixel whose own cell is in no view gets 0.
    """
    height, width, _ = estimated.shape
    scale_y, scale_x = np.float32(height / confidence.shape[0]), np.float32(width / confidence.shape[1])
    for y in range(first, last):
        at_y = max((np.float32(y) + _HALF) * scale_y - _HALF, _ZERO)
        top = np.int64(at_y)
        bottom, down = min(top + 1, height - 1), at_y - np.float32(top)
        own_row = np.int64(np.float32(y) * scale_y)
        for x in range(confidence.shape[1]):
            at_x = max((np.float32(x) + _HALF) * scale_x - _HALF, _ZERO)
            left = np.int64(at_x)
            next_x, right = min(left + 1, width - 1), at_x - np.float32(left)
            upper = estimated[top, left, 0] * (_ONE - right) + estimated[top, next_x, 0] * right
            lower = estimated[bottom, left, 0] * (_ONE - right) + estimated[bottom, next_x, 0] * right
            in_view = estimated[own_row, np.int64(np.float32(x) * scale_x), 1]
            confidence[y, x] = (upper * (_ONE - down) + lower * down) * in_view
