# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Brings what matching found of a keyframe to the regulariser, and its answer back.

Symbols: (H, W) pixels, (h, w) = (H/2, W/2) cells of the half-resolution grid, (q, r) = (H/4, W/4), P planes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional

from dvmvs_core.matching.measured_around import fitted_depths
from dvmvs_core.model.regulariser import WINDOW, Regularised, RegulariserInputs
from dvmvs_core.runtime.compiled import compiled
from dvmvs_core.runtime.threads import parallel_rows

MAX_MARGIN, MAX_VIEWS, COUNTED_VIEWS = 2.0, 6, 3.0
"""Margin and number of views from which on more say no more; views that count as 1."""

Regularise = Callable[[RegulariserInputs], Regularised]


class Found(NamedTuple):
    """What matching found of a keyframe.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        K: (3, 3) intrinsics, pixels.
        levels: EfficientNet-Lite0's maps at 1/4, 1/8, 1/16 and 1/32, (1, C, ·, ·).
        log_depth: (h, w) float32, matched.
        network: (h, w) float32 log depth of the network.
        margin: (h, w) float32 of the best plane over the others.
        views: (h, w) number of views that see it.
        prior: (q, r) float32 metres that matching started from.
        agreement: (q, r) float32 of the past with the prior.
        parallax: (q, r) float32 pixels that a depth step of 25 % moves the point.
        scores: (h, w, P) float32 after semi-global matching.
        images_alone: (q, r, P) float32 before the prior.
        nearest: log depth of the first plane.
        step: difference of log depth from plane to plane.
    """

    image: np.ndarray
    K: np.ndarray
    levels: tuple[torch.Tensor, ...]
    log_depth: np.ndarray
    network: np.ndarray
    margin: np.ndarray
    views: np.ndarray
    prior: np.ndarray
    agreement: np.ndarray
    parallax: np.ndarray
    scores: np.ndarray
    images_alone: np.ndarray
    nearest: float
    step: float


def regularised(found: Found, regularise: Regularise) -> tuple[np.ndarray, np.ndarray, torch.Tensor]:
    """Return the depth of a keyframe (H, W) in metres, the log odds (h, w) that it is within 10 %, and the evidence.

    The evidence (EVIDENCE, q, r) is that of `RegulariserInputs`.
    """
    inputs, offset = regulariser_inputs(found)
    answer = regularise(inputs)
    depth = np.exp(answer.log_depth[0, 0].numpy() + np.float32(offset))
    return depth, answer.log_odds[0, 0].numpy(), inputs.evidence[0]


def regulariser_inputs(found: Found) -> tuple[RegulariserInputs, float]:
    """Return the inputs, with B = 1, and what their log depths are relative to.

    The image is not normalised yet and Lite0's maps are not scaled: `prepared` does both.
    """
    height, width = found.prior.shape
    log_cells = _means(found.log_depth)
    windows = np.empty((height, width, 2 * WINDOW + 1), np.float32)
    windows_alone, clear = np.empty_like(windows), np.empty((height, width, 2), np.float32)
    position = ((log_cells - found.nearest) / found.step).astype(np.float32)
    parallel_rows(
        window_rows, height, position, found.scores, found.images_alone, WINDOW, windows, windows_alone, clear
    )
    margin = np.clip(found.margin, 0, MAX_MARGIN)
    fits, weight = fitted_depths(log_cells, clear[..., 0], found.parallax)
    offset = middle(found.log_depth)
    maps = (
        found.log_depth - offset,
        found.network - offset,
        margin,
        np.minimum(found.views, MAX_VIEWS) / np.float32(COUNTED_VIEWS),
        np.log(found.prior) - offset,
        found.agreement,
        np.log1p(found.parallax),
        fits - offset,
        np.concatenate((clear.transpose(2, 0, 1), weight[None])),
        _rays(found.K, height, width),
    )
    channels_last = (windows, windows_alone)
    inputs = RegulariserInputs(
        torch.from_numpy(found.image).permute(2, 0, 1)[None].float(),
        *(torch.from_numpy(np.ascontiguousarray(x, np.float32)).view(1, -1, *x.shape[-2:]) for x in maps),
        *(torch.from_numpy(x).permute(2, 0, 1)[None] for x in channels_last),
        *found.levels,
    )
    return inputs, float(offset)


