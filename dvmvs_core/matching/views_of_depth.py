# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""In how many views a depth map is.

Symbols: (h, w) cells, M views.
"""

from __future__ import annotations

import numpy as np

from dvmvs_core.runtime.compiled import compiled

_ONE, _TINY = np.float32(1), np.float32(1e-6)


@compiled
def count_views(first, last, depth, homographies, translations, margin, counts):
    """Number of views that have the points of a depth map in view, in rows first…last.

    Args:
        first: first row.
        last: row after the last.
        depth: (h, w) float32 metres.
        homographies: (M, 3, 3) float32 as for `sweep_kernels.sweep_rows`.
        translations: (M, 3) float32.
        margin: cells by which the image is larger than the grid, on each side.
        counts: (h, w) uint8 for the result.
    """
    height, width = depth.shape
    highest_x, highest_y = np.float32(width - 1) + margin, np.float32(height - 1) + margin
    for y in range(first, last):
        fy = np.float32(y)
        for x in range(width):
            fx = np.float32(x)
            inverse = _ONE / depth[y, x]
            count = 0
            for m in range(homographies.shape[0]):
                H, t = homographies[m], translations[m]
                z = H[2, 0] * fx + H[2, 1] * fy + H[2, 2] + t[2] * inverse
                if z <= _TINY:
                    continue
                u = (H[0, 0] * fx + H[0, 1] * fy + H[0, 2] + t[0] * inverse) / z
                v = (H[1, 0] * fx + H[1, 1] * fy + H[1, 2] + t[1] * inverse) / z
                if -margin <= u <= highest_x and -margin <= v <= highest_y:
                    count += 1
            counts[y, x] = count
