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
from dvmvs_core.runtime.sampling import compare_between

_ZERO, _ONE, _TINY = np.float32(0), np.float32(1), np.float32(1e-6)


@compiled
def sweep_rows(first, last, reference, others, homographies, translations, centres, factors, margin, scores, counts):
    """Mean cosine over the views that have a sample in view, in rows first…last of the reference grid; 0 without any.

    Args:
        first: first row.
        last: row after the last.
        reference: (h, w, C) descriptors of unit length; C a multiple of `vectors.LANES`.
        others: (M, h, w, C) those of the views, interpolated linearly and brought back to unit length.
        homographies: (M, 3, 3) float32, from reference cells to the views' cells for points at infinity.
        translations: (M, 3) float32, what 1/m of inverse depth adds to that.
        centres: (h, w) float32 inverse depths 1/m, or (1, 1) of all cells.
        factors: (P,) float32; a hypothesis is the centre times one of them.
        margin: cells by which the image is larger than the grid, on each side: samples there take the nearest cell.
        scores: (h, w, P) float32 for the result.
        counts: (h, w, P) uint8 for the number of views that have the sample in view.
    """
    height, width, channels = reference.shape
    views, planes = others.shape[0], factors.shape[0]
    shared = centres.size == 1
    inverse_depths = np.empty(planes, np.float32)
    flat = others.reshape(views, -1)
    step, row = np.uintp(channels), np.uintp(channels * width)
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
            for p in range(planes):
                inverse_depths[p] = centre * factors[p]
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
                    product[p], square[p] = _ZERO, _ONE
                    if cell[p] >= 0:
                        at = np.uintp(cell[p]) * step
                        product[p], square[p] = compare_between(
                            here,
                            samples,
                            at,
                            step,
                            row,
                            top_left[p],
                            top_right[p],
                            bottom_left[p],
                            bottom_right[p],
                            step,
                        )
                for p in range(planes):
                    total[p] += product[p] / np.sqrt(max(square[p], _TINY))
            for p in range(planes):
                scores[y, x, p] = total[p] / max(seen[p], _ONE)
                counts[y, x, p] = np.uint8(seen[p])
