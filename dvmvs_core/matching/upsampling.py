# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Grids of matching brought to a finer one: scores linearly, depth guided by the image so that its edges stay sharp.

Symbols: (h, w) cells of the half-resolution grid, centred at pixels 2x; (H, W) = (2h, 2w); P planes.
"""

from __future__ import annotations

import numpy as np

from dvmvs_core.runtime.compiled import compiled

_ZERO, _ONE, _HALF = np.float32(0), np.float32(1), np.float32(0.5)


@compiled
def add_upsampled(first, last, coarse, weight, scores):
    """Adds scores of a quarter-resolution grid, whose cells are centred at pixels 4x + 3, to rows first…last.

    Args:
        first: first row.
        last: row after the last.
        coarse: (h/2, w/2, P) float32.
        weight: factor of them.
        scores: (h, w, P) float32, changed.
    """
    height, width, planes = coarse.shape
    for y in range(first, last):
        at_y = min(max(_HALF * np.float32(y) - np.float32(0.75), _ZERO), np.float32(height - 1))
        top = np.int64(at_y)
        bottom, down = min(top + 1, height - 1), at_y - np.float32(top)
        for x in range(scores.shape[1]):
            at_x = min(max(_HALF * np.float32(x) - np.float32(0.75), _ZERO), np.float32(width - 1))
            left = np.int64(at_x)
            right_x, right = min(left + 1, width - 1), at_x - np.float32(left)
            w11 = weight * right * down
            w01, w10 = weight * right - w11, weight * down - w11
            w00 = weight - w01 - w10 - w11
            for p in range(planes):
                scores[y, x, p] += (
                    w00 * coarse[top, left, p]
                    + w01 * coarse[top, right_x, p]
                    + w10 * coarse[bottom, left, p]
                    + w11 * coarse[bottom, right_x, p]
                )


@compiled
def upsample_depth(first, last, log_depth, guide, image, colour_scale, same_surface, result):
    """Log depth of rows first…last of the image: the mean of the cells around that are of the pixel's own surface.

    The cell that is most like the pixel, in colour and place, names the surface; cells within `same_surface` of it
    belong to it.

    Args:
        first: first row.
        last: row after the last.
        log_depth: (h, w) float32.
        guide: (h, w, 3) float32 colours of the cells, 0…255.
        image: (H, W, 3) uint8.
        colour_scale: mean difference of colour channels at which a cell's weight has fallen to a half.
        same_surface: difference of log depth.
        result: (H, W) float32.
    """
    height, width = log_depth.shape
    weights, depths = np.empty(16, np.float32), np.empty(16, np.float32)
    sharpness = _ONE / (np.float32(9) * colour_scale * colour_scale)
    for y in range(first, last):
        for x in range(image.shape[1]):
            r, g, b = np.float32(image[y, x, 0]), np.float32(image[y, x, 1]), np.float32(image[y, x, 2])
            # Three cells either way of a pixel on a cell, four of one between two: as many on either side.
            left, right, top, bottom = x // 2 - 1, (x + 1) // 2 + 2, y // 2 - 1, (y + 1) // 2 + 2
            count, best, best_weight = 0, 0, _ZERO
            for cy in range(max(top, 0), min(bottom, height)):
                dy = np.float32(cy) - _HALF * np.float32(y)
                for cx in range(max(left, 0), min(right, width)):
                    dx = np.float32(cx) - _HALF * np.float32(x)
                    off = abs(guide[cy, cx, 0] - r) + abs(guide[cy, cx, 1] - g) + abs(guide[cy, cx, 2] - b)
                    colour = _ONE + off * off * sharpness
                    place = _ONE + np.float32(2) * (dx * dx + dy * dy)
                    weight = _ONE / (colour * colour * place * place)
                    weights[count], depths[count] = weight, log_depth[cy, cx]
                    if weight > best_weight:
                        best, best_weight = count, weight
                    count += 1
            seed = depths[best]
            total = weight_sum = _ZERO
            for i in range(count):
                weight = weights[i] if abs(depths[i] - seed) < same_surface else _ZERO
                total += weight * (depths[i] - seed)
                weight_sum += weight
            result[y, x] = seed + total / weight_sum
