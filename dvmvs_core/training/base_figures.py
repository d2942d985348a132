# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What `base` achieves on held-out clips, beside what its scores alone give.

All figures are errors: less is better. Symbols: B batch, H×W pixels, h×w cells of the score volume.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional

from dvmvs_core.model.score_volume import PARALLAX_DEPTH_M, VOLUME_STRIDE, ScoreVolume
from dvmvs_core.training.base_passes import BaseStep

PARALLAX_BINS = ((0.0, 1.0), (1.0, 4.0), (4.0, float("inf")))
"""Pixels by which a step of 25 % from the true depth moves the point, in the frame where it moves most."""
STEP = 0.15
"""Step of true log depth between neighbours that a prediction should show."""
_WINDOW = 5


@torch.no_grad()
def base_figures(steps: Iterable[BaseStep], planes: Tensor) -> dict[str, float]:
    """Return the mean figures over reference frames.

    Those of the scores alone, aggregated over 5×5 cells, begin with ``scores_``.

    Returns:
        abs_rel; abs_log, the mean error of log depth; off_105 and off_125, the shares of pixels that are off by
        those factors or more; abs_rel of the pixels in each of PARALLAX_BINS; missed_step, the part of the true step
        that is missing at the pixels that have one.
    """
    sums: dict[str, Tensor] = {}
    for step in steps:
        moved = functional.interpolate(step.scores.parallax, scale_factor=float(VOLUME_STRIDE))[:, 0]
        # Sideways motion moves a point in proportion to its inverse depth.
        moved = moved * PARALLAX_DEPTH_M / step.truth.clamp(min=0.1)
        depths = {"": step.prediction.depth.float(), "scores_": scores_depth(step.scores, planes)}
        for prefix, depth in depths.items():
            for name, value in _errors(depth, step.truth, moved).items():
                sums[prefix + name] = sums.get(prefix + name, 0.0) + value
    totals = {name: value.tolist() for name, value in sums.items()}
    return {name: total / count if count else float("nan") for name, (total, count) in totals.items()}


def scores_depth(scores: ScoreVolume, planes: Tensor) -> Tensor:
    """Depth (B, H, W) of the plane with the best score, with nothing learned."""
    mean = functional.avg_pool2d(
        0.5 * (scores.patch + scores.maps), _WINDOW, stride=1, padding=_WINDOW // 2, count_include_pad=False
    )
    depth = planes[mean.argmax(dim=1)].exp()
    return functional.interpolate(depth[:, None], scale_factor=float(VOLUME_STRIDE))[:, 0]


def _errors(depth: Tensor, truth: Tensor, moved: Tensor) -> dict[str, Tensor]:
    """Sum and count of every figure, as (2,)."""
    valid = truth > 0
    safe = torch.where(valid, truth, 1.0)
    relative = (depth - safe).abs() / safe
    ratio = torch.maximum(depth / safe, safe / depth)
    figures = {
        "abs_rel": _sum(relative, valid),
        "abs_log": _sum(ratio.log(), valid),
        "off_105": _sum(ratio >= 1.05, valid),
        "off_125": _sum(ratio >= 1.25, valid),
    }
    for low, high in PARALLAX_BINS:
        inside = valid & (moved >= low) & (moved < high)
        figures[f"abs_rel_parallax_{low:g}_{high:g}"] = _sum(relative, inside)
    return {**figures, "missed_step": _missed_steps(depth.log(), safe.log(), valid)}


def _missed_steps(log_depth: Tensor, log_truth: Tensor, valid: Tensor) -> Tensor:
    total = 0.0
    for axis in (-2, -1):
        both = valid.narrow(axis, 1, valid.shape[axis] - 1) & valid.narrow(axis, 0, valid.shape[axis] - 1)
        true, predicted = log_truth.diff(dim=axis), log_depth.diff(dim=axis)
        sharp = both & (true.abs() > STEP)
        shown = (predicted / torch.where(sharp, true, 1.0)).clamp(0, 1)
        total = total + _sum(1 - shown, sharp)
    return total


def _sum(values: Tensor, chosen: Tensor) -> Tensor:
    return torch.stack([torch.where(chosen, values.double(), 0.0).sum(), chosen.double().sum()])
