# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The pinhole camera as torch tensors: pixels, intrinsics, points, and what another camera sees of a depth map.

Pixel (0, 0) is the centre of the top-left pixel. Scaling has no half-pixel term: pixel x of a half-resolution map
belongs to pixel 2x of the image, which is where a stride-2 convolution centres it.

Symbols: B batch, K intrinsics (B, 3, 3), a_T_b (B, 4, 4) from the camera b that has the depth to another one.
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


# Below this depth a point has no usable perspective division: it is projected as if it were at 1 m.
_MIN_DIVISOR_M = 1e-8
_NOWHERE_M = 1e6


def splat(
    depth: Tensor,
    a_T_b: Tensor,
    K_a: Tensor,
    K_b: Tensor,
    size: tuple[int, int],
    min_depth_m: float = 0.0,
    farthest: bool = False,
) -> Tensor:
    """Z-buffer of the points of a depth map, in camera a.

    Args:
        depth: (B, 1, h, w) metres in camera b; 0 = none.
        a_T_b: (B, 4, 4).
        K_a: (B, 3, 3), of the cells of the result.
        K_b: (B, 3, 3), of the pixels of the depth map.
        size: (height, width) of the result.
        min_depth_m: points that are not beyond it in camera a are left out.
        farthest: keep the farthest of the points in a cell instead of the nearest.

    Returns:
        (B, 1, *size) metres; 0 where no point falls.
    """
    height, width = size
    points = transform(a_T_b, backproject(depth, K_b))  # (B, 3, hw)
    z = points[:, 2]
    column, row = project(points[:, 2:], points, K_a).round().unbind(dim=1)
    lands = (depth.flatten(1) > 0) & (z > min_depth_m)
    lands &= (column >= 0) & (column < width) & (row >= 0) & (row < height)
    cell = torch.where(lands, row * width + column, 0).long()
    empty = 0.0 if farthest else _NOWHERE_M
    buffer = z.new_full((len(z), height * width), empty)
    buffer = buffer.scatter_reduce(1, cell, torch.where(lands, z, empty), "amax" if farthest else "amin")
    return torch.where(buffer < _NOWHERE_M, buffer, 0.0).view(-1, 1, height, width)


def backproject(depth: Tensor, K: Tensor) -> Tensor:
    """Return points (B, 3, hw) in the camera's frame of a depth map (B, 1, h, w), metres."""
    pixels = pixel_grid(*depth.shape[-2:], like=depth)  # (3, hw)
    focal, centre = _focal_and_centre(K)
    rays = torch.cat([(pixels[:2] - centre) / focal, pixels[2:].expand(len(K), 1, -1)], dim=1)
    return rays * depth.flatten(2)


def transform(a_T_b: Tensor, points: Tensor) -> Tensor:
    """Move points (B, 3, N) from frame b to frame a."""
    return a_T_b[:, :3, :3] @ points + a_T_b[:, :3, 3:]


def project(divisor: Tensor, points: Tensor, K: Tensor) -> Tensor:
    """Return pixels (B, 2, N), as (x, y), of points (B, 3, N) over their divisor (B, 1, N)."""
    safe = torch.where(divisor.abs() > _MIN_DIVISOR_M, divisor, 1)
    focal, centre = _focal_and_centre(K)
    return points[:, :2] / safe * focal + centre


def _focal_and_centre(K: Tensor) -> tuple[Tensor, Tensor]:
    """(fx, fy) and (cx, cy), each (B, 2, 1)."""
    # Indexing by lists would copy them to a GPU, which a CUDA graph cannot hold.
    return K.diagonal(dim1=1, dim2=2)[:, :2, None], K[:, :2, 2:]
