# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Forward re-projection of depth maps on a CPU. Importing this module needs numba.

Symbols: H×W network resolution, K intrinsics (3, 3) at H×W, a_T_b (4, 4) from the camera b that has the depth to the
other one.
"""

from __future__ import annotations

import numpy as np

from dvmvs_core.runtime.compiled import compiled

_ONE, _ZERO = np.float32(1), np.float32(0)
_MIN_DIVISOR_M = np.float32(1e-8)
_LEAST_DEPTH_M = np.float32(1e-3)


@compiled
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
def expected_depth(depth, cam_T_previous, half_K, K, expected):
    """`model.hidden_state.reproject_depth` and `lstm_depth_estimate` in one.

    Args:
        depth: (H, W) metres, of the last keyframe.
        cam_T_previous: (4, 4).
        half_K: (3, 3) at half of H×W.
        K: (3, 3).
        expected: (H/32, W/32) receives metres of the farthest point in the top left half-resolution pixel of each
            32×32 block, 0 where no point fell.
    """
    height, width = depth.shape
    half_height, half_width = height // 2, width // 2
    expected[:] = _ZERO
    for y in range(height):
        for x in range(width):
            u, v, z = _landing(cam_T_previous, half_K, K, x, y, depth[y, x])
            if not (-_ONE < u < half_width and -_ONE < v < half_height):
                continue
            column, row = np.int64(np.rint(u)), np.int64(np.rint(v))
            lands = (column >= 0) & (column < half_width) & (row >= 0) & (row < half_height)
            if lands and column % 16 == 0 and row % 16 == 0 and z > expected[row // 16, column // 16]:
                expected[row // 16, column // 16] = z


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
                before = max(past[np.int64(np.rint(v)), np.int64(np.rint(u))], _LEAST_DEPTH_M)
                difference = abs(np.log(before / max(z, _LEAST_DEPTH_M)))
                agreement[row, column, 0] += np.exp(-difference / scale)
                agreement[row, column, 1] += _ONE