def middle(log_depth: np.ndarray) -> np.float32:
    """Return the median of log matched depth (h, w), which the regulariser's depths are relative to."""
    return np.float32(np.median(log_depth))


def unregularised(inputs: RegulariserInputs) -> Regularised:
    """Answer with matched depth as it is."""
    full = functional.interpolate(inputs.matched, scale_factor=2.0)
    return Regularised(full, inputs.matched, torch.zeros_like(inputs.matched))


def _means(cells: np.ndarray) -> np.ndarray:
    """Means (q, r) of 2 × 2 cells (h, w)."""
    return (cells[::2, ::2] + cells[::2, 1::2] + cells[1::2, ::2] + cells[1::2, 1::2]) * np.float32(0.25)


def _rays(K: np.ndarray, height: int, width: int) -> np.ndarray:
    """X and y (2, q, r) of the rays through the middles of 4 × 4 pixels, at z = 1."""
    rays = np.empty((2, height, width), np.float32)
    rays[0] = (4 * np.arange(width) + 2 - K[0, 2]) / K[0, 0]
    rays[1] = ((4 * np.arange(height) + 2 - K[1, 2]) / K[1, 1])[:, None]
    return rays


_ZERO, _ONE = np.float32(0), np.float32(1)
_QUARTER = np.float32(0.25)
MIN_AGREED, MIN_ALONE = np.float32(-2), np.float32(-1)
"""Of windows: scores are not lower, and are these beyond the planes."""

_BESIDE = 2


@compiled
def quarter_means(first, last, scores, means):
    """Mean scores of 2 × 2 cells, −1…1, in rows first…last of the result.

    Args:
        first: first row.
        last: row after the last.
        scores: (h, w, P) float32.
        means: (q, r, P) float32 for the result.
    """
    for y in range(first, last):
        for x in range(means.shape[1]):
            upper, lower = scores[2 * y], scores[2 * y + 1]
            for p in range(means.shape[2]):
                total = upper[2 * x, p] + upper[2 * x + 1, p] + lower[2 * x, p] + lower[2 * x + 1, p]
                means[y, x, p] = min(max(_QUARTER * total, MIN_ALONE), _ONE)


@compiled
def window_rows(first, last, position, agreed, alone, reach, windows, windows_alone, evidence):
    """Scores of the planes about the matched one in rows first…last, and how clearly images alone speak for it.

    Args:
        first: first row.
        last: row after the last.
        position: (q, r) float32 of the matched plane.
        agreed: (h, w, P) float32 scores after semi-global matching.
        alone: (q, r, P) float32, see `quarter_means`.
        reach: planes on each side.
        windows: (q, r, 2 · reach + 1) float32 for scores less the best of their cell, −2…0; −2 beyond the planes.
        windows_alone: (q, r, 2 · reach + 1) float32 for those of images alone; −1 beyond the planes.
        evidence: (q, r, 2) float32 for the score of images alone at the matched plane, and that less the best score
            outside of ±2 planes.
    """
    planes = agreed.shape[2]
    best = np.empty(4, np.float32)
    for y in range(first, last):
        for x in range(position.shape[1]):
            middle = np.int64(np.rint(position[y, x]))
            for i in range(4):
                cell = agreed[2 * y + i // 2, 2 * x + i % 2]
                best[i] = cell[0]
                for p in range(1, planes):
                    best[i] = max(best[i], cell[p])
            for k in range(2 * reach + 1):
                p = middle + k - reach
                if p < 0 or p >= planes:
                    windows[y, x, k], windows_alone[y, x, k] = MIN_AGREED, MIN_ALONE
                    continue
                total = _ZERO
                for i in range(4):
                    total += max(agreed[2 * y + i // 2, 2 * x + i % 2, p] - best[i], MIN_AGREED)
                windows[y, x, k] = _QUARTER * total
                windows_alone[y, x, k] = alone[y, x, p]
            chosen = min(max(middle, 0), planes - 1)
            second = MIN_ALONE
            for p in range(planes):
                if abs(p - chosen) > _BESIDE:
                    second = max(second, alone[y, x, p])
            evidence[y, x, 0] = alone[y, x, chosen]
            evidence[y, x, 1] = alone[y, x, chosen] - second
