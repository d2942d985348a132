# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Forward re-projection: what another camera sees of the points of a depth map.

Symbols: B batch, K intrinsics (B, 3, 3), a_T_b (B, 4, 4) from the camera b that has the depth to another one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dvmvs_core.model.intrinsics import pixel_grid

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
