# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Geometry of the memory: bringing the hidden state to the current view.

The last predicted depth is projected into the current camera; where it lands says which part of the old
hidden state each cell of the new one comes from.

Symbols: D depth (B, 1, H, W), K intrinsics at full resolution (B, 3, 3), poses world_T_cam (B, 4, 4).
Source: Düzçeker et al., "DeepVideoMVS", CVPR 2021, section 3.3. Quirks of the public implementation that
released weights depend on are kept and pinned by test_convention_model_hidden_state.py.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from dvmvs_core.model.pinhole import backproject, inverse, project, scale_intrinsics, splat, transform

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
    half_size = (previous_depth.shape[-2] // 2, previous_depth.shape[-1] // 2)
    with torch.autocast(previous_depth.device.type, enabled=False):
        # Points behind the camera may land in view: they count as 0, which is "nothing here".
        return splat(previous_depth.float(), cam_T_previous, scale_intrinsics(K, 0.5), K, half_size, farthest=True)


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
        points = transform(previous_T_cam, backproject(depth_estimate.float(), K))  # (B, 3, hw)
        pixels = project(points[:, 2:].relu(), points, K)  # (B, 2, hw)
        x, y = pixels.unbind(dim=1)
        grid = torch.stack([x * (2 / (width - 1)) - 1, y * (2 / (height - 1)) - 1], dim=-1)
        grid = grid.view(batch, height, width, 2)
        warped = functional.grid_sample(hidden.float(), grid, align_corners=True)
    return torch.where(depth_estimate > _EMPTY_BELOW_M, warped, 0)
