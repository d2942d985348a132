# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Forward re-projection of depth maps on a CPU. Importing this module needs numba.

Symbols: H×W network resolution, K intrinsics (3, 3), a_T_b (4, 4) from the camera b that has the depth to another one.
"""

from __future__ import annotations

import numpy as np

from dvmvs_core.runtime.compiled import compiled, inlined

_ONE, _ZERO = np.float32(1), np.float32(0)
_MIN_DIVISOR_M = np.float32(1e-8)
_MIN_DEPTH_M = np.float32(1e-3)


@inlined
def _landing(a_T_b, K_a, K_b, x, y, depth):
    """Pixel (u, v) and depth z of a point in camera a; a point in its plane is projected as if it were at 1 m."""
    # The order of operations is that of `model.hidden_state`: where a camera stands still, points land halfway between
    # pixels, and the last digit decides.
    px, py = (np.float32(x) - K_b[0, 2]) / K_b[0, 0] * depth, (np.float32(y) - K_b[1, 2]) / K_b[1, 1] * depth
    T = a_T_b
    z = T[2, 0] * px + T[2, 1] * py + T[2, 2] * depth + T[2, 3]
    divisor = z if abs(z) > _MIN_DIVISOR_M else _ONE
    u = (T[0, 0] * px + T[0, 1] * py + T[0, 2] * depth + T[0, 3]) / divisor * K_a[0, 0] + K_a[0, 2]
    v = (T[1, 0] * px + T[1, 1] * py + T[1, 2] * depth + T[1, 3]) / divisor * K_a[1, 1] + K_a[1, 2]
    return u, v, z


@compiled
def splat_maps(first, last, depths, weights, a_T_b, K_a, K_b, min_depth, farthest, splatted, splatted_weights):
    """Z-buffers of depth maps first…last of N, and the weights of the points in them.

    Args:
        first: first map.
        last: map after the last.
        depths: (N, h, w) float32 metres in the cameras b; 0 = none.
        weights: (N, h, w) float32.
        a_T_b: (N, 4, 4) float32.
        K_a: (N, 3, 3) float32, of the cells of the result.
        K_b: (N, 3, 3) float32, of the cells of the depth maps.
        min_depth: metres; points that are not beyond it in camera a are left out.
        farthest: whether the farthest of the points in a cell is kept, as `model.hidden_state.reproject_depth` does,
            instead of the nearest.
        splatted: (N, h', w') float32 for the depth in camera a; 0 where no point falls.
        splatted_weights: (N, h', w') float32 for its weight.
    """
    _, height, width = depths.shape
    _, rows, columns = splatted.shape
    for k in range(first, last):
        target, target_weights = splatted[k], splatted_weights[k]
        target[:] = _ZERO
        target_weights[:] = _ZERO
        for y in range(height):
            for x in range(width):
                depth = depths[k, y, x]
                if depth <= _ZERO:
                    continue
                u, v, z = _landing(a_T_b[k], K_a[k], K_b[k], x, y, depth)
                if z <= min_depth or not (-_ONE < u < columns and -_ONE < v < rows):
                    continue
                column, row = np.int64(np.rint(u)), np.int64(np.rint(v))
                if column < 0 or column >= columns or row < 0 or row >= rows:
                    continue
                before = target[row, column]
                if before == _ZERO or (z > before if farthest else z < before):
                    target[row, column] = z
                    target_weights[row, column] = weights[k, y, x]


@compiled
def agree_rows(first, last, depth, step, past, past_T_ref, K, scale, agreement):
    """Compares the depth of each cell with an earlier prediction, for rows of cells first…last.

    Args:
        first: first row.
        last: row after the last.
        depth: (H, W) metres.
        step: pixels of a cell.
        past: (H, W) the earlier prediction, metres.
        past_T_ref: (4, 4) to the earlier camera.
        K: (3, 3) of both.
        scale: difference of logarithms at which agreement has fallen to 1/e.
        agreement: (h, w, 2); to it are added the agreement, and 1 for each point in view.
    """
    height, width = past.shape
    middle = step // 2
    right_border, bottom_border = np.float32(width - 1), np.float32(height - 1)
    for row in range(first, last):
        for column in range(agreement.shape[1]):
            y, x = row * step + middle, column * step + middle
            u, v, z = _landing(past_T_ref, K, K, x, y, depth[y, x])
            if z > _ZERO and u >= _ZERO and u <= right_border and v >= _ZERO and v <= bottom_border:
                before = max(past[np.int64(np.rint(v)), np.int64(np.rint(u))], _MIN_DEPTH_M)
                difference = abs(np.log(before / max(z, _MIN_DEPTH_M)))
                agreement[row, column, 0] += np.exp(-difference / scale)
                agreement[row, column, 1] += _ONE
