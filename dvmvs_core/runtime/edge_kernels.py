# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The loops of edge sharpening on a CPU: what `dvmvs_core.edge_sharpening` computes in many operators.

Importing this module needs numba. Symbols: H×W network resolution.
"""

from __future__ import annotations

import numpy as np

from dvmvs_core.runtime.compiled import compiled

_ZERO, _HALF, _ONE, _TINY = np.float32(0), np.float32(0.5), np.float32(1), np.float32(1e-6)

MIN_WEIGHT = np.float32(1e-4)
"""Of a pixel in the mean of a surface."""


@compiled
def surface_rows(
    first, last, logs, features, nearest, farthest, wide_nearest, wide_farthest, min_range, slanted, stepped, place,
    span, strength, weighed,
):  # fmt: skip
    """How each pixel of rows first…last lies between the nearest and the farthest around it.

    Args:
        first: first row.
        last: row after the last.
        logs: (H, W) log depth.
        features: (4, H, W) colours, 0…1, and their squared norm.
        nearest: (H, W) the lowest log depth around each pixel.
        farthest: (H, W) the highest.
        wide_nearest: (H, W) the lowest within twice the reach.
        wide_farthest: (H, W) the highest.
        min_range: range of log depth up to which nothing changes.
        slanted: range within twice the reach over that within it, of a slanted surface.
        stepped: the same of a step.
        place: (H, W) for 0 at the near surface … 1 at the far one.
        span: (H, W) for the range of log depth.
        strength: (H, W) for how much of a step it is, 0…1.
        weighed: (2, 5, H, W) for the features, and 1, times how far the pixel belongs to the far and near surface.
    """
    for y in range(first, last):
        for x in range(logs.shape[1]):
            own = farthest[y, x] - nearest[y, x]
            clear = min(max(own / min_range - _ONE, _ZERO), _ONE)
            own = max(own, _TINY)
            ratio = (wide_farthest[y, x] - wide_nearest[y, x]) / own
            at = (logs[y, x] - nearest[y, x]) / own
            step = clear * min(max((slanted - ratio) / (slanted - stepped), _ZERO), _ONE)
            span[y, x], place[y, x], strength[y, x] = own, at, step
            weighed[0, 4, y, x] = step * at * at + MIN_WEIGHT
            weighed[1, 4, y, x] = step * (_ONE - at) * (_ONE - at) + MIN_WEIGHT
        for surface in range(2):
            for k in range(4):
                for x in range(logs.shape[1]):
                    weighed[surface, k, y, x] = weighed[surface, 4, y, x] * features[k, y, x]


@compiled
def sharpen_rows(
    first, last, logs, features, place, span, strength, means, noise, colour_weight, max_log_odds, certain_place, moved
):
    """Log depth of rows first…last, of which each pixel near a step has moved towards one of the two surfaces.

    Args:
        first: first row.
        last: row after the last.
        logs: (H, W) log depth.
        features: (4, H, W) as for `surface_rows`, like the next three.
        place: (H, W).
        span: (H, W).
        strength: (H, W).
        means: (2, 5, H, W) of what it weighed, over the pixels around each.
        noise: variance that is added to that of a surface's colours.
        colour_weight: weight of the log odds by colour.
        max_log_odds: their limit.
        certain_place: place from which on none is more certain.
        moved: (H, W) for the result.
    """
    for y in range(first, last):
        for x in range(logs.shape[1]):
            moved[y, x] = logs[y, x]
            if strength[y, x] <= _ZERO:
                continue
            to_far = norm_far = norm_near = _ZERO
            of_far, of_near = _ONE / means[0, 4, y, x], _ONE / means[1, 4, y, x]
            for k in range(3):
                far, near = means[0, k, y, x] * of_far, means[1, k, y, x] * of_near
                to_far += features[k, y, x] * (far - near)
                norm_far += far * far
                norm_near += near * near
            # Half the difference of the squared distances to both means.
            to_far += _HALF * (norm_near - norm_far)
            variance = max(means[0, 3, y, x] * of_far - norm_far, _ZERO)
            variance = _HALF * (variance + max(means[1, 3, y, x] * of_near - norm_near, _ZERO)) + noise
            by_colour = min(max(colour_weight * to_far / variance, -max_log_odds), max_log_odds)
            certain = min(max(place[y, x], certain_place), _ONE - certain_place)
            odds = certain / (_ONE - certain) * np.exp(by_colour)
            target = min(max(place[y, x] + odds / (_ONE + odds) - certain, _ZERO), _ONE)
            moved[y, x] += strength[y, x] * span[y, x] * (target - place[y, x])
