# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The loops of temporal fusion on a CPU: what `dvmvs_core.temporal_fusion` computes in many operators.

Importing this module needs numba. Symbols: N past keyframes, H×W network resolution, h×w half of it.
"""

from __future__ import annotations

import numpy as np

from dvmvs_core.runtime.compiled import compiled

_ZERO, _HALF, _ONE = np.float32(0), np.float32(0.5), np.float32(1)


@compiled
def average_rows(
    first, last, matrices, depth, confidence, past_logs, past_weights, nearest_m, contradicting, agreeing, doubt,
    past_weight, min_weight, max_weight, correction, certainty, mean, weight,
):  # fmt: skip
    """The mean of depth and of what past keyframes know, in rows first…last.

    Args:
        first: first row.
        last: row after the last.
        matrices: (N, 3, 4) float32 from pixels of the half-resolution grid, times depth, to those of each past camera.
        depth: (H, W) metres.
        confidence: (H, W), 0…1.
        past_logs: (N, h, w) logarithm of the past's depth in metres.
        past_weights: (N, h, w).
        nearest_m: depth in a past view up to which a point is behind its camera.
        contradicting: difference of log depth from which on the past contradicts.
        agreeing: difference of log depth at which the weight of the past has fallen to 1/e.
        doubt: share of its confidence that depth loses where all of the past contradicts.
        past_weight: of the past, for its weight.
        min_weight: of a pixel.
        max_weight: of a mean.
        correction: (h, w) for what is added to log depth.
        certainty: (h, w) for the share of its confidence that depth keeps.
        mean: (h, w) for the new mean, metres.
        weight: (h, w) for its weight.
    """
    views, height, width = past_logs.shape
    for y in range(first, last):
        fy = np.float32(y)
        for x in range(width):
            fx, z_own = np.float32(x), depth[2 * y, 2 * x]
            own = max(confidence[2 * y, 2 * x], min_weight)
            known = contradicted = corrections = _ZERO
            total = own
            for n in range(views):
                M = matrices[n]
                z = z_own * (M[2, 0] * fx + M[2, 1] * fy + M[2, 2]) + M[2, 3]
                if not z > nearest_m:
                    continue
                u = (z_own * (M[0, 0] * fx + M[0, 1] * fy + M[0, 2]) + M[0, 3]) / z
                v = (z_own * (M[1, 0] * fx + M[1, 1] * fy + M[1, 2]) + M[1, 3]) / z
                if not (u >= _ZERO and v >= _ZERO and u <= np.float32(width - 1) and v <= np.float32(height - 1)):
                    continue
                left, top = np.int32(u), np.int32(v)
                right, bottom = min(left + 1, width - 1), min(top + 1, height - 1)
                across, down = u - np.float32(left), v - np.float32(top)
                w11 = across * down
                w01, w10 = across - w11, down - w11
                w00 = _ONE - across - w10
                logs, there = past_logs[n], past_weights[n]
                log = w00 * logs[top, left] + w01 * logs[top, right] + w10 * logs[bottom, left]
                log += w11 * logs[bottom, right] - np.log(z)
                says = w00 * there[top, left] + w01 * there[top, right] + w10 * there[bottom, left]
                says += w11 * there[bottom, right]
                far_off, off = log / contradicting, log / agreeing
                known += says
                contradicted += says * (_ONE - np.exp(-far_off * far_off))
                share = past_weight * says * np.exp(-off * off)
                total += share
                corrections += share * log
            correction[y, x] = corrections / total
            certainty[y, x] = _ONE - doubt * contradicted / max(known, min_weight)
            mean[y, x] = z_own * np.exp(correction[y, x])
            weight[y, x] = min(total, max_weight)


@compiled
def correct_rows(first, last, depth, confidence, correction, certainty, corrected, doubted):
    """Depth and confidence at full resolution, in rows first…last.

    Args:
        first: first row.
        last: row after the last.
        depth: (H, W) metres.
        confidence: (H, W), 0…1.
        correction: (h, w) for log depth, at pixels 2x; between them, it is their mean.
        certainty: (h, w) factors of confidence.
        corrected: (H, W) for depth, metres.
        doubted: (H, W) for confidence.
    """
    height, width = correction.shape
    for y in range(first, last):
        top, bottom = y // 2, min((y + 1) // 2, height - 1)
        for x in range(depth.shape[1]):
            left, right = x // 2, min((x + 1) // 2, width - 1)
            change = correction[top, left] + correction[top, right] + correction[bottom, left]
            change += correction[bottom, right]
            share = certainty[top, left] + certainty[top, right] + certainty[bottom, left] + certainty[bottom, right]
            corrected[y, x] = depth[y, x] * np.exp(_HALF * _HALF * change)
            doubted[y, x] = confidence[y, x] * (_HALF * _HALF * share)
