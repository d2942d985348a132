# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The sweep of descriptors, semi-global matching and the search of a median as one kernel each.

A sweep's program takes some cells and one plane; nothing is stored but the sums. A path's program walks one row or
column one way, with the planes across its lanes. A median's takes some cells. Importing this module needs Triton.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from dvmvs_core.matching.descriptors import INT8_SCALE
from dvmvs_core.matching.gpu.plain_kernels import EPSILON
from dvmvs_core.matching.matcher import MIN_NORM
from dvmvs_core.runtime.triton_sweep import bilinear_samples

CELLS = 32
"""Cells of one program of the sweep."""

WARP = 32


@triton.jit
def _sweep_kernel(
    reference,  # (h, w, C) int8
    views,  # (M, h, w, C) int8
    matrices,  # (M, 12): homography, then translation
    inverse_depths,
    totals,  # (h, w, P)
    counts,  # (h, w, P)
    height,
    width,
    planes,
    cell_stride,
    plane_stride,
    margin,
    scale,
    min_norm,
    epsilon,
    frames: tl.constexpr,
    channels: tl.constexpr,
    block: tl.constexpr,
):
    plane = tl.program_id(1)
    cell = tl.program_id(0) * block + tl.arange(0, block)
    area = height * width
    real = cell < area
    lanes = tl.arange(0, channels)
    column = (cell % width).to(tl.float32)
    row = (cell // width).to(tl.float32)
    inverse_depth = tl.load(inverse_depths + cell * cell_stride + plane * plane_stride, mask=real, other=1.0)
    own = tl.load(reference + cell[:, None] * channels + lanes[None, :], mask=real[:, None], other=0)
    own = own.to(tl.float32) * scale
    total = tl.zeros([block], tl.float32)
    count = tl.zeros([block], tl.float32)
    for m in range(frames):
        H = matrices + m * 12
        z = tl.load(H + 6) * column + tl.load(H + 7) * row + tl.load(H + 8) + tl.load(H + 11) * inverse_depth
        reciprocal = 1.0 / (z + epsilon)
        u = tl.load(H) * column + tl.load(H + 1) * row + tl.load(H + 2) + tl.load(H + 9) * inverse_depth
        v = tl.load(H + 3) * column + tl.load(H + 4) * row + tl.load(H + 5) + tl.load(H + 10) * inverse_depth
        u = u * reciprocal
        v = v * reciprocal
        visible = real & (z > 0) & (u >= -margin) & (u <= width - 1 + margin)
        visible = visible & (v >= -margin) & (v <= height - 1 + margin)
        view = views + m * area * channels
        sample = bilinear_samples(view, u, v, visible, lanes, channels, width, height, repeated=True) * scale
        norm = tl.maximum(tl.sqrt(tl.sum(sample * sample, axis=1)), min_norm)
        total += tl.sum(own * sample, axis=1) / norm
        count += tl.where(visible, 1.0, 0.0)
    tl.store(totals + cell * planes + plane, total, mask=real)
    tl.store(counts + cell * planes + plane, count, mask=real)


def triton_sweep(
    reference: Tensor, views: Tensor, matrices: Tensor, inverse_depths: Tensor, margin: float
) -> tuple[Tensor, Tensor]:
    """As `plain_sweep`; C is a power of two."""
    height, width, channels = reference.shape
    planes = inverse_depths.shape[-1]
    totals, counts = (torch.empty((height, width, planes), device=reference.device) for _ in range(2))
    _, cell_stride, plane_stride = inverse_depths.stride()
    _sweep_kernel[(triton.cdiv(height * width, CELLS), planes)](
        reference,
        views,
        matrices,
        inverse_depths,
        totals,
        counts,
        height,
        width,
        planes,
        cell_stride,
        plane_stride,
        float(margin),
        1 / INT8_SCALE,
        float(MIN_NORM),
        EPSILON,
        frames=len(views),
        channels=channels,
        block=CELLS,
    )
    return totals, counts


@triton.jit
def _paths_kernel(
    scores,  # (h, w, P)
    penalties,  # (2, h, w): across, down
    paths,  # (4, h, w, P)
    height,
    width,
    planes,
    next_penalty,
    longest: tl.constexpr,
    block: tl.constexpr,
):
    line = tl.program_id(0)
    across = line < 2 * height
    number = tl.where(across, line, line - 2 * height) // 2
    backwards = line % 2
    length = tl.where(across, width, height)
    apart = tl.where(across, 1, width)
    first = tl.where(across, number * width, number)
    area = height * width
    way = tl.where(across, 0, 2) + backwards
    cell = first + backwards * (length - 1) * apart
    step = apart - 2 * backwards * apart
    # The penalty between two cells stands at the later one of the row or column.
    jumps = penalties + tl.where(across, 0, area) + backwards * apart
    paths += way * area * planes
    lanes = tl.arange(0, block)
    real = lanes < planes
    below = tl.maximum(lanes - 1, 0)
    above = tl.minimum(lanes + 1, block - 1)
    before = tl.load(scores + cell * planes + lanes, mask=real, other=-3e38)
    tl.store(paths + cell * planes + lanes, before, mask=real)
    # Limits, since the newest interpreter takes no mask of a scalar and a block.
    own = tl.load(scores + (cell + step) * planes + lanes, mask=lanes < tl.where(length > 1, planes, 0), other=-3e38)
    for i in range(1, longest):
        cell += step
        within = i < length
        # Loaded a step ahead, since nothing else hides how long memory takes.
        ahead = lanes < tl.where(i + 1 < length, planes, 0)
        upcoming = tl.load(scores + (cell + step) * planes + lanes, mask=ahead, other=-3e38)
        penalty = tl.load(jumps + cell, mask=within, other=0.0)
        best = tl.max(before, axis=0)
        lower = tl.where(lanes > 0, tl.gather(before, below, 0), -3e38)
        upper = tl.where(lanes < block - 1, tl.gather(before, above, 0), -3e38)
        near = tl.maximum(lower, upper) - next_penalty
        now = own + (tl.maximum(tl.maximum(near, before), best - penalty) - best)
        before = tl.where(real, now, -3e38)
        tl.store(paths + cell * planes + lanes, before, mask=lanes < tl.where(within, planes, 0))
        own = upcoming


def triton_paths(scores: Tensor, penalties: Tensor, next_penalty: float) -> Tensor:
    """As `plain_paths`."""
    height, width, planes = scores.shape
    paths = torch.empty((4, height, width, planes), device=scores.device)
    _paths_kernel[(2 * (height + width),)](
        scores,
        penalties,
        paths,
        height,
        width,
        planes,
        next_penalty,
        longest=max(height, width),
        block=max(WARP, triton.next_power_of_2(planes)),
        num_warps=1,
    )
    return paths


@triton.jit
def _median_kernel(
    in_order,  # (cells, K) int32 bins
    weights_in_order,  # (cells, K)
    weights,  # (cells, K)
    medians,  # (cells,) int32
    cells,
    entries: tl.constexpr,
    block: tl.constexpr,
):
    cell = tl.program_id(0) * block + tl.arange(0, block)
    real = cell < cells
    total = tl.zeros([block], tl.float32)
    for k in range(entries):
        total += tl.load(weights + cell * entries + k, mask=real, other=0.0)
    middle = 0.5 * total
    before = tl.zeros([block], tl.float32)
    there = tl.zeros([block], tl.float32)
    last = tl.zeros([block], tl.int32)
    median = tl.zeros([block], tl.int32) - 1
    for k in range(entries):
        at = tl.load(in_order + cell * entries + k, mask=real, other=0)
        weight = tl.load(weights_in_order + cell * entries + k, mask=real, other=0.0)
        before = tl.where(at != last, before + there, before)
        there = tl.where(at != last, weight, there + weight)
        last = at
        median = tl.where((median < 0) & (before + there >= middle), at, median)
    tl.store(medians + cell, tl.where(median < 0, last, median), mask=real)


def triton_median(in_order: Tensor, weights_in_order: Tensor, weights: Tensor) -> Tensor:
    """As `plain_median`."""
    entries = weights.shape[-1]
    cells = weights.numel() // entries
    medians = torch.empty(weights.shape[:-1], dtype=torch.int32, device=weights.device)
    _median_kernel[(triton.cdiv(cells, WARP),)](
        in_order, weights_in_order, weights, medians, cells, entries=entries, block=WARP, num_warps=1
    )
    return medians
