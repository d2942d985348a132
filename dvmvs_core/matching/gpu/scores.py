# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Scores of planes: averaged, brought to a finer grid, made to agree along lines, and the best of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

_LOWEST, _FLATTEST = -3e38, -1e-6
_BESIDE = 2


class Best(NamedTuple):
    """The best plane of each cell.

    Attributes:
        position: (h, w) float32 the plane, with a fraction.
        margin: (h, w) float32 its score less the best one outside of ±2 planes.
        plane: (h, w) int64.
        agreed: (h, w, P) float32 scores after semi-global matching.
    """

    position: Tensor
    margin: Tensor
    plane: Tensor
    agreed: Tensor


def box_means(scores: Tensor, sides: tuple[int, ...]) -> Tensor:
    """Return the mean over squares of several sides of scores (h, w, P), cut off at the border."""
    planes_first = scores.permute(2, 0, 1)[None]
    means = [
        functional.avg_pool2d(planes_first, side, stride=1, padding=side // 2, count_include_pad=False)
        for side in sides
    ]
    return (sum(means) / len(sides))[0].permute(1, 2, 0).contiguous()


def quarter_means(scores: Tensor) -> Tensor:
    """Return means (q, r, P) of 2 × 2 cells of scores (h, w, P)."""
    return functional.avg_pool2d(scores.permute(2, 0, 1)[None], 2)[0].permute(1, 2, 0).contiguous()


def doubled(cells: Tensor) -> Tensor:
    """Return (2q, 2r, ...) with each of (q, r, ...) for 2 × 2 cells."""
    return cells.repeat_interleave(2, dim=0).repeat_interleave(2, dim=1)


def upsampled(scores: Tensor) -> Tensor:
    """Return (h, w, P) from scores (q, r, P) whose cells are centred at pixels 4x + 3, to cells at 2x: linearly."""
    finer = functional.interpolate(
        scores.permute(2, 0, 1)[None], scale_factor=2.0, mode="bilinear", align_corners=False
    )
    # Torch centres the cells at pixels 4x + 1, which is one cell of the finer grid less.
    moved = functional.pad(finer, (1, 0, 1, 0), "replicate")[..., :-1, :-1]
    return moved[0].permute(1, 2, 0)


def jump_penalties(colours: Tensor, largest: float, least: float, edge: float) -> Tensor:
    """Return penalties (2, h, w) across and down for colours (h, w, 3) float32, see `semi_global.jump_penalties`."""
    left = torch.cat((colours[:, :1], colours[:, :-1]), dim=1)
    above = torch.cat((colours[:1], colours[:-1]), dim=0)
    steps = (colours - torch.stack((left, above))).abs().amax(dim=-1)
    return ((-steps / edge).exp() * largest).clamp(min=least)


def best_planes(scores: Tensor, penalties: Tensor, next_penalty: float, paths: Callable[..., Tensor]) -> Best:
    """Return the best planes of scores (h, w, P) after semi-global matching; see `plane_scores.best_planes`."""
    agreed = paths(scores, penalties, next_penalty).sum(dim=0) * 0.25
    last = agreed.shape[-1] - 1
    best, plane = agreed.max(dim=-1, keepdim=True)
    lower, upper = agreed.gather(-1, (plane - 1).clamp(min=0)), agreed.gather(-1, (plane + 1).clamp(max=last))
    bend = (lower - (best + best) + upper).clamp(max=_FLATTEST)
    offset = ((lower - upper) / (bend + bend)).clamp(-0.5, 0.5)
    offset = torch.where((plane > 0) & (plane < last), offset, 0.0)
    margin = best[..., 0] - best_elsewhere(agreed, plane, _LOWEST)
    return Best((plane + offset)[..., 0], margin, plane[..., 0], agreed)


def best_elsewhere(scores: Tensor, plane: Tensor, least: float) -> Tensor:
    """Return the best of scores (h, w, P) outside of ±2 planes about a plane (h, w, 1)."""
    planes = torch.arange(scores.shape[-1], device=scores.device)
    return torch.where((planes - plane).abs() > _BESIDE, scores, least).amax(dim=-1)
