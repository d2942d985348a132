# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The prior depth and its part in the scores: small where parallax lets matching decide, large where there is none.

The prior is a weighted median of what past keyframes and the network say. Past depth is splatted into the current view.
Matched depth counts by its margin, so what many small motions measured adds up; predictions of the network count
little each.

    score −= (strength + trust · agreement) · min(|Δ|, reach) + exp(−parallax / scale) · min(|Δ|, 1) + far · max(Δ, 0)
    Δ = log(plane depth / prior depth)

The first term is capped, so that matching can undo any error of the prior. The last one is there because far planes
look alike: evenly spaced in log depth, they crowd in inverse depth, which is what images measure.

Symbols: (h, w) cells of the half-resolution grid, P planes, M views, K depth maps; the prior has a cell for every 2 × 2
of the cells.
"""

from __future__ import annotations

import numpy as np

from dvmvs_core.runtime.compiled import compiled

_ZERO, _HALF, _ONE, _TINY = np.float32(0), np.float32(0.5), np.float32(1), np.float32(1e-6)

BINS = 128
"""Of the histogram that finds the median."""

NEAREST_BIN_M, FARTHEST_BIN_M = 0.1, 20.0
"""Its range; what is beyond counts in its first or last bin. A bin is 4 % wide."""

STEP = np.float32(0.8)
"""Inverse depth after the step whose parallax counts, over that before it: depth grows by 25 %."""


@compiled
def fuse_rows(first, last, own, own_weight, nearest, weights, measured, tolerance, full_weight, fused, agreement):
    """Weighted median in rows first…last, and how much of what was measured agrees with it.

    Args:
        first: first row.
        last: row after the last.
        own: (h, w) float32 metres that the network says of this view, everywhere above 0.
        own_weight: its weight.
        nearest: (K, h, w) float32 metres of `splat_maps`; 0 = none.
        weights: (K, h, w) float32 their weights.
        measured: how many of the K maps, the first ones, were matched; the others are the network's.
        tolerance: difference of log depth within which values agree.
        full_weight: agreement is 1 where so much weight agrees, or all of a greater one.
        fused: (h, w) float32 metres: the mean of what is in the bin of the median.
        agreement: (h, w) float32, 0…1.
    """
    maps, _, width = nearest.shape
    low = np.log(np.float32(NEAREST_BIN_M))
    scale = np.float32(BINS) / (np.log(np.float32(FARTHEST_BIN_M)) - low)
    histogram = np.empty(BINS, np.float32)
    sums = np.empty(BINS, np.float32)
    logs = np.empty(maps, np.float32)
    for y in range(first, last):
        for x in range(width):
            histogram[:] = _ZERO
            sums[:] = _ZERO
            log_own = np.log(own[y, x])
            at = min(max(np.int32((log_own - low) * scale), np.int32(0)), np.int32(BINS - 1))
            histogram[at] = own_weight
            sums[at] = own_weight * log_own
            total = own_weight
            for k in range(maps):
                if nearest[k, y, x] > _ZERO:
                    logs[k] = np.log(nearest[k, y, x])
                    at = min(max(np.int32((logs[k] - low) * scale), np.int32(0)), np.int32(BINS - 1))
                    histogram[at] += weights[k, y, x]
                    sums[at] += weights[k, y, x] * logs[k]
                    total += weights[k, y, x]
            middle, before, median = _HALF * total, histogram[0], 0
            while before < middle and median < BINS - 1:
                median += 1
                before += histogram[median]
            centre = sums[median] / histogram[median]
            agreeing = _ZERO
            for k in range(measured):
                if nearest[k, y, x] > _ZERO and abs(logs[k] - centre) < tolerance:
                    agreeing += weights[k, y, x]
            fused[y, x] = np.exp(centre)
            agreement[y, x] = agreeing / max(total, full_weight)


@compiled
def parallax_rows(first, last, prior, homographies, translations, cell_pixels, margin, parallax):
    """Pixels by which a depth step of 25 % at the prior depth moves a point in the view where it moves most.

    Args:
        first: first row.
        last: row after the last.
        prior: (h/2, w/2) float32 metres.
        homographies: (M, 3, 3) float32 as for `sweep_kernels.sweep_rows`, of the prior's cells.
        translations: (M, 3) float32.
        cell_pixels: pixels of the image from one cell to the next.
        margin: cells by which the image is larger than the grid, on each side.
        parallax: (h/2, w/2) float32 for the result; 0 where no view sees the point.
    """
    height, width = prior.shape
    views = homographies.shape[0]
    highest_x, highest_y = np.float32(width - 1) + margin, np.float32(height - 1) + margin
    for y in range(first, last):
        fy = np.float32(y)
        for x in range(width):
            fx = np.float32(x)
            inverse = _ONE / prior[y, x]
            largest = _ZERO
            for m in range(views):
                H, t = homographies[m], translations[m]
                qx = H[0, 0] * fx + H[0, 1] * fy + H[0, 2]
                qy = H[1, 0] * fx + H[1, 1] * fy + H[1, 2]
                qz = H[2, 0] * fx + H[2, 1] * fy + H[2, 2]
                z, farther_z = qz + t[2] * inverse, qz + t[2] * inverse * STEP
                if z <= _TINY or farther_z <= _TINY:
                    continue
                u, v = (qx + t[0] * inverse) / z, (qy + t[1] * inverse) / z
                if u < -margin or v < -margin or u > highest_x or v > highest_y:
                    continue
                du = (qx + t[0] * inverse * STEP) / farther_z - u
                dv = (qy + t[1] * inverse * STEP) / farther_z - v
                largest = max(largest, du * du + dv * dv)
            parallax[y, x] = np.sqrt(largest) * cell_pixels


@compiled
def weigh_evidence(first, last, counts, doubt, scores):
    """Scores of rows first…last less their mean at each pixel, and shrunk where few views speak.

    A plane that one view sees has a noisier score than one that many see, and would win by chance:

        score = (score − mean) · n / (n + doubt), over the largest such factor of the pixel

    Args:
        first: first row.
        last: row after the last.
        counts: (h, w, P) uint8 number of views n of each score, or (h/2, w/2, P) for 2 × 2 cells each.
        doubt: views.
        scores: (h, w, P) float32, changed.
    """
    _, width, planes = scores.shape
    coarser = scores.shape[0] // counts.shape[0]
    for y in range(first, last):
        for x in range(width):
            own, views = scores[y, x], counts[y // coarser, x // coarser]
            total, weight = _ZERO, _ZERO
            most = np.uint8(0)
            for p in range(planes):
                n = np.float32(views[p])
                total += own[p] * n
                weight += n
                most = max(most, views[p])
            mean = total / max(weight, _ONE)
            largest = np.float32(most) / (np.float32(most) + doubt) if most else _ONE
            for p in range(planes):
                n = np.float32(views[p])
                own[p] = (own[p] - mean) * (n / ((n + doubt) * largest))


@compiled
def subtract_prior(
    first, last, prior, agreement, parallax, log_depths, strength, trust, reach, parallax_scale, far_strength, scores
):
    """Takes the penalty of each plane off the scores in rows first…last.

    Args:
        first: first row.
        last: row after the last.
        prior: (h/2, w/2) float32 metres.
        agreement: (h/2, w/2) float32, 0…1, of the past that the prior comes from.
        parallax: (h/2, w/2) float32 pixels.
        log_depths: (P,) float32 of the planes.
        strength: penalty of a difference of 1 in log depth.
        trust: what is added to it where the past agrees.
        reach: difference from which on that penalty no longer grows.
        parallax_scale: pixels at which the second penalty has fallen to 1/e.
        far_strength: penalty of a plane whose log depth is 1 greater.
        scores: (h, w, P) float32, changed; or (h/2, w/2, P), of the prior's cells.
    """
    _, width, planes = scores.shape
    coarser = scores.shape[0] // prior.shape[0]
    for y in range(first, last):
        for x in range(width):
            cy, cx = y // coarser, x // coarser
            log_prior = np.log(prior[cy, cx])
            blind = np.exp(-parallax[cy, cx] / parallax_scale)
            own_strength = strength + trust * agreement[cy, cx]
            for p in range(planes):
                farther = log_depths[p] - log_prior
                difference = abs(farther)
                scores[y, x, p] -= (
                    own_strength * min(difference, reach)
                    + blind * min(difference, _ONE)
                    + far_strength * max(farther, _ZERO)
                )


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
