# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Matching scores of fixed descriptors over planes that are evenly spaced in log depth, for whole batches.

As `runtime.sweep_kernels` on a CPU: for every cell p of a grid over the reference frame and every plane at depth d, the
measurement frame is sampled at

    q = K R K⁻¹ p + K t / d

with R, t of meas_T_ref and K in cells of that grid, and the score is the cosine between both descriptors, averaged over
the measurement frames that have q in view. No gradient flows: descriptors are not trained.

Symbols: B batch, D planes (plane 0 is the NEAREST), h×w cells of the volume: cell x is centred on pixel 4x + 3, as
Lite0's map at 1/4. Patches are scored at pixels 2x; the four around pixel 4x + 3 are averaged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from dvmvs_core.model.fixed_descriptors import FixedFeatures
from dvmvs_core.model.intrinsics import grid_intrinsics, inverse, pixel_grid
from dvmvs_core.model.warping import warp_to_rays

VOLUME_STRIDE, VOLUME_OFFSET = 4, 3
PARALLAX_DEPTH_M = 2.0
PARALLAX_STEP = 1.25
_PLANES_AT_ONCE = 16
_TINY = 1e-6


class ScoreVolume(NamedTuple):
    """What matching says of a reference frame.

    Attributes:
        patch: (B, D, h, w) mean cosine of patches, 0 where no frame has the sample in view.
        maps: (B, D, h, w) mean cosine of Lite0's maps, likewise.
        visible: (B, 1, h, w) share of planes and measurement frames whose sample is in view.
        parallax: (B, 1, h, w) pixels by which a point at 2 m moves when its depth grows by a quarter, in the
            measurement frame where it moves most.
    """

    patch: Tensor
    maps: Tensor
    visible: Tensor
    parallax: Tensor


def log_planes(min_depth_m: float, max_depth_m: float, count: int) -> Tensor:
    """Logarithms (D,) of depths in metres, evenly spaced from the nearest to the farthest."""
    nearest, farthest = torch.tensor([min_depth_m, max_depth_m], dtype=torch.float64).log().tolist()
    return torch.linspace(nearest, farthest, count, dtype=torch.float64).float()


@torch.no_grad()
def score_volume(
    reference: FixedFeatures,
    measurements: Sequence[FixedFeatures],
    meas_T_ref: Sequence[Tensor],
    K: Tensor,
    planes: Tensor,
) -> ScoreVolume:
    """Compare a reference frame with its measurement frames.

    Args:
        reference: its features.
        measurements: those of each measurement frame; at least one.
        meas_T_ref: (B, 4, 4) of each.
        K: (B, 3, 3) at full resolution.
        planes: (D,) log depths.
    """
    if not measurements:
        raise ValueError("matching needs at least one measurement frame; got none")
    with torch.autocast(K.device.type, enabled=False):
        inverse_depths = torch.exp(-planes)
        K, meas_T_ref = K.float(), [transform.float() for transform in meas_T_ref]
        patch, _ = _sweep(reference.patches, [f.patches for f in measurements], meas_T_ref, K, 2, 0, inverse_depths)
        maps, count = _sweep(
            reference.maps,
            [f.maps for f in measurements],
            meas_T_ref,
            K,
            VOLUME_STRIDE,
            VOLUME_OFFSET,
            inverse_depths,
        )
        visible = count.mean(dim=1, keepdim=True) / len(measurements)
        return ScoreVolume(pooled_patches(patch), maps, visible, parallax(meas_T_ref, K, maps.shape[-2:]))


def pooled_patches(scores: Tensor) -> Tensor:
    """Scores (B, D, 2h, 2w) at pixels 2x as (B, D, h, w) at pixels 4x + 3: the mean of those at 4x + 2 and 4x + 4."""
    around = functional.pad(scores, (0, 1, 0, 1), "replicate")[:, :, 1:, 1:]
    return functional.avg_pool2d(around, 2)


def parallax(meas_T_ref: Sequence[Tensor], K: Tensor, size: tuple[int, int]) -> Tensor:
    """Parallax (B, 1, h, w) of each cell, as `ScoreVolume` defines it; 0 where the point at 2 m is out of view."""
    height, width = size
    grid_K = grid_intrinsics(K, VOLUME_STRIDE, VOLUME_OFFSET)
    largest = None
    for transform in meas_T_ref:
        ends, shift = _lines(transform, grid_K, size)
        near, far = ends + shift / PARALLAX_DEPTH_M, ends + shift / (PARALLAX_DEPTH_M * PARALLAX_STEP)
        first, second = (q[:, :2] / q[:, 2:].clamp(min=1e-3) for q in (near, far))
        in_view = (near[:, 2] > 0) & (first >= 0).all(dim=1)
        in_view &= (first[:, 0] <= width - 1) & (first[:, 1] <= height - 1)
        moved = torch.where(in_view, VOLUME_STRIDE * (first - second).norm(dim=1), 0.0)
        largest = moved if largest is None else torch.maximum(largest, moved)
    return largest.view(-1, 1, height, width)


def _sweep(
    reference: Tensor,
    measurements: Sequence[Tensor],
    meas_T_ref: Sequence[Tensor],
    K: Tensor,
    stride: int,
    offset: int,
    inverse_depths: Tensor,
) -> tuple[Tensor, Tensor]:
    """Mean cosines and number of frames in view, both (B, D, h, w), of one kind of descriptor on its own grid."""
    shape = (len(K), -1, *reference.shape[-2:])
    grid_K = grid_intrinsics(K, stride, offset)
    own = reference.flatten(2)[:, :, None]
    total = count = 0.0
    for descriptors, transform in zip(measurements, meas_T_ref, strict=True):
        ends, shift = _lines(transform, grid_K, reference.shape[-2:])
        chunks = [
            _cosines(own, descriptors, ends, shift, part, (stride - 1) / stride)
            for part in inverse_depths.split(_PLANES_AT_ONCE)
        ]
        cosines, in_view = (torch.cat(parts, dim=1) for parts in zip(*chunks, strict=True))
        total, count = total + cosines, count + in_view
    return (total / count.clamp(min=1)).view(shape), count.view(shape)


def _lines(meas_T_ref: Tensor, grid_K: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Where cells are seen at infinity (B, 3, hw), and what 1/m of inverse depth adds to that (B, 3, 1)."""
    ends = grid_K @ meas_T_ref[:, :3, :3] @ inverse(grid_K) @ pixel_grid(*size, like=grid_K)
    return ends, grid_K @ meas_T_ref[:, :3, 3:]


def _cosines(
    own: Tensor, descriptors: Tensor, ends: Tensor, shift: Tensor, inverse_depths: Tensor, margin: float
) -> tuple[Tensor, Tensor]:
    """Cosines, 0 out of view, and what is in view, both (B, d, hw).

    The image is larger than the grid by `margin` cells on each side: samples there take the nearest cell.
    """
    sampled, in_view = warp_to_rays(descriptors, ends, shift[..., 0], inverse_depths.view(1, -1, 1), margin)
    norm = sampled.square().sum(dim=1).clamp(min=_TINY).sqrt()
    return (sampled * own).sum(dim=1) / norm * in_view, in_view.float()
