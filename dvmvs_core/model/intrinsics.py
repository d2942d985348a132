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


def pixel_grid(height: int, width: int, like: Tensor) -> Tensor:
    """Homogeneous pixels (3, height·width) as (x, y, 1), row by row, float32 on the device of ``like``."""
    y, x = torch.meshgrid(
        torch.arange(height, dtype=torch.float32, device=like.device),
        torch.arange(width, dtype=torch.float32, device=like.device),
        indexing="ij",
    )
    return torch.stack([x, y, torch.ones_like(x)]).flatten(1)
