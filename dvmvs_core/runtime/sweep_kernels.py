# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The plane sweep on a CPU, at the same depths for all pixels or at depths of their own: one pass, one loop.

Each sample is four loads of neighbouring pixels' descriptors, one product and one sum; nothing is stored but the
result. Importing this module needs numba.

Symbols: P planes, M measurement frames, h×w half resolution, C' channels of the matching maps as `matching_maps` pads
them.
"""

from __future__ import annotations

import numpy as np

from dvmvs_core.runtime.compiled import compiled

_ONE, _ZERO, _EPSILON, _FAR = np.float32(1), np.float32(0), np.float32(1e-8), np.float32(3e38)


@compiled
def sweep_rows(
    first, last, start, step, reference, measurements, homographies, translations, planes, depth, masked, scale,
    least_norm, means, counts,
):  # fmt: skip
    """`model.cost_volume.plane_sweep` or `model.ray_matching.match_at_pixels` for rows first…last of the result.

    Args:
        first: first row.
        last: row after the last.
        start: row and column of the first pixel that is compared.
        step: pixels from one that is compared to the next; the result has h' rows and w' columns of them.
        reference: (h, w, C') matching map of the reference frame.
        measurements: (M, h+2, w+2, C') matching maps with a border of zeros.
        homographies: (M, 3, 3) K R K⁻¹ of each measurement frame, to the pixels that are sampled.
        translations: (M, 3) K t.
        planes: (P,) inverse depths in 1/m, or as factors of that of each pixel.
        depth: (2h, 2w) metres of each pixel; (0, 0) where planes are in 1/m.
        masked: leave samples out of view out of the mean, instead of counting them as zeros.
        scale: factor of the products.
        least_norm: where it is positive, both descriptors are divided by their norms, which are at least this.
        means: (h', w', P) receives the mean over the measurement frames.
        counts: (h', w', P) receives how many measurement frames have the point in view; (0, 0, 0) if not wanted.
    """
    height, width, channels = reference.shape
    frames, count = measurements.shape[0], planes.shape[0]
    flat = measurements.reshape(frames, -1)
    padded_width = np.int32(width + 2)
    right, below = np.uintp(channels), np.uintp(channels * (width + 2))
    opposite = right + below
    # Bounds on pixels of the padded map.
    low = _ONE if masked else _ZERO
    high_x, high_y = np.float32(width), np.float32(height)
    if not masked:  # short of where a sample would begin past the border
        high_x, high_y = np.nextafter(high_x + _ONE, _ZERO), np.nextafter(high_y + _ONE, _ZERO)
    nearest_z = _ZERO if masked else -_FAR
    normalised, counted = least_norm > _ZERO, counts.shape[0] > 0
    # The loops over the planes of a pixel, which numba turns into vectors, stand apart from what cannot be done for
    # several planes at once. Functions of their own take twice as long.
    cell = np.empty(count, np.int32)
    top_left, top_right = np.empty(count, np.float32), np.empty(count, np.float32)
    bottom_left, bottom_right = np.empty(count, np.float32), np.empty(count, np.float32)
    inverse_depths = planes.copy()
    total, seen = np.empty(count, np.float32), np.empty(count, np.float32)
    for row in range(first, last):
        for column in range(means.shape[1]):
            y, x = start + row * step, start + column * step
            total[:] = _ZERO
            seen[:] = _ZERO
            own = reference[y, x]
            own_scale = scale
            if normalised:
                squares = _ZERO
                for c in range(channels):
                    squares += own[c] * own[c]
                own_scale = scale / max(np.sqrt(squares), least_norm)
            if depth.shape[0] > 0:
                inverse_depth = _ONE / depth[2 * y, 2 * x]
                for p in range(count):
                    inverse_depths[p] = planes[p] * inverse_depth
            fx, fy = np.float32(x), np.float32(y)
            for m in range(frames):
                H, t = homographies[m], translations[m]
                qx = H[0, 0] * fx + H[0, 1] * fy + H[0, 2]
                qy = H[1, 0] * fx + H[1, 1] * fy + H[1, 2]
                qz = H[2, 0] * fx + H[2, 1] * fy + H[2, 2]
                for p in range(count):
                    z = qz + t[2] * inverse_depths[p]
                    reciprocal = _ONE / (z + _EPSILON)
                    u = (qx + t[0] * inverse_depths[p]) * reciprocal + _ONE
                    v = (qy + t[1] * inverse_depths[p]) * reciprocal + _ONE
                    visible = (u >= low) & (u <= high_x) & (v >= low) & (v <= high_y) & (z > nearest_z)
                    u = u if visible else _ZERO
                    v = v if visible else _ZERO
                    left, top = np.int32(u), np.int32(v)
                    across, down = u - np.float32(left), v - np.float32(top)
                    both = across * down
                    bottom_right[p], top_right[p], bottom_left[p] = both, across - both, down - both
                    top_left[p] = _ONE - across - (down - both)
                    cell[p] = np.int32(top * padded_width + left) if visible else np.int32(-1)
                    seen[p] += _ONE if visible else _ZERO
                samples = flat[m]
                for p in range(count):
                    if cell[p] < 0:
                        continue
                    at = np.uintp(cell[p]) * right
                    w00, w01, w10, w11 = top_left[p], top_right[p], bottom_left[p], bottom_right[p]
                    product = squares = _ZERO
                    if normalised:
                        for c in range(channels):
                            k = np.uintp(c)
                            look = w00 * samples[at + k] + w01 * samples[at + right + k]
                            look += w10 * samples[at + below + k] + w11 * samples[at + opposite + k]
                            product += own[c] * look
                            squares += look * look
                        total[p] += product / max(np.sqrt(squares), least_norm)
                    else:
                        for c in range(channels):
                            k = np.uintp(c)
                            look = w00 * samples[at + k] + w01 * samples[at + right + k]
                            look += w10 * samples[at + below + k] + w11 * samples[at + opposite + k]
                            product += own[c] * look
                        total[p] += product
            for p in range(count):
                means[row, column, p] = own_scale * total[p] / (max(seen[p], _ONE) if masked else np.float32(frames))
            if counted:
                for p in range(count):
                    counts[row, column, p] = seen[p]
