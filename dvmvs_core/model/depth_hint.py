# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What past predictions say of the current view: each is projected into it with a z-buffer, and their median is taken.

Symbols: B batch, N past predictions, h×w cells of the score volume: cell x is centred on pixel 4x + 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from dvmvs_core.model.intrinsics import grid_intrinsics, scale_intrinsics
from dvmvs_core.model.reprojection import splat
from dvmvs_core.model.score_volume import VOLUME_OFFSET, VOLUME_STRIDE

_MIN_DEPTH_M = 0.1


class DepthHint(NamedTuple):
    """The median of past predictions; all (B, 1, h, w) float32.

    Attributes:
        log_depth: median of their log depths, 0 where there is none.
        spread: mean absolute deviation from it.
        count: how many past predictions have a point here; 0 means no hint.
    """

    log_depth: Tensor
    spread: Tensor
    count: Tensor


@torch.no_grad()
def splat_depth(depth: Tensor, cam_T_past: Tensor, K: Tensor) -> Tensor:
    """Project a past prediction into the current view; of several points that fall into a cell the nearest is kept.

    Args:
        depth: (B, H, W) metres; every other pixel is used, four to a cell.
        cam_T_past: (B, 4, 4).
        K: intrinsics (B, 3, 3) at full resolution.

    Returns:
        (B, h, w) metres; 0 where no point fell.
    """
    size = (depth.shape[-2] // VOLUME_STRIDE, depth.shape[-1] // VOLUME_STRIDE)
    with torch.autocast(depth.device.type, enabled=False):
        K, every_other = K.float(), depth[:, None, ::2, ::2].float()
        cells_K, half_K = grid_intrinsics(K, VOLUME_STRIDE, VOLUME_OFFSET), scale_intrinsics(K, 0.5)
        return splat(every_other, cam_T_past.float(), cells_K, half_K, size, _MIN_DEPTH_M)[:, 0]


def depth_hint(splats: Sequence[Tensor]) -> DepthHint:
    """Combine the projections (B, h, w) of past predictions; of an even number the nearer middle one is the median."""
    depths = torch.stack(tuple(splats), dim=1)
    valid = depths > 0
    logs = torch.where(valid, depths, 1.0).log()
    count = valid.sum(dim=1, keepdim=True)
    ordered = torch.where(valid, logs, torch.inf).sort(dim=1).values
    median = ordered.gather(1, ((count - 1) // 2).clamp(min=0))
    median = torch.where(count > 0, median, 0.0)
    deviation = ((logs - median).abs() * valid).sum(dim=1, keepdim=True)
    return DepthHint(median, deviation / count.clamp(min=1), count.float())


def no_hint(like: Tensor) -> DepthHint:
    """The hint before the first prediction, for a volume (B, D, h, w)."""
    zeros = like.new_zeros(len(like), 1, *like.shape[-2:], dtype=torch.float32)
    return DepthHint(zeros, zeros, zeros)
