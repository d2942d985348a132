# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The loops of confidence on a CPU: what `dvmvs_core.confidence` computes in many operators, in few passes.

Symbols: h×w cells, P planes (the prediction's first), S neighbourhoods, C channels, H×W network resolution.
"""

from __future__ import annotations

import numpy as np

from dvmvs_core.runtime.compiled import compiled

_ZERO, _ONE, _HALF = np.float32(0), np.float32(1), np.float32(0.5)
_LEAST_Z_M = np.float32(1e-6)
_LEAST_DEPTH_M = np.float32(1e-3)


@compiled
def match_rows(first, last, depth, step, planes, reference, looks, homography, translation, least_norm, matched):
    """Compares the look of each cell with looks along its ray in one measurement frame, for rows of cells first…last.

    Args:
        first: first row of cells.
        last: row after the last.
        depth: (H, W) metres; the middle pixel of each cell counts.
        step: pixels of a cell.
        planes: (P,) inverse depths as factors of the predicted one.
        reference: (H/2, W/2, C) matching map of the reference frame.
        looks: (H/2, W/2, C) that of the measurement frame.
        homography: (3, 3) from pixels of the depth map to those of the matching map, at infinity.
        translation: (3,) what an inverse depth of 1 adds.
        least_norm: norm of a look that counts in full.
        matched: (h, w, 2P); to it are added the cosines, and 1 for each point in view.
    """
    height, width, channels = looks.shape
    flat = looks.reshape(-1)
    count, middle = len(planes), step // 2
    right_border, bottom_border = np.float32(width - 1), np.float32(height - 1)
    H, t = homography, translation
    own = np.empty(channels, np.float32)
    for row in range(first, last):
        for column in range(matched.shape[1]):
            y, x = row * step + middle, column * step + middle
            inverse_depth = _ONE / depth[y, x]
            squares = _ZERO
            for c in range(channels):
                own[c] = reference[y // 2, x // 2, c]
                squares += own[c] * own[c]
            own_norm = max(np.sqrt(squares), least_norm)
            fx, fy = np.float32(x), np.float32(y)
            qx = H[0, 0] * fx + H[0, 1] * fy + H[0, 2]
            qy = H[1, 0] * fx + H[1, 1] * fy + H[1, 2]
            qz = H[2, 0] * fx + H[2, 1] * fy + H[2, 2]
            for p in range(count):
                inverse = inverse_depth * planes[p]
                z = qz + t[2] * inverse
                scale = _ONE / max(z, _LEAST_Z_M)
                u, v = (qx + t[0] * inverse) * scale, (qy + t[1] * inverse) * scale
                if not (z > _ZERO and u >= _ZERO and u <= right_border and v >= _ZERO and v <= bottom_border):
                    continue
                left, top = min(np.int64(u), width - 2), min(np.int64(v), height - 2)
                right, down = u - np.float32(left), v - np.float32(top)
                w11 = right * down
                w01, w10 = right - w11, down - w11
                w00 = _ONE - right - w10
                at = np.uintp((top * width + left) * channels)
                below = at + np.uintp(width * channels)
                product = squares = _ZERO
                for c in range(channels):
                    k, beside = np.uintp(c), np.uintp(c + channels)
                    look = w00 * flat[at + k] + w01 * flat[at + beside]
                    look += w10 * flat[below + k] + w11 * flat[below + beside]
                    product += own[c] * look
                    squares += look * look
                matched[row, column, p] += product / (own_norm * max(np.sqrt(squares), least_norm))
                matched[row, column, count + p] += _ONE


@compiled
def agree_rows(first, last, depth, step, past, homography, translation, scale, agreement):
    """Compares the depth of each cell with an earlier prediction, for rows of cells first…last.

    Args:
        first: first row of cells.
        last: row after the last.
        depth: (H, W) metres.
        step: pixels of a cell.
        past: (H, W) the earlier prediction, metres.
        homography: (3, 3) from pixels to those of the earlier camera, at infinity.
        translation: (3,) what an inverse depth of 1 adds.
        scale: difference of logarithms at which agreement has fallen to 1/e.
        agreement: (h, w, 2); to it are added the agreement, and 1 for each point in view.
    """
    height, width = past.shape
    middle = step // 2
    right_border, bottom_border = np.float32(width - 1), np.float32(height - 1)
    H, t = homography, translation
    for row in range(first, last):
        for column in range(agreement.shape[1]):
            y, x = row * step + middle, column * step + middle
            d, fx, fy = depth[y, x], np.float32(x), np.float32(y)
            z = d * (H[2, 0] * fx + H[2, 1] * fy + H[2, 2]) + t[2]
            inverse = _ONE / max(z, _LEAST_Z_M)
            u = (d * (H[0, 0] * fx + H[0, 1] * fy + H[0, 2]) + t[0]) * inverse
            v = (d * (H[1, 0] * fx + H[1, 1] * fy + H[1, 2]) + t[1]) * inverse
            if z > _ZERO and u >= _ZERO and u <= right_border and v >= _ZERO and v <= bottom_border:
                before = max(past[np.int64(np.rint(v)), np.int64(np.rint(u))], _LEAST_DEPTH_M)
                difference = abs(np.log(before / max(z, _LEAST_DEPTH_M)))
                agreement[row, column, 0] += np.exp(-difference / scale)
                agreement[row, column, 1] += _ONE


@compiled
def sum_above_left(matched, sums):
    """Sums (h+1, w+1, …) of all of (h, w, …) that lies above and to the left."""
    height, width, count = matched.shape
    sums[0] = _ZERO
    for y in range(height):
        sums[y + 1, 0] = _ZERO
        for x in range(width):
            for i in range(count):
                beside = sums[y + 1, x, i] + sums[y, x + 1, i] - sums[y, x, i]
                sums[y + 1, x + 1, i] = beside + matched[y, x, i]


@compiled
def rate_rows(
    first, last, depth, step, sums, agreement, planes, fine, coarse, sides, sharpness, edge, weights, bias, rated
):
    """Logistic regression on the cues of each cell of rows first…last.

    Args:
        first: first row of cells.
        last: row after the last.
        depth: (H, W) metres.
        step: pixels of a cell.
        sums: (h+1, w+1, 2P) sums of what `match_rows` found over all that lies above and to the left.
        agreement: (h, w, 2) from `agree_rows`.
        planes: (P,) inverse depths as factors of the predicted one.
        fine: the two planes beside the prediction.
        coarse: the two next ones.
        sides: (S,) cells a side of the neighbourhoods.
        sharpness: of the mean shift.
        edge: cells a side in which depth edges are looked for.
        weights: (S + 1, 4) of similarity, fine peak, coarse peak and shift over each neighbourhood; in the last row of
            agreement, of no confirmation and of edges.
        bias: log odds where all cues are 0.
        rated: (h, w, 2) receives the confidence, and 1 where a measurement frame has the cell in view.
    """
    height, width, _ = rated.shape
    count, middle, reach = len(planes), step // 2, edge // 2
    shifts = np.abs(np.log(planes))
    near = np.empty(count, np.float32)
    for y in range(first, last):
        for x in range(width):
            confirmations = agreement[y, x, 1]
            odds = bias + weights[-1, 0] * agreement[y, x, 0] / max(confirmations, _ONE)
            odds += weights[-1, 1] * (_ONE - min(confirmations, _ONE))
            for s in range(len(sides)):
                half = sides[s] // 2
                top, bottom = max(y - half, 0), min(y + half + 1, height)
                left, right = max(x - half, 0), min(x + half + 1, width)
                for p in range(count):
                    i = count + p
                    total = sums[bottom, right, p] - sums[top, right, p] - sums[bottom, left, p] + sums[top, left, p]
                    seen = sums[bottom, right, i] - sums[top, right, i] - sums[bottom, left, i] + sums[top, left, i]
                    near[p] = total / max(seen, _ONE)
                odds += weights[s, 0] * near[0]
                odds += weights[s, 1] * (near[0] - max(near[fine[0]], near[fine[1]]))
                odds += weights[s, 2] * (near[0] - max(near[coarse[0]], near[coarse[1]]))
                if weights[s, 3] != _ZERO:
                    best, shift, total = near[0], _ZERO, _ZERO
                    for p in range(1, count):
                        best = max(best, near[p])
                    for p in range(count):
                        share = np.exp((near[p] - best) * sharpness)
                        shift += share * shifts[p]
                        total += share
                    odds += weights[s, 3] * shift / total
            nearest = farthest = depth[y * step + middle, x * step + middle]
            for i in range(max(y - reach, 0), min(y + reach + 1, height)):
                for j in range(max(x - reach, 0), min(x + reach + 1, width)):
                    d = depth[i * step + middle, j * step + middle]
                    nearest, farthest = min(nearest, d), max(farthest, d)
            odds += weights[-1, 2] * np.log(farthest / nearest)
            rated[y, x, 0] = _ONE / (_ONE + np.exp(-odds))
            frames = sums[y + 1, x + 1, count] - sums[y, x + 1, count] - sums[y + 1, x, count] + sums[y, x, count]
            rated[y, x, 1] = _ONE if frames > _HALF else _ZERO


@compiled
def confidence_rows(first, last, rated, confidence):
    """Confidence of pixels, linear between the cells (h, w, 2) of `rate_rows`, for rows first…last of (H, W).

    A pixel whose own cell is in no view gets 0.
    """
    height, width, _ = rated.shape
    scale_y, scale_x = np.float32(height / confidence.shape[0]), np.float32(width / confidence.shape[1])
    for y in range(first, last):
        at_y = max((np.float32(y) + _HALF) * scale_y - _HALF, _ZERO)
        top = np.int64(at_y)
        bottom, down = min(top + 1, height - 1), at_y - np.float32(top)
        own_row = np.int64(np.float32(y) * scale_y)
        for x in range(confidence.shape[1]):
            at_x = max((np.float32(x) + _HALF) * scale_x - _HALF, _ZERO)
            left = np.int64(at_x)
            next_x, right = min(left + 1, width - 1), at_x - np.float32(left)
            upper = rated[top, left, 0] * (_ONE - right) + rated[top, next_x, 0] * right
            lower = rated[bottom, left, 0] * (_ONE - right) + rated[bottom, next_x, 0] * right
            in_view = rated[own_row, np.int64(np.float32(x) * scale_x), 1]
            confidence[y, x] = (upper * (_ONE - down) + lower * down) * in_view
