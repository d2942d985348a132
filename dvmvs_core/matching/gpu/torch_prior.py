# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The prior depth and its part in the scores, as `matching.prior` has them."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from dvmvs_core.config import MatchingConfig
from dvmvs_core.matching.gpu.packed import NUMBERS
from dvmvs_core.matching.matcher import AGREEING, FULL_WEIGHT, NEAREST_M, OWN_WEIGHT, PREDICTION_WEIGHT
from dvmvs_core.matching.prior import BINS, FARTHEST_BIN_M, NEAREST_BIN_M, STEP

_NOTHING = torch.iinfo(torch.int64).max
_MIN_DIVISOR_M = 1e-8
_TINY = 1e-6


def prior_depth(packed: Tensor, own: Tensor, past: Tensor, median_bins: Callable[..., Tensor]) -> tuple[Tensor, Tensor]:
    """Return the prior (q, r) in metres, and how much of what was measured agrees with it.

    Args:
        packed: of `packed_cameras`.
        own: (q, r) metres that the network says of this view.
        past: (N, 3, q, r) of past views: matched depth, its weight, the network's depth; 0 = none.
        median_bins: `plain_median`, or what does the same.
    """
    count = len(past)
    measured, weight, network = past.unbind(dim=1)
    depths = torch.cat((measured, network))
    weights = torch.cat((weight, torch.full_like(weight, PREDICTION_WEIGHT)))
    cameras = torch.cat((packed[:count], packed[:count]))
    nearest, weights = _splatted(depths, weights, cameras, packed[-1, NUMBERS:])
    return _fused(own, nearest, weights, count, median_bins)


def _splatted(depths: Tensor, weights: Tensor, cameras: Tensor, own_K: Tensor) -> tuple[Tensor, Tensor]:
    """As `reprojection_kernels.splat_maps`: the nearest depth (K, q, r) that falls on each cell, and its weight."""
    count, height, width = depths.shape
    area = height * width
    rows = cameras[..., None, None].unbind(dim=1)
    fx, fy, cx, cy = rows[NUMBERS:]
    x, y = _cells(depths)
    px, py = (x - cx) / fx.clamp(min=_TINY) * depths, (y - cy) / fy.clamp(min=_TINY) * depths
    at_x, at_y, z = (rows[i] * px + rows[i + 1] * py + rows[i + 2] * depths + rows[i + 3] for i in range(0, NUMBERS, 4))
    divisor = torch.where(z.abs() > _MIN_DIVISOR_M, z, 1.0)
    column = (at_x / divisor * own_K[0] + own_K[2]).round()
    row = (at_y / divisor * own_K[1] + own_K[3]).round()
    inside = (depths > 0) & (z > float(NEAREST_M))
    inside &= (column >= 0) & (column < width) & (row >= 0) & (row < height)
    # The bits of a positive number are in its order, so that one minimum finds the nearest point and names it.
    cell = torch.arange(area, device=depths.device)
    key = (z.contiguous().view(torch.int32).long() << 32) | cell.view(height, width)
    key = torch.where(inside, key, _NOTHING).view(count, area)
    # What falls nowhere stays where it was, where it loses against anything.
    target = torch.where(inside, row * width + column, 0).long().view(count, area)
    target = torch.where(inside.view(count, area), target, cell)
    best = torch.full_like(key, _NOTHING).scatter_reduce(1, target, key, "amin")
    hit = best != _NOTHING
    nearest = torch.where(hit, (best >> 32).int().view(torch.float32), 0.0)
    chosen = weights.reshape(count, area).gather(1, torch.where(hit, best & 0xFFFFFFFF, 0))
    return nearest.view_as(depths), torch.where(hit, chosen, 0.0).view_as(depths)


def _fused(
    own: Tensor, nearest: Tensor, weights: Tensor, measured: int, median_bins: Callable[..., Tensor]
) -> tuple[Tensor, Tensor]:
    """As `prior.fuse_rows`, by sorting instead of histograms."""
    low = math.log(NEAREST_BIN_M)
    scale = BINS / (math.log(FARTHEST_BIN_M) - low)
    known = torch.cat((own[None], nearest)).permute(1, 2, 0).contiguous()  # (q, r, 1 + K)
    weights = torch.cat((torch.full_like(own[None], OWN_WEIGHT), weights)).permute(1, 2, 0).contiguous()
    logs = known.clamp(min=_TINY).log()
    bins = ((logs - low) * scale).int().clamp(0, BINS - 1)
    in_order, order = bins.sort(dim=-1, stable=True)
    median = median_bins(in_order, weights.gather(-1, order), weights)[..., None]
    there = torch.where(bins == median, weights, 0.0)
    centre = (there * logs).sum(dim=-1, keepdim=True) / there.sum(dim=-1, keepdim=True)
    agrees = ((logs - centre).abs() < AGREEING) & (known > 0)
    agreeing = torch.where(agrees, weights, 0.0)[..., 1 : measured + 1].sum(dim=-1)
    return centre[..., 0].exp(), agreeing / weights.sum(dim=-1).clamp(min=FULL_WEIGHT)


