# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Temporal fusion: matched depth averaged with that of the last keyframes, where they agree.

Errors of matching change from view to view, the scene does not. Every pixel is projected into the last keyframes; what
they know of the depth there, relative to where the pixel would be, is averaged in logarithms, by confidence and by how
well it agrees, so that what moved or was occluded does not count. Each mean starts from the last one, so that depth
settles where it was measured often, with a limited weight, so that it can change. Where the past has another depth,
confidence falls.

Symbols: N past keyframes, H×W network resolution, h×w half of it, K intrinsics (3, 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

PAST_DEPTHS = 2
"""Past keyframes that are averaged in."""

AGREEING = 0.05
"""Difference of log depth at which the weight of the past has fallen to 1/e."""

PAST_WEIGHT = 0.5
"""Weight of the past for its confidence; that of the keyframe itself is 1."""

CONTRADICTING, DOUBT = 0.1, 0.5
"""Difference of log depth from which on the past contradicts, and the share of its confidence that depth loses then."""

MIN_WEIGHT, MAX_WEIGHT = 0.05, 3.0
"""Of a pixel, whatever its confidence; and of a mean."""

_NEAREST_M = 0.05


class FusedDepth(NamedTuple):
    """A mean over keyframes, in the view of the last of them.

    Attributes:
        depth: (1, h, w) float32 metres, of pixels 2x.
        weight: (1, h, w) float32, the confidences that came together in it.
        world_T_cam: (1, 4, 4) float32 pose, on the CPU.
    """

    depth: Tensor
    weight: Tensor
    world_T_cam: Tensor


def fuse_depth(
    depth: Tensor, confidence: Tensor, K: Tensor, world_T_cam: Tensor, past: Sequence[FusedDepth]
) -> tuple[Tensor, Tensor, FusedDepth]:
    """Return depth (1, H, W) and confidence (1, H, W) of a keyframe by those of past ones, and what later ones need.

    Args:
        depth: (1, H, W) float32 metres.
        confidence: (1, H, W) float32, 0…1, on the same device.
        K: (1, 3, 3) intrinsics of all of them, on the CPU.
        world_T_cam: (1, 4, 4) float32 pose, on the CPU.
        past: of past keyframes of the same camera, on the same device.
    """
    if not past:
        own, weight = depth[:, ::2, ::2], confidence[:, ::2, ::2].clamp(min=MIN_WEIGHT)
        return depth, confidence, FusedDepth(own, weight, world_T_cam)
    matrices = to_past(K, world_T_cam, past)
    matrices = matrices.pin_memory().to(depth.device, non_blocking=True) if depth.is_cuda else matrices
    maps = [mean.depth for mean in past], [mean.weight for mean in past]
    depth, confidence, mean, weight = fusion_step(matrices, depth, confidence, *maps)
    return depth, confidence, FusedDepth(mean, weight, world_T_cam)


def compiled_fusion(
    depth: Tensor, confidence: Tensor, K: Tensor, world_T_cam: Tensor, past: Sequence[FusedDepth]
) -> tuple[Tensor, Tensor, FusedDepth]:
    """As `fuse_depth`, on a CPU with numba."""
    if not past:
        return fuse_depth(depth, confidence, K, world_T_cam, past)
    from dvmvs_core.runtime import fusion_kernels as kernels
    from dvmvs_core.runtime.threads import parallel_rows

    given = [x[0].contiguous().numpy() for x in (depth, confidence)]
    matrices = to_past(K, world_T_cam, past).numpy()
    logs, weights = (torch.cat([mean[i] for mean in past]).contiguous().numpy() for i in range(2))
    logs = np.log(logs)
    rule = (_NEAREST_M, CONTRADICTING, AGREEING, DOUBT, PAST_WEIGHT, MIN_WEIGHT, MAX_WEIGHT)
    correction, certainty, mean, weight = np.empty((4, *logs.shape[1:]), np.float32)
    known = (logs, weights, *(np.float32(x) for x in rule))
    parallel_rows(kernels.average_rows, len(mean), matrices, *given, *known, correction, certainty, mean, weight)
    corrected, doubted = np.empty((2, *given[0].shape), np.float32)
    parallel_rows(kernels.correct_rows, len(corrected), *given, correction, certainty, corrected, doubted)
    corrected, doubted, mean, weight = (torch.from_numpy(x)[None] for x in (corrected, doubted, mean, weight))
    return corrected, doubted, FusedDepth(mean, weight, world_T_cam)


def fusion_step(
    matrices: Tensor, depth: Tensor, confidence: Tensor, past_depths: Sequence[Tensor], past_weights: Sequence[Tensor]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return depth (1, H, W), confidence (1, H, W), and depth (1, h, w) and weight (1, h, w) of the new mean.

    Args:
        matrices: (N, 3, 4) of `to_past`.
        depth: (1, H, W) metres, like all that follow on the device of the matrices.
        confidence: (1, H, W).
        past_depths: (1, h, w) metres of each past keyframe.
        past_weights: (1, h, w) of each.
    """
    own, weight = depth[:, ::2, ::2], confidence[:, ::2, ::2].clamp(min=MIN_WEIGHT)
    logs, weights = _past_there(own, torch.cat(list(past_depths)), matrices, past_weights)
    contradicted = (weights * (1 - (-((logs / CONTRADICTING) ** 2)).exp())).sum(dim=0, keepdim=True)
    doubt = DOUBT * contradicted / weights.sum(dim=0, keepdim=True).clamp(min=MIN_WEIGHT)
    weights = PAST_WEIGHT * weights * (-((logs / AGREEING) ** 2)).exp()
    total = weight + weights.sum(dim=0, keepdim=True)
    correction = (weights * logs).sum(dim=0, keepdim=True) / total
    full = _to_full(torch.cat([correction, 1 - doubt]))
    return depth * full[:1].exp(), confidence * full[1:], own * correction.exp(), total.clamp(max=MAX_WEIGHT)


def to_past(K: Tensor, world_T_cam: Tensor, past: Sequence[FusedDepth]) -> Tensor:
    """Return K [R K⁻¹ | t] (N, 3, 4) float32 of the half-resolution grid, to each past camera."""
    half_K = np.diag((0.5, 0.5, 1.0)) @ K[0].double().numpy()
    past_T_cam = np.linalg.inv(torch.cat([mean.world_T_cam for mean in past]).double().numpy()) @ world_T_cam.numpy()
    rotations = half_K @ past_T_cam[:, :3, :3] @ np.linalg.inv(half_K)
    matrices = np.concatenate([rotations, half_K @ past_T_cam[:, :3, 3:]], axis=2)
    return torch.from_numpy(matrices.astype(np.float32))


def _past_there(
    depth: Tensor, past_depth: Tensor, matrices: Tensor, past_weights: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """What past keyframes know of each cell.

    Args:
        depth: (1, h, w) metres.
        past_depth: (N, h, w) metres.
        matrices: (N, 3, 4) of `to_past`.
        past_weights: (1, h, w) of each.

    Returns:
        (N, h, w) logarithm of their depth over that of the cell's point in their view; (N, h, w) their weight, 0 where
        the point is out of view.
    """
    _, height, width = depth.shape
    rows, columns = (torch.arange(side, device=depth.device, dtype=depth.dtype) for side in (height, width))
    points = torch.stack([columns * depth[0], rows[:, None] * depth[0], depth[0], torch.ones_like(depth[0])])
    u, v, z = (matrices @ points.flatten(1)).view(-1, 3, height, width).unbind(dim=1)
    divisor = z.clamp(min=_NEAREST_M)
    u, v = u / divisor, v / divisor
    inside = (z > _NEAREST_M) & (u >= 0) & (u <= width - 1) & (v >= 0) & (v <= height - 1)
    grid = torch.stack([u * (2 / (width - 1)) - 1, v * (2 / (height - 1)) - 1], dim=-1)
    maps = torch.stack([past_depth.log(), torch.cat(list(past_weights))], dim=1)
    logs, weights = functional.grid_sample(maps, grid, align_corners=True, padding_mode="border").unbind(dim=1)
    return torch.where(inside, logs - divisor.log(), 0), torch.where(inside, weights, 0)


def _to_full(cells: Tensor) -> Tensor:
    """Values (C, H, W) between those of the pixels 2x (C, h, w)."""
    size = [2 * side - 1 for side in cells.shape[1:]]
    between = functional.interpolate(cells[None], size=size, mode="bilinear", align_corners=True)
    return functional.pad(between, (0, 1, 0, 1), mode="replicate")[0]
