# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Geometry of the memory: bringing the hidden state to the current view.

The last predicted depth is projected into the current camera; where it lands says which part of the old
hidden state each cell of the new one should look at.

Symbols: D depth (B, 1, H, W), K intrinsics at full resolution (B, 3, 3), poses world_T_cam (B, 4, 4).
Source: Düzçeker et al., "DeepVideoMVS", CVPR 2021, section 3.3. Quirks of the public implementation that
released weights depend on are kept and pinned by test_convention_model_hidden_state.py.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from dvmvs_core.model.intrinsics import inverse, pixel_grid, scale_intrinsics

# Below this depth a point has no usable perspective division: it is projected as if it were at 1 m.
_MIN_DIVISOR_M = 1e-8
# Cells whose estimated depth is not above this hold nothing that could be looked up.
_EMPTY_BELOW_M = 0.01


@torch.no_grad()
def reproject_depth(previous_depth: Tensor, previous_world_T_cam: Tensor, world_T_cam: Tensor, K: Tensor) -> Tensor:
    """Depth of the previous keyframe as the current camera sees it, at half resolution.

    Of several points that fall into one cell the FARTHEST is kept: an inverted z-buffer in the public
    implementation, which released weights expect. Nothing fills the holes. It carries no gradient.

    Args:
        previous_depth: (B, 1, H, W), metres, of the last predicted keyframe.
        previous_world_T_cam: Its pose, (B, 4, 4).
        world_T_cam: The current pose, (B, 4, 4).
        K: Intrinsics at full resolution, (B, 3, 3).

    Returns:
        (B, 1, H/2, W/2) metres; 0 where no point fell.
    """
    with torch.autocast(previous_depth.device.type, enabled=False):
        cam_T_previous = inverse(world_T_cam) @ previous_world_T_cam
    return reproject_depth_by(cam_T_previous, previous_depth, K)


@torch.no_grad()
def reproject_depth_by(cam_T_previous: Tensor, previous_depth: Tensor, K: Tensor) -> Tensor:
    """As `reproject_depth`, from the movement between the cameras, (B, 4, 4)."""
    batch, _, height, width = previous_depth.shape
    half_height, half_width = height // 2, width // 2
    with torch.autocast(previous_depth.device.type, enabled=False):
        points = _transform(cam_T_previous, _backproject(previous_depth.float(), K))  # (B, 3, HW)
        column, row = _project(points[:, 2:], points, scale_intrinsics(K, 0.5)).round().unbind(dim=1)
    lands = (column >= 0) & (column < half_width) & (row >= 0) & (row < half_height)
    cell = torch.where(lands, row * half_width + column, 0).long()  # (B, HW)
    # Points behind the camera may land in view: they count as 0, which is "nothing here".
    depth = torch.where(lands, points[:, 2].relu(), 0)
    farthest = depth.new_zeros(batch, half_height * half_width).scatter_reduce(1, cell, depth, "amax")
    return farthest.view(batch, 1, half_height, half_width)


def lstm_depth_estimate(reprojected_depth: Tensor) -> Tensor:
    """The reprojected depth at the memory's resolution.

    The top-left pixel of each 16×16 block decides; nothing is pooled.

    Args:
        reprojected_depth: (B, 1, H/2, W/2), metres, 0 = nothing.

    Returns:
        (B, 1, H/32, W/32), metres, 0 = nothing.
    """
    return reprojected_depth[:, :, ::16, ::16]


def warp_hidden_state(
    hidden: Tensor,
    depth_estimate: Tensor,
    previous_world_T_cam: Tensor,
    world_T_cam: Tensor,
    K: Tensor,
) -> Tensor:
    """The hidden state as the current camera would have left it.

    Each cell is lifted to its estimated depth, moved into the previous camera and looked up there
    (bilinear, zeros outside). Cells without an estimate become 0 in every channel.

    Args:
        hidden: (B, C, H/32, W/32), in the view of the previous keyframe.
        depth_estimate: (B, 1, H/32, W/32), metres, in the current view; 0 = unknown.
        previous_world_T_cam: (B, 4, 4).
        world_T_cam: (B, 4, 4).
        K: Intrinsics at the hidden state's resolution, (B, 3, 3).

    Returns:
        (B, C, H/32, W/32) in the current view.
    """
    with torch.autocast(hidden.device.type, enabled=False):
        previous_T_cam = inverse(previous_world_T_cam) @ world_T_cam
    return warp_hidden_state_by(previous_T_cam, hidden, depth_estimate, K)


def warp_hidden_state_by(previous_T_cam: Tensor, hidden: Tensor, depth_estimate: Tensor, K: Tensor) -> Tensor:
    """As `warp_hidden_state`, from the movement between the cameras, (B, 4, 4)."""
    batch, _, height, width = hidden.shape
    with torch.autocast(hidden.device.type, enabled=False):
        points = _transform(previous_T_cam, _backproject(depth_estimate.float(), K))  # (B, 3, hw)
        pixels = _project(points[:, 2:].relu(), points, K)  # (B, 2, hw)
        x, y = pixels.unbind(dim=1)
        grid = torch.stack([x * (2 / (width - 1)) - 1, y * (2 / (height - 1)) - 1], dim=-1)
        grid = grid.view(batch, height, width, 2)
        warped = functional.grid_sample(hidden.float(), grid, align_corners=True)
    return torch.where(depth_estimate > _EMPTY_BELOW_M, warped, 0)


def _backproject(depth: Tensor, K: Tensor) -> Tensor:
    """(B, 1, h, w) metres -> points (B, 3, hw) in the camera's frame."""
    pixels = pixel_grid(*depth.shape[-2:], like=depth)  # (3, hw)
    focal, centre = _focal_and_centre(K)
    rays = torch.cat([(pixels[:2] - centre) / focal, pixels[2:].expand(len(K), 1, -1)], dim=1)
    return rays * depth.flatten(2)


def _transform(a_T_b: Tensor, points: Tensor) -> Tensor:
    """Moves points (B, 3, N) from frame b to frame a."""
    return a_T_b[:, :3, :3] @ points + a_T_b[:, :3, 3:]


def _project(divisor: Tensor, points: Tensor, K: Tensor) -> Tensor:
    """Points (B, 3, N) over their divisor (B, 1, N) -> pixels (B, 2, N) as (x, y)."""
    safe = torch.where(divisor.abs() > _MIN_DIVISOR_M, divisor, 1)
    focal, centre = _focal_and_centre(K)
    return points[:, :2] / safe * focal + centre


def _focal_and_centre(K: Tensor) -> tuple[Tensor, Tensor]:
    """(fx, fy) and (cx, cy), each (B, 2, 1)."""
    # Indexing by lists would copy them to a GPU, which a CUDA graph cannot hold.
    return K.diagonal(dim1=1, dim2=2)[:, :2, None], K[:, :2, 2:]
