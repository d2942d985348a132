# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The loops of the refinement on a CPU. Importing this module needs numba.

Symbols: P depths of a pixel, M measurement frames, h×w half resolution, H×W full resolution.
"""

from __future__ import annotations

import numpy as np

from dvmvs_core.runtime.compiled import compiled
from dvmvs_core.runtime.sampling import compare_between

_ONE, _ZERO = np.float32(1), np.float32(0)
_LEAST_Z_M = np.float32(1e-6)


@compiled
def match_about_rows(
    first, last, depth, planes, predicted, reference, reference_scale, measurements, homographies, translations,
    least_norm, target,
):  # fmt: skip
    """`DepthRefinement.match` and the logarithm of depth, for rows first…last.

    Args:
        first: first row.
        last: row after the last.
        depth: (H, W) metres.
        planes: (P,) inverse depths as factors of the predicted one.
        predicted: which of them is 1.
        reference: (h, w, C') matching map; C' a multiple of `vectors.LANES`, channels past the real ones 0.
        reference_scale: what that map was divided by: its real channels.
        measurements: (M, h+2, w+2, C') matching maps with a border of zeros.
        homographies: (M, 3, 3) K R K⁻¹ of each measurement frame.
        translations: (M, 3) K t.
        least_norm: norm of a look that counts in full.
        target: (h, w, at least P+3) receives the mean cosines, the share of frames, the texture, and log depth.
    """
    height, width, channels = reference.shape
    frames, count = measurements.shape[0], planes.shape[0]
    flat = measurements.reshape(frames, -1)
    padded_width = np.int32(width + 2)
    step, row = np.uintp(channels), np.uintp(channels * (width + 2))
    right_border, bottom_border = np.float32(width), np.float32(height)
    texture_scale = _ONE / np.sqrt(reference_scale)
    # Loops over the depths of a pixel are apart from what cannot be done for several at once. The first is that of
    # `kernels.sweep_rows`; as a function of its own it takes a fifth longer, inlined by numba or not.
    cell = np.empty(count, np.int32)
    top_left, top_right = np.empty(count, np.float32), np.empty(count, np.float32)
    bottom_left, bottom_right = np.empty(count, np.float32), np.empty(count, np.float32)
    product, squares = np.empty(count, np.float32), np.empty(count, np.float32)
    total, seen = np.empty(count, np.float32), np.empty(count, np.float32)
    for y in range(first, last):
        for x in range(width):
            total[:] = _ZERO
            seen[:] = _ZERO
            own = reference[y, x]
            own_squares = _ZERO
            for c in range(channels):
                own_squares += own[c] * own[c]
            norm = np.sqrt(own_squares) * reference_scale
            own_scale = reference_scale / max(norm, least_norm)
            fx, fy, metres = np.float32(x), np.float32(y), depth[2 * y, 2 * x]
            inverse_depth = _ONE / metres
            for m in range(frames):
                H, t = homographies[m], translations[m]
                qx = H[0, 0] * fx + H[0, 1] * fy + H[0, 2]
                qy = H[1, 0] * fx + H[1, 1] * fy + H[1, 2]
                qz = H[2, 0] * fx + H[2, 1] * fy + H[2, 2]
                for p in range(count):
                    inverse = planes[p] * inverse_depth
                    z = qz + t[2] * inverse
                    scale = _ONE / max(z, _LEAST_Z_M)
                    u = (qx + t[0] * inverse) * scale + _ONE
                    v = (qy + t[1] * inverse) * scale + _ONE
                    visible = (z > _ZERO) & (u >= _ONE) & (u <= right_border) & (v >= _ONE) & (v <= bottom_border)
                    u = u if visible else _ZERO
                    v = v if visible else _ZERO
                    left, top = np.int32(u), np.int32(v)
                    right, down = u - np.float32(left), v - np.float32(top)
                    both = right * down
                    bottom_right[p], top_right[p], bottom_left[p] = both, right - both, down - both
                    top_left[p] = _ONE - right - (down - both)
                    # Out of view lies the border, which is zero.
                    cell[p] = np.int32(top * padded_width + left)
                    seen[p] += _ONE if visible else _ZERO
                samples = flat[m]
                for p in range(count):
                    product[p], squares[p] = compare_between(
                        own, samples, np.uintp(cell[p]) * step, step, row,
                        top_left[p], top_right[p], bottom_left[p], bottom_right[p], step,
                    )  # fmt: skip
                for p in range(count):
                    total[p] += product[p] * own_scale / max(np.sqrt(squares[p]), least_norm)
            for p in range(count):
                target[y, x, p] = total[p] / max(seen[p], _ONE)
            target[y, x, count] = seen[predicted] / np.float32(frames)
            target[y, x, count + 1] = norm * texture_scale
            target[y, x, count + 2] = np.log(metres)


@compiled
def correct_rows(first, last, correction, shares, logarithm):
    """`upsampled` for rows first…last of (h, w).

    Args:
        first: first row.
        last: row after the last.
        correction: (h, w).
        shares: (h, w, 36) exponentials of the logits: nine for each of the four pixels of a cell, which vary fastest.
        logarithm: (2h, 2w) receives the corrections.
    """
    height, width = correction.shape
    sums, weights = np.empty(4, np.float32), np.empty(4, np.float32)
    for y in range(first, last):
        for x in range(width):
            sums[:] = _ZERO
            weights[:] = _ZERO
            for n in range(9):
                row = min(max(y + n // 3 - 1, 0), height - 1)
                column = min(max(x + n % 3 - 1, 0), width - 1)
                value = correction[row, column]
                for s in range(4):
                    weight = shares[y, x, 4 * n + s]
                    weights[s] += weight
                    sums[s] += weight * value
            for s in range(4):
                logarithm[2 * y + s // 2, 2 * x + s % 2] = sums[s] / weights[s]
