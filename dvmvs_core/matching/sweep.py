# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Plane sweep: how well the descriptors of each pixel match those of other views at each depth hypothesis.

Symbols: (h, w) cells of a grid of descriptors, C channels, P planes, M views.
"""

from __future__ import annotations

import numpy as np

from dvmvs_core.runtime.compiled import compiled

_ZERO, _ONE, _TINY = np.float32(0), np.float32(1), np.float32(1e-6)

FIRST_PLANE = np.zeros((1, 1), np.int32)
"""`starts` of a sweep at all planes."""

ONE_METRE = np.ones((1, 1), np.float32)
"""`centres` of a sweep whose factors are inverse depths."""


@compiled
def sweep_rows(
    first, last, reference, others, homographies, translations, centres, factors, margin, starts, window, scores, counts
):
    """Mean cosine over the views that have a sample in view, in rows first…last of the reference grid; 0 without any.

    Args:
        first: first row.
        last: row after the last.
        reference: (h, w, C) descriptors of unit length; C a multiple of 16 is fastest.
        others: (M, h, w, C) those of the views, interpolated linearly and brought back to unit length.
        homographies: (M, 3, 3) float32, from reference cells to the views' cells for points at infinity.
        translations: (M, 3) float32, what 1/m of inverse depth adds to that.
        centres: (h, w) float32 inverse depths 1/m, or (1, 1) of all cells.
        factors: (P,) float32; a hypothesis is the centre times one of them.
        margin: cells by which the image is larger than the grid, on each side: samples there take the nearest cell.
        starts: (h, w) int32, the first plane that a cell is swept at, or (1, 1) of all cells.
        window: how many planes each cell is swept at. Less than P leave the others at score 0 and count 0, and take the
            mean off the scores, so that 0 is neither good nor bad.
        scores: (h, w, P) float32 for the result.
        counts: (h, w, P) uint8 for the number of views that have the sample in view.
    """
    height, width, channels = reference.shape
    views, planes = others.shape[0], window
    shared, together = centres.size == 1, starts.size == 1
    inverse_depths = np.empty(planes, np.float32)
    flat = others.reshape(views, -1)
    step, row = np.uintp(channels), np.uintp(channels * width)
    opposite = step + row
    highest_x, highest_y = np.float32(width - 1), np.float32(height - 1)
    cell = np.empty(planes, np.int32)
    top_left, top_right = np.empty(planes, np.float32), np.empty(planes, np.float32)
    bottom_left, bottom_right = np.empty(planes, np.float32), np.empty(planes, np.float32)
    product, square = np.empty(planes, np.float32), np.empty(planes, np.float32)
    total, seen = np.empty(planes, np.float32), np.empty(planes, np.float32)
    for y in range(first, last):
        for x in range(width):
            total[:] = _ZERO
            seen[:] = _ZERO
            here = reference[y, x]
            centre = centres[0, 0] if shared else centres[y, x]
            start = starts[0, 0] if together else starts[y, x]
            for p in range(planes):
                inverse_depths[p] = centre * factors[start + p]
            fx, fy = np.float32(x), np.float32(y)
            for m in range(views):
                H, t = homographies[m], translations[m]
                qx = H[0, 0] * fx + H[0, 1] * fy + H[0, 2]
                qy = H[1, 0] * fx + H[1, 1] * fy + H[1, 2]
                qz = H[2, 0] * fx + H[2, 1] * fy + H[2, 2]
                tx, ty, tz = t[0], t[1], t[2]
                for p in range(planes):
                    z = qz + tz * inverse_depths[p]
                    scale = _ONE / max(z, _TINY)
                    u = (qx + tx * inverse_depths[p]) * scale
                    v = (qy + ty * inverse_depths[p]) * scale
                    visible = (
                        (u >= -margin)
                        & (u <= highest_x + margin)
                        & (v >= -margin)
                        & (v <= highest_y + margin)
                        & (z > _TINY)
                    )
                    u = min(max(u, _ZERO), highest_x) if visible else _ZERO
                    v = min(max(v, _ZERO), highest_y) if visible else _ZERO
                    # The last cell is interpolated from the one before it, so that no read leaves the grid.
                    left, top = min(np.int32(u), np.int32(width - 2)), min(np.int32(v), np.int32(height - 2))
                    right, down = u - np.float32(left), v - np.float32(top)
                    both = right * down
                    bottom_right[p], top_right[p], bottom_left[p] = both, right - both, down - both
                    top_left[p] = _ONE - right - (down - both)
                    cell[p] = top * np.int32(width) + left if visible else np.int32(-1)
                    seen[p] += _ONE if visible else _ZERO
                samples = flat[m]
                for p in range(planes):
                    if cell[p] < 0:
                        product[p], square[p] = _ZERO, _ONE
                        continue
                    at = np.uintp(cell[p]) * step
                    w00, w01, w10, w11 = top_left[p], top_right[p], bottom_left[p], bottom_right[p]
                    dot = norm = _ZERO
                    for c in range(channels):
                        k = at + np.uintp(c)
                        sample = w00 * samples[k] + w01 * samples[k + step]
                        sample += w10 * samples[k + row] + w11 * samples[k + opposite]
                        dot += here[c] * sample
                        norm += sample * sample
                    product[p], square[p] = dot, norm
                for p in range(planes):
                    total[p] += product[p] / np.sqrt(max(square[p], _TINY))
            mean = weight = _ZERO
            if planes < factors.shape[0]:
                scores[y, x] = _ZERO
                counts[y, x] = 0
                for p in range(planes):
                    mean += total[p]
                    weight += seen[p]
                mean /= max(weight, _ONE)
            for p in range(planes):
                scores[y, x, start + p] = total[p] / max(seen[p], _ONE) - (mean if seen[p] > _ZERO else _ZERO)
                counts[y, x, start + p] = np.uint8(seen[p])
