# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The stages that Triton fuses, as torch operators: what the kernels are tested against, and do without.

As `sweep_kernels.sweep_rows`, `matching.semi_global` and `prior.fuse_rows` on a CPU.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dvmvs_core.matching.descriptors import INT8_SCALE
from dvmvs_core.matching.gpu.torch_prior import rays_to_views
from dvmvs_core.matching.matcher import MIN_NORM

EPSILON = 1e-8
"""Added to what is divided by, as the CPU's sweep does."""


def plain_sweep(
    reference: Tensor, views: Tensor, matrices: Tensor, inverse_depths: Tensor, margin: float
) -> tuple[Tensor, Tensor]:
    """Return sums (h, w, P) of cosines over the views that have a point in view, and how many do, float32.

    Args:
        reference: (h, w, C) int8 descriptors.
        views: (M, h, w, C) int8.
        matrices: (M, 12) float32 homographies and translations to the views' cells.
        inverse_depths: (h, w, P) float32 1/m, contiguous or the same for all cells.
        margin: cells around a map, 0 to 1, in which samples are in view; they repeat its outermost cells.
    """
    height, width, channels = reference.shape
    own = reference.float().mul(1 / INT8_SCALE)[:, :, None]
    totals, counts = torch.zeros_like(inverse_depths), torch.zeros_like(inverse_depths)
    rays = rays_to_views(matrices, reference[..., 0])
    for m, view in enumerate(views):
        qx, qy, qz, tx, ty, tz = (part[m][..., None] for part in rays)
        z = qz + tz * inverse_depths
        reciprocal = 1 / (z + EPSILON)
        u, v = (qx + tx * inverse_depths) * reciprocal, (qy + ty * inverse_depths) * reciprocal
        visible = (u >= -margin) & (v >= -margin) & (u <= width - 1 + margin) & (v <= height - 1 + margin) & (z > 0)
        u, v = torch.where(visible, u, 0.0), torch.where(visible, v, 0.0)
        left, top = u.floor(), v.floor()
        across, down = u - left, v - top
        cells, sample = view.reshape(-1, channels), 0
        for dy, dx in ((0, 0), (0, 1), (1, 0), (1, 1)):
            weight = (across if dx else 1 - across) * (down if dy else 1 - down)
            at = (top + dy).clamp(0, height - 1) * width + (left + dx).clamp(0, width - 1)
            sample = sample + weight[..., None] * cells[at.long()].float().mul(1 / INT8_SCALE)
        cosine = (own * sample).sum(dim=-1) / sample.square().sum(dim=-1).sqrt().clamp(min=float(MIN_NORM))
        totals += torch.where(visible, cosine, 0.0)
        counts += visible
    return totals, counts


def plain_paths(scores: Tensor, penalties: Tensor, next_penalty: float) -> Tensor:
    """Return path scores (4, h, w, P) from the left, the right, above and below.

    Args:
        scores: (h, w, P) float32.
        penalties: (2, h, w) of a jump between a cell and the one before it, across and down.
        next_penalty: of going to a neighbouring plane.
    """
    across, down = penalties
    left, right = _both_ways(scores, across, next_penalty)
    above, below = _both_ways(scores.transpose(0, 1), down.T, next_penalty)
    return torch.stack((left, right, above.transpose(0, 1), below.transpose(0, 1)))


def _both_ways(scores: Tensor, penalties: Tensor, next_penalty: float) -> tuple[Tensor, Tensor]:
    """Path scores (n, m, P) along the second axis of scores (n, m, P), forwards and backwards."""
    own = torch.stack((scores, scores.flip(1)))
    # Backwards, the cell before is the next one.
    jumps = torch.stack((penalties, penalties.flip(1).roll(1, dims=1)))[..., None]
    now = own[:, :, 0]
    paths, border = [now], torch.full_like(now[..., :1], -3e38)
    for i in range(1, scores.shape[1]):
        before, best = now, now.amax(dim=-1, keepdim=True)
        lower, upper = torch.cat((border, before[..., :-1]), dim=-1), torch.cat((before[..., 1:], border), dim=-1)
        near = torch.maximum(lower, upper) - next_penalty
        now = own[:, :, i] + (torch.maximum(torch.maximum(near, before), best - jumps[:, :, i]) - best)
        paths.append(now)
    forwards, backwards = torch.stack(paths, dim=2)
    return forwards, backwards.flip(1)


def plain_median(in_order: Tensor, weights_in_order: Tensor, weights: Tensor) -> Tensor:
    """Return the bin (..., ) int32 that holds the weighted median.

    Weights are few different numbers, so that halves of a sum often are equal to the last digit: what is added to what
    has to be as on a CPU, bins first, each in the order of its entries.

    Args:
        in_order: (..., K) int32 bins of the entries, sorted, those of one bin in their first order.
        weights_in_order: (..., K) float32 their weights.
        weights: (..., K) in their first order.
    """
    total = sum(weights.unbind(dim=-1))
    before, there, last = torch.zeros_like(total), torch.zeros_like(total), torch.zeros_like(in_order[..., 0])
    median = torch.full_like(last, -1)
    for at, weight in zip(in_order.unbind(dim=-1), weights_in_order.unbind(dim=-1), strict=True):
        before = torch.where(at != last, before + there, before)
        there = torch.where(at != last, weight, there + weight)
        last = at
        median = torch.where((median < 0) & (before + there >= 0.5 * total), at, median)
    return torch.where(median < 0, last, median)
