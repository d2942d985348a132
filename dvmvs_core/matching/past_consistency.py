# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What past keyframes' depth says of each plane.

Their depth has to be as it was matched, before such support: depth that already was supported confirms its own errors.
Symbols: (h, w) cells, P planes, M views.
"""

from __future__ import annotations

import numpy as np

from dvmvs_core.runtime.compiled import compiled

_ZERO, _ONE, _HALF, _TINY = np.float32(0), np.float32(1), np.float32(0.5), np.float32(1e-6)
MIN_ASKED = np.float32(3)
"""Support counts in full from so many views on."""


@compiled
def add_support(first, last, depths, homographies, translations, inverse_depths, tolerance, weight, scores):
    """Adds to rows first…last what the views' depth says for each plane, 0…weight.

    Args:
        first: first row.
        last: row after the last.
        depths: (M, h, w) float32 metres of the views; 0 = none.
        homographies: (M, 3, 3) float32 as for `sweep_kernels.sweep_rows`.
        translations: (M, 3) float32.
        inverse_depths: (P,) float32.
        tolerance: relative difference at which a depth no longer speaks for a plane.
        weight: of full support.
        scores: (h, w, P) float32, changed.
    """
    views, height, width = depths.shape
    planes = inverse_depths.shape[0]
    highest_x, highest_y = np.float32(width - 1), np.float32(height - 1)
    support, asked = np.empty(planes, np.float32), np.empty(planes, np.float32)
    flat = depths.reshape(views, -1)
    inverse_tolerance = _ONE / tolerance
    for y in range(first, last):
        for x in range(width):
            support[:] = _ZERO
            asked[:] = _ZERO
            fx, fy = np.float32(x), np.float32(y)
            for m in range(views):
                H, t = homographies[m], translations[m]
                qx = H[0, 0] * fx + H[0, 1] * fy + H[0, 2]
                qy = H[1, 0] * fx + H[1, 1] * fy + H[1, 2]
                qz = H[2, 0] * fx + H[2, 1] * fy + H[2, 2]
                tx, ty, tz = t[0], t[1], t[2]
                there = flat[m]
                for p in range(planes):
                    z = qz + tz * inverse_depths[p]
                    scale = _ONE / max(z, _TINY)
                    u, v = (qx + tx * inverse_depths[p]) * scale, (qy + ty * inverse_depths[p]) * scale
                    visible = (u >= _ZERO) & (u <= highest_x) & (v >= _ZERO) & (v <= highest_y) & (z > _TINY)
                    u, v = u if visible else _ZERO, v if visible else _ZERO
                    depth = there[np.int32(v + _HALF) * np.int32(width) + np.int32(u + _HALF)]
                    known = visible & (depth > _ZERO)
                    # The depth of the hypothesis in the other view is z / inverse depth.
                    off = abs(depth * inverse_depths[p] * scale - _ONE) * inverse_tolerance
                    support[p] += max(_ONE - off, _ZERO) if known else _ZERO
                    asked[p] += _ONE if known else _ZERO
            for p in range(planes):
                scores[y, x, p] += weight * support[p] / max(asked[p], MIN_ASKED)
