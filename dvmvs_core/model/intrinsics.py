# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Pixels and intrinsics as torch tensors, shared by the cost volume and the hidden state.

Pixel (0, 0) is the centre of the top-left pixel. Scaling has no half-pixel term: pixel x of a half-resolution
map belongs to pixel 2x of the image, which is where a stride-2 convolution centres it.
"""

from __future__ import annotations

import torch
from torch import Tensor


def scale_intrinsics(K: Tensor, scale: float) -> Tensor:
    """Intrinsics (B, 3, 3) of the same camera at ``scale`` times the resolution."""
    return torch.cat([K[:, :2] * scale, K[:, 2:]], dim=1)


def inverse(matrices: Tensor) -> Tensor:
    """Inverses of (..., n, n) that are known to have one; unlike `torch.linalg.inv` it never waits for a GPU."""
    return torch.linalg.inv_ex(matrices).inverse


def pixel_grid(height: int, width: int, like: Tensor) -> Tensor:
    """Homogeneous pixels (3, height·width) as (x, y, 1), row by row, float32 on the device of ``like``."""
    y, x = torch.meshgrid(
        torch.arange(height, dtype=torch.float32, device=like.device),
        torch.arange(width, dtype=torch.float32, device=like.device),
        indexing="ij",
    )
    return torch.stack([x, y, torch.ones_like(x)]).flatten(1)
