# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The plane sweep on a CPU: at the same depths for all pixels or around a depth of each pixel, in one pass.

Each sample is four loads of neighbouring cells' descriptors, one product and one sum; nothing is stored but the result.
The networks' sweeps and those of matching differ in what is around a map, in what counts as in view, and in whether
samples are brought to unit length. Importing this module needs numba.

Symbols: P planes, M measurement frames, h×w cells of a map, C channels as `sweep.plain_map` pads them.
"""

from __future__ import annotations

import numpy as np

from dvmvs_core.runtime.compiled import compiled

_ONE, _ZERO, _EPSILON, _FAR = np.float32(1), np.float32(0), np.float32(1e-8), np.float32(3e38)

ONE_METRE = ONE = np.ones((1, 1), np.float32)
"""`centres` of a sweep whose factors are inverse depths; `scales` that change nothing."""

FIRST_PLANE = np.zeros((1, 1), np.int32)
"""`starts` of a sweep at all planes."""


@compiled
def sweep_rows(
    first, last, start, step, reference, measurements, homographies, translations, centres, factors, starts, window,
    margin, masked, scales, min_norm, means, counts,
):  # fmt: skip
    """Mean products of descriptors over the measurement frames, for rows first…last of the result.

    As `model.cost_volume.plane_sweep` or `model.ray_matching.match_at_pixels`.

    Args:
        first: first row.
        last: row after the last.
        start: row and column of the first cell that is compared.
        step: cells from one that is compared to the next; the result has h' rows and w' columns of them.
        reference: (h, w, C) descriptors of the reference frame; C a multiple of 8 is fastest.
        measurements: (M, h+2, w+2, C) those of the measurement frames, with a border of one cell.
        homographies: (M, 3, 3) float32, from cells of the reference frame to those of a measurement frame, for points
            at infinity.
        translations: (M, 3) float32, what 1/m of inverse depth adds to that.
        centres: (h', w') float32 inverse depths, 1/m, or (1, 1) of all cells.
        factors: (P,) float32; a hypothesis is the centre times one of them.
        starts: (h', w') int32, the first plane that a cell is swept at, or (1, 1) of all cells.
        window: how many planes each cell is swept at. Less than P leave the others at mean 0 and count 0, and take the
            mean of the swept ones off them, so that 0 is neither good nor bad.
        margin: cells around a map, 0 to 1, in which samples are in view; they mix its outermost cells with the border.
        masked: leave samples out of view out of the mean, instead of counting them as zeros.
        scales: (h', w') float32 factors of the means, or (1, 1) of all cells.
        min_norm: where it is positive, samples are divided by their norms, which are at least this.
        means: (h', w', P) float32 for the result.
        counts: (h', w', P) uint8 for the number of measurement frames that have the point in view; (0, 0, 0) if not
            wanted.
    """
    height, width, channels = reference.shape
    frames, planes = measurements.shape[0], window
    flat = measurements.reshape(frames, -1)
    padded_width = np.int32(width + 2)
    right, below = np.uintp(channels), np.uintp(channels * (width + 2))
    opposite = right + below
    # Bounds on cells of the bordered map, short of where a sample would begin past the border.
    low, edge_x, edge_y = _ONE - margin, np.float32(width + 1), np.float32(height + 1)
    high_x = min(np.float32(width) + margin, np.nextafter(edge_x, _ZERO))
    high_y = min(np.float32(height) + margin, np.nextafter(edge_y, _ZERO))
    nearest_z = _ZERO if masked else -_FAR
    least = min_norm * min_norm  # so written, LLVM takes the reciprocal square root of a whole vector
    normalised, counted = min_norm > _ZERO, counts.shape[0] > 0
    one_centre, one_start, one_scale = centres.size == 1, starts.size == 1, scales.size == 1
    # The loops over the planes of a pixel, which numba turns into vectors, are separate from what cannot be done for
    # several planes at once. Functions of their own take twice as long.
    inverse_depths, cell = np.empty(planes, np.float32), np.empty(planes, np.int32)
    top_left, top_right = np.empty(planes, np.float32), np.empty(planes, np.float32)
    bottom_left, bottom_right = np.empty(planes, np.float32), np.empty(planes, np.float32)
    product, square = np.empty(planes, np.float32), np.empty(planes, np.float32)
    total, in_view = np.empty(planes, np.float32), np.empty(planes, np.float32)
    for row in range(first, last):
        for column in range(means.shape[1]):
            y, x = start + row * step, start + column * step
            total[:] = _ZERO
            in_view[:] = _ZERO
            own = reference[y, x]
            centre = centres[0, 0] if one_centre else centres[row, column]
            plane = starts[0, 0] if one_start else starts[row, column]
            scale = scales[0, 0] if one_scale else scales[row, column]
            swept = factors[plane : plane + planes]
            for p in range(planes):
                inverse_depths[p] = centre * swept[p]
            fx, fy = np.float32(x), np.float32(y)
            for m in range(frames):
                H, t = homographies[m], translations[m]
                qx = H[0, 0] * fx + H[0, 1] * fy + H[0, 2]
                qy = H[1, 0] * fx + H[1, 1] * fy + H[1, 2]
                qz = H[2, 0] * fx + H[2, 1] * fy + H[2, 2]
                tx, ty, tz = t[0], t[1], t[2]
                for p in range(planes):
                    z = qz + tz * inverse_depths[p]
                    reciprocal = _ONE / (z + _EPSILON)
                    u = (qx + tx * inverse_depths[p]) * reciprocal + _ONE
                    v = (qy + ty * inverse_depths[p]) * reciprocal + _ONE
                    visible = (u >= low) & (u <= high_x) & (v >= low) & (v <= high_y) & (z > nearest_z)
                    u = u if visible else _ZERO
                    v = v if visible else _ZERO
                    left, top = np.int32(u), np.int32(v)
                    across, down = u - np.float32(left), v - np.float32(top)
                    both = across * down
                    bottom_right[p], top_right[p], bottom_left[p] = both, across - both, down - both
                    top_left[p] = _ONE - across - (down - both)
                    cell[p] = np.int32(top * padded_width + left) if visible else np.int32(-1)
                    in_view[p] += _ONE if visible else _ZERO
                samples = flat[m]
                if normalised:
                    for p in range(planes):
                        if cell[p] < 0:
                            product[p], square[p] = _ZERO, _ZERO
                            continue
                        at = np.uintp(cell[p]) * right
                        w00, w01, w10, w11 = top_left[p], top_right[p], bottom_left[p], bottom_right[p]
                        dot = norm = _ZERO
                        for c in range(channels):
                            k = at + np.uintp(c)
                            sample = w00 * samples[k] + w01 * samples[k + right]
                            sample += w10 * samples[k + below] + w11 * samples[k + opposite]
                            dot += own[c] * sample
                            norm += sample * sample
                        product[p], square[p] = dot, norm
                    for p in range(planes):
                        total[p] += product[p] / np.sqrt(square[p] if square[p] > least else least)
                else:
                    for p in range(planes):
                        if cell[p] < 0:
                            continue
                        at = np.uintp(cell[p]) * right
                        w00, w01, w10, w11 = top_left[p], top_right[p], bottom_left[p], bottom_right[p]
                        dot = _ZERO
                        for c in range(channels):
                            k = at + np.uintp(c)
                            sample = w00 * samples[k] + w01 * samples[k + right]
                            sample += w10 * samples[k + below] + w11 * samples[k + opposite]
                            dot += own[c] * sample
                        total[p] += dot
            if planes < factors.shape[0]:
                means[row, column] = _ZERO
                if counted:
                    counts[row, column] = 0
                mean = weight = _ZERO
                for p in range(planes):
                    mean += total[p]
                    weight += in_view[p]
                mean /= max(weight, _ONE)
                for p in range(planes):
                    total[p] -= mean * in_view[p]
            swept_means = means[row, column, plane : plane + planes]
            for p in range(planes):
                swept_means[p] = scale * total[p] / (max(in_view[p], _ONE) if masked else np.float32(frames))
            if counted:
                swept_counts = counts[row, column, plane : plane + planes]
                for p in range(planes):
                    swept_counts[p] = np.uint8(in_view[p])
