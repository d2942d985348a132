# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What the regulariser is asked, as `matching.regularise` and `measured_around` have it."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from dvmvs_core.matching.gpu.scores import best_elsewhere, quarter_means
from dvmvs_core.matching.measured_around import (
    CLEAR_PARALLAX_PX,
    CLEAR_SCORE,
    FARTHEST_M,
    MIN_WEIGHT,
    NEAREST_M,
    REACHES,
    RIDGE,
)
from dvmvs_core.matching.regularise import (
    COUNTED_VIEWS,
    MAX_MARGIN,
    MAX_VIEWS,
    MIN_AGREED,
    MIN_ALONE,
)
from dvmvs_core.model.regulariser import WINDOW


def rays(K: Tensor, height: int, width: int) -> Tensor:
    """Return x and y (2, q, r) at z = 1 of the rays through the middles of 4 × 4 pixels.

    Args:
        K: (4,) fx, fy, cx, cy in pixels.
        height: q.
        width: r.
    """
    fx, fy, cx, cy = K.unbind()
    x = (4 * torch.arange(width, device=K.device) + 2 - cx) / fx
    y = (4 * torch.arange(height, device=K.device) + 2 - cy) / fy
    return torch.stack((x.expand(height, width), y[:, None].expand(height, width)))


def score_windows(position: Tensor, agreed: Tensor, alone: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return windows (q, r, 2 · WINDOW + 1), those of images alone, and evidence (q, r, 2); see `window_rows`.

    Args:
        position: (q, r) of the matched plane.
        agreed: (h, w, P) after semi-global matching.
        alone: (q, r, P) of images alone, −1…1.
    """
    last = alone.shape[-1] - 1
    less_best = quarter_means((agreed - agreed.amax(dim=-1, keepdim=True)).clamp(min=MIN_AGREED))
    middle = position.round().long()[..., None]
    planes = middle + torch.arange(-WINDOW, WINDOW + 1, device=position.device)
    within = planes.clamp(0, last)
    real = planes == within
    windows = torch.where(real, less_best.gather(-1, within), MIN_AGREED)
    windows_alone = torch.where(real, alone.gather(-1, within), MIN_ALONE)
    chosen = middle.clamp(0, last)
    score = alone.gather(-1, chosen)[..., 0]
    return windows, windows_alone, torch.stack((score, score - best_elsewhere(alone, chosen, MIN_ALONE)), dim=-1)


class FittedPlanes:
    """Planes fitted to clear matches, as `measured_around.fitted_depths`; blurring is a product with matrices.

    Args:
        height: q.
        width: r.
        device: where.
    """

    def __init__(self, height: int, width: int, device: torch.device) -> None:
        self._down, self._across = (
            torch.from_numpy(np.stack([_blurring(size, reach) for reach in REACHES]))[:, None].to(device)
            for size in (height, width)
        )
        coordinates = [
            np.stack([np.arange(size, dtype=np.float32) / np.float32(reach) for reach in REACHES])
            for size in (height, width)
        ]
        self._y = torch.from_numpy(coordinates[0])[:, :, None].to(device)
        self._x = torch.from_numpy(coordinates[1])[:, None].to(device)

    def __call__(self, log_depth: Tensor, score: Tensor, parallax: Tensor) -> tuple[Tensor, Tensor]:
        """Return log depths (2, q, r) by planes of two reaches, and the weight (q, r) of each match."""
        around = functional.avg_pool2d(functional.pad(score[None, None], (1, 1, 1, 1), "reflect"), 3, stride=1)[0, 0]
        weight = (around / CLEAR_SCORE).clamp(0, 1) ** 2 * (parallax / CLEAR_PARALLAX_PX).clamp(max=1)
        planes = self._planes((-log_depth).exp(), weight + MIN_WEIGHT)
        return -planes.clamp(1 / FARTHEST_M, 1 / NEAREST_M).log(), weight

    def _planes(self, values: Tensor, weight: Tensor) -> Tensor:
        x, y = self._x, self._y
        ones = torch.ones_like(values)
        parts = (ones, x, y, values, x * x, x * y, y * y, values * x, values * y)
        moments = torch.stack([weight * part.expand(len(REACHES), *values.shape) for part in parts], dim=1)
        total, *moments = (self._down @ moments @ self._across).unbind(dim=1)
        total = total + 1e-6
        mean_x, mean_y, mean, xx, xy, yy, vx, vy = (moment / total for moment in moments)
        xx, yy, xy = xx - mean_x**2 + RIDGE, yy - mean_y**2 + RIDGE, xy - mean_x * mean_y
        vx, vy = vx - mean * mean_x, vy - mean * mean_y
        slopes = (vx * yy - vy * xy) * (x - mean_x) + (vy * xx - vx * xy) * (y - mean_y)
        return mean + slopes / (xx * yy - xy**2)


def _blurring(size: int, reach: float) -> np.ndarray:
    """The matrix (size, size) that blurs a line by a Gaussian with zeros around it, as cv2.GaussianBlur does."""
    side = round(reach * 8 + 1) | 1
    kernel = cv2.getGaussianKernel(side, reach, cv2.CV_32F)[:, 0]
    return cv2.filter2D(np.eye(size, dtype=np.float32), -1, kernel[None], borderType=cv2.BORDER_CONSTANT)


def regulariser_maps(
    log_depth: Tensor,
    network: Tensor,
    margin: Tensor,
    views: Tensor,
    prior: Tensor,
    agreement: Tensor,
    parallax: Tensor,
    fits: Tensor,
    evidence: Tensor,
    rays: Tensor,
    offset: Tensor,
) -> list[Tensor]:
    """Return the maps of `RegulariserInputs` from `matched` to `rays`, for the arguments of `regularise.Found`.

    Args:
        log_depth: (h, w) matched.
        network: (h, w) log depth.
        margin: (h, w).
        views: (h, w) float32.
        prior: (q, r) metres.
        agreement: (q, r).
        parallax: (q, r) pixels.
        fits: (2, q, r) log depths.
        evidence: (3, q, r).
        rays: (2, q, r).
        offset: () the median of log depth.
    """
    return [
        x.reshape(1, -1, *x.shape[-2:])
        for x in (
            log_depth - offset,
            network - offset,
            margin.clamp(0, MAX_MARGIN),
            views.clamp(max=MAX_VIEWS) / COUNTED_VIEWS,
            prior.log() - offset,
            agreement,
            parallax.log1p(),
            fits - offset,
            evidence,
            rays,
        )
    ]


def median(values: Tensor) -> Tensor:
    """Return the median () of an even number of values, the mean of those in the middle as numpy has it."""
    in_order = values.flatten().sort().values
    middle = len(in_order) // 2
    return (in_order[middle - 1] + in_order[middle]) / 2