def parallax(prior: Tensor, matrices: Tensor, cell_pixels: float, margin: float) -> Tensor:
    """Return pixels (q, r) by which a depth step moves a point, see `matching.prior.parallax_rows`.

    Args:
        prior: (q, r) metres.
        matrices: (M, NUMBERS) of the prior's cells.
        cell_pixels: pixels from cell to cell.
        margin: cells by which the image is larger than the grid.
    """
    height, width = prior.shape
    qx, qy, qz, tx, ty, tz = rays_to_views(matrices, prior)
    inverse = 1 / prior
    farther = inverse * float(STEP)
    z, farther_z = qz + tz * inverse, qz + tz * farther
    u, v = (qx + tx * inverse) / z, (qy + ty * inverse) / z
    du, dv = (qx + tx * farther) / farther_z - u, (qy + ty * farther) / farther_z - v
    in_view = (z > _TINY) & (farther_z > _TINY) & _inside(u, v, height, width, margin)
    return torch.where(in_view, du * du + dv * dv, 0.0).amax(dim=0).sqrt() * cell_pixels


def views_of_depth(depth: Tensor, matrices: Tensor, margin: float) -> Tensor:
    """Return how many views have the points of a depth map (h, w) in view, float32."""
    qx, qy, qz, tx, ty, tz = rays_to_views(matrices, depth)
    inverse = 1 / depth
    z = qz + tz * inverse
    u, v = (qx + tx * inverse) / z, (qy + ty * inverse) / z
    return ((z > _TINY) & _inside(u, v, *depth.shape, margin)).sum(dim=0).float()


def penalties(prior: Tensor, agreement: Tensor, parallax: Tensor, log_depths: Tensor, config: MatchingConfig) -> Tensor:
    """Return the penalty (q, r, P) of each plane, see `matching.prior`."""
    farther = log_depths - prior.log()[..., None]
    difference = farther.abs()
    strength = (config.prior_strength + config.prior_trust * agreement)[..., None]
    blind = (-parallax / config.prior_parallax_px).exp()[..., None]
    near = strength * difference.clamp(max=config.prior_reach) + blind * difference.clamp(max=1.0)
    return near + config.far_strength * farther.clamp(min=0)


def weighed(scores: Tensor, counts: Tensor, doubt: float) -> Tensor:
    """Return scores (h, w, P) less their mean at each cell, shrunk where few of the counts (h, w, P) speak."""
    mean = (scores * counts).sum(dim=-1, keepdim=True) / counts.sum(dim=-1, keepdim=True).clamp(min=1)
    most = counts.amax(dim=-1, keepdim=True)
    largest = torch.where(most > 0, most / (most + doubt), 1.0)
    return (scores - mean) * (counts / ((counts + doubt) * largest))


def rays_to_views(matrices: Tensor, cells: Tensor) -> tuple[Tensor, ...]:
    """Return qx, qy, qz (M, h, w) and tx, ty, tz (M, 1, 1): a cell at inverse depth d is at q + d t of a view.

    Args:
        matrices: (M, NUMBERS) homographies, then translations.
        cells: (..., h, w) whose size counts.
    """
    x, y = _cells(cells)
    numbers = matrices[..., None, None].unbind(dim=1)
    rays = (numbers[i] * x + numbers[i + 1] * y + numbers[i + 2] for i in (0, 3, 6))
    return *rays, *numbers[9:]


def _cells(like: Tensor) -> tuple[Tensor, Tensor]:
    """X (1, w) and y (h, 1) of cells."""
    height, width = like.shape[-2:]
    options = {"dtype": torch.float32, "device": like.device}
    return torch.arange(width, **options)[None], torch.arange(height, **options)[:, None]


def _inside(u: Tensor, v: Tensor, height: int, width: int, margin: float) -> Tensor:
    return (u >= -margin) & (v >= -margin) & (u <= width - 1 + margin) & (v <= height - 1 + margin)
