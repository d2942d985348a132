# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Loops that numba compiles to machine code: each works on a band of rows, holds no lock and makes no large array.

Images are (h, w, C) with the channels of a pixel side by side, so that one vector instruction takes 8 or 16 of them.
Importing this module needs numba.

Symbols: D depth hypotheses, M measurement frames, h×w half resolution.
"""

from __future__ import annotations

import numpy as np

from dvmvs_core.runtime.compiled import compiled
from dvmvs_core.runtime.sampling import match_between

_ONE, _ZERO, _EPSILON, _FAR = np.float32(1), np.float32(0), np.float32(1e-8), np.float32(3e38)
_MIN_DIVISOR_M = np.float32(1e-8)


@compiled
def sweep_rows(first, last, reference, measurements, homographies, translations, inverse_depths, masked, costs, offset):
    """Plane sweep of rows first…last of the reference frame, over all planes and measurement frames in one pass.

    Args:
        first: first row.
        last: row after the last.
        reference: (h, w, C) matching map, already divided by the number of real channels; C a multiple of
            `vectors.LANES`.
        measurements: (M, h+2, w+2, C) matching maps with a border of zeros.
        homographies: (M, 3, 3) K R K⁻¹ of each measurement frame, to the pixels that are sampled.
        translations: (M, 3) K t.
        inverse_depths: (D,) 1/m.
        masked: leave samples out of view out of the mean, instead of counting them as zeros.
        costs: (h, w, at least offset+D) receives the mean correlation.
        offset: channel of `costs` for plane 0.
    """
    height, width, channels = reference.shape
    frames, planes = measurements.shape[0], inverse_depths.shape[0]
    flat = measurements.reshape(frames, -1)
    padded_width = np.int32(width + 2)
    step, row = np.uintp(channels), np.uintp(channels * (width + 2))
    # Bounds on pixels of the padded map.
    low = _ONE if masked else _ZERO
    high_x, high_y = np.float32(width), np.float32(height)
    if not masked:
        high_x, high_y = high_x + _ONE, high_y + _ONE
    nearest_z = _ZERO if masked else -_FAR
    cell = np.empty(planes, np.int32)
    top_left, top_right = np.empty(planes, np.float32), np.empty(planes, np.float32)
    bottom_left, bottom_right = np.empty(planes, np.float32), np.empty(planes, np.float32)
    total, seen = np.empty(planes, np.float32), np.empty(planes, np.float32)
    for y in range(first, last):
        for x in range(width):
            total[:] = _ZERO
            seen[:] = _ZERO
            here = reference[y, x]
            for m in range(frames):
                H, t = homographies[m], translations[m]
                fx, fy = np.float32(x), np.float32(y)
                qx = H[0, 0] * fx + H[0, 1] * fy + H[0, 2]
                qy = H[1, 0] * fx + H[1, 1] * fy + H[1, 2]
                qz = H[2, 0] * fx + H[2, 1] * fy + H[2, 2]
                for d in range(planes):
                    z = qz + t[2] * inverse_depths[d]
                    scale = _ONE / (z + _EPSILON)
                    u = (qx + t[0] * inverse_depths[d]) * scale + _ONE
                    v = (qy + t[1] * inverse_depths[d]) * scale + _ONE
                    visible = (u >= low) & (u <= high_x) & (v >= low) & (v <= high_y) & (z > nearest_z)
                    u = u if visible else _ZERO
                    v = v if visible else _ZERO
                    left, top = np.int32(u), np.int32(v)
                    right, down = u - np.float32(left), v - np.float32(top)
                    both = right * down
                    bottom_right[d], top_right[d], bottom_left[d] = both, right - both, down - both
                    top_left[d] = _ONE - right - (down - both)
                    cell[d] = np.int32(top * padded_width + left) if visible else np.int32(-1)
                    seen[d] += _ONE if visible else _ZERO
                samples = flat[m]
                for d in range(planes):
                    if cell[d] < 0:
                        continue
                    at = np.uintp(cell[d]) * step
                    total[d] += match_between(
                        here, samples, at, step, row, top_left[d], top_right[d], bottom_left[d], bottom_right[d], step
                    )
            for d in range(planes):
                count = max(seen[d], _ONE) if masked else np.float32(frames)
                costs[y, x, offset + d] = total[d] / count


@compiled
def upsample_rows(first, last, source, target, offset):
    """Bilinear ×2 with aligned corners of (h, w, C) into channels offset… of target (2h, 2w, …), its rows first…last.

    The last sample of a row or column lies on the border, where both neighbours are the same pixel.
    """
    height, width, channels = source.shape
    flat, merged = source.reshape(-1), target.reshape(-1)
    scale_y = np.float32((height - 1) / (2 * height - 1))
    scale_x = np.float32((width - 1) / (2 * width - 1))
    for y in range(first, last):
        at_y = np.float32(y) * scale_y
        top = min(np.int64(at_y), height - 1)
        bottom = min(top + 1, height - 1)
        down = at_y - np.float32(top)
        for x in range(2 * width):
            at_x = np.float32(x) * scale_x
            left = min(np.int64(at_x), width - 1)
            next_x = min(left + 1, width - 1)
            right = at_x - np.float32(left)
            w11 = right * down
            w01, w10 = right - w11, down - w11
            w00 = _ONE - right - w10
            i00, i01 = np.uintp((top * width + left) * channels), np.uintp((top * width + next_x) * channels)
            i10, i11 = np.uintp((bottom * width + left) * channels), np.uintp((bottom * width + next_x) * channels)
            to = np.uintp((y * 2 * width + x) * target.shape[2] + offset)
            for c in range(channels):
                k = np.uintp(c)
                value = w00 * flat[i00 + k] + w01 * flat[i01 + k] + w10 * flat[i10 + k] + w11 * flat[i11 + k]
                merged[to + k] = value


@compiled
def copy_rows(first, last, source, target, offset):
    """Copies (h, w, C) into channels offset… of target (h, w, …), its rows first…last."""
    width, channels = source.shape[1], source.shape[2]
    flat, merged = source.reshape(-1), target.reshape(-1)
    for pixel in range(first * width, last * width):
        at, to = np.uintp(pixel * channels), np.uintp(pixel * target.shape[2] + offset)
        for c in range(channels):
            merged[to + np.uintp(c)] = flat[at + np.uintp(c)]


@compiled
def expected_depth(depth, cam_T_previous, K, half_K, expected):
    """Farthest point of the last depth map in the top left half-resolution pixel of each 32×32 block of the new view.

    Args:
        depth: (H, W) metres, of the last keyframe.
        cam_T_previous: (4, 4).
        K: (3, 3) at H×W.
        half_K: (3, 3) at half of it.
        expected: (H/32, W/32) receives metres, 0 where no point fell.
    """
    height, width = depth.shape
    expected[:] = _ZERO
    T = cam_T_previous
    half_height, half_width = height // 2, width // 2
    for y in range(height):
        ray_y = (np.float32(y) - K[1, 2]) / K[1, 1]
        for x in range(width):
            ray_x = (np.float32(x) - K[0, 2]) / K[0, 0]
            d = depth[y, x]
            px, py = ray_x * d, ray_y * d
            z = T[2, 0] * px + T[2, 1] * py + T[2, 2] * d + T[2, 3]
            divisor = z if abs(z) > _MIN_DIVISOR_M else _ONE
            u = (T[0, 0] * px + T[0, 1] * py + T[0, 2] * d + T[0, 3]) / divisor * half_K[0, 0] + half_K[0, 2]
            v = (T[1, 0] * px + T[1, 1] * py + T[1, 2] * d + T[1, 3]) / divisor * half_K[1, 1] + half_K[1, 2]
            if not (-_ONE < u < half_width and -_ONE < v < half_height):
                continue
            column, row = np.int64(np.rint(u)), np.int64(np.rint(v))
            lands = (column >= 0) & (column < half_width) & (row >= 0) & (row < half_height)
            if lands and column % 16 == 0 and row % 16 == 0 and z > expected[row // 16, column // 16]:
                expected[row // 16, column // 16] = z
