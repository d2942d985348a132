# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Motion blur: light gathered along the way that each point crosses the image while the shutter is open.

A point P of a still scene moves as `dP/dt = -v - w x P` in a camera that moves with v (m/s) and turns with w (rad/s),
both in the camera's own axes. So a pixel's motion depends on its depth, near things blur more, and a pure turn blurs
all alike.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_MIN_BLUR_PX = 0.3
"""A frame that moves less everywhere stays as it is."""
_TAP_SPACING_PX = 1.5
_MAX_TAPS = 9


def image_motion(depth: Tensor, K: Tensor, velocity: Tensor) -> Tensor:
    """Motion of each pixel's point across the image.

    Args:
        depth: (T, H, W) z-depth, metres.
        K: (3, 3) pixels.
        velocity: (T, 6) of the camera in its own axes: metres a second, then radians a second.

    Returns:
        (T, 2, H, W) pixels a second, x and y.
    """
    height, width = depth.shape[1:]
    x = ((torch.arange(width, device=depth.device) - K[0, 2]) / K[0, 0])[None, None, :]
    y = ((torch.arange(height, device=depth.device) - K[1, 2]) / K[1, 1])[None, :, None]
    vx, vy, vz, wx, wy, wz = velocity[:, :, None, None].unbind(1)
    nearness = depth.clamp(min=1e-3).reciprocal()
    # Components of -v / z - w x (x, y, 1), then the quotient rule for x = X / Z and y = Y / Z.
    along_x = -vx * nearness - (wy - wz * y)
    along_y = -vy * nearness - (wz * x - wx)
    along_z = -vz * nearness - (wx * y - wy * x)
    return torch.stack([K[0, 0] * (along_x - x * along_z), K[1, 1] * (along_y - y * along_z)], 1)


def blur_motion(linear: Tensor, depth: Tensor, K: Tensor, velocity: Tensor, exposure_s: float) -> Tensor:
    """Blur frames as an exposure centred on each frame's pose does.

    Args:
        linear: (T, 3, H, W) linear light of an instant.
        depth: (T, H, W) z-depth, metres.
        K: (3, 3) pixels.
        velocity: (T, 6), see `image_motion`.
        exposure_s: Seconds that the shutter is open.

    Returns:
        (T, 3, H, W) linear light.
    """
    way = image_motion(depth, K, velocity) * exposure_s
    return blur_along(linear, way, float(reach_px(way)))


def reach_px(way: Tensor) -> Tensor:
    """Return how far (), in pixels, points move along ways (T, 2, H, W): all but the longest tenth, at the cameras."""
    return torch.quantile(torch.linalg.vector_norm(way[:, :, ::4, ::4], dim=1).flatten(), 0.9)


def blur_along(linear: Tensor, way: Tensor, reach: float) -> Tensor:
    """Gather light along ways.

    Args:
        linear: (T, 3, H, W) linear light of an instant.
        way: (T, 2, H, W) pixels that each point crosses.
        reach: of the ways, which decides how often light is gathered.

    Returns:
        (T, 3, H, W) linear light.
    """
    if reach < _MIN_BLUR_PX:
        return linear
    height, width = way.shape[2:]
    taps = min(max(1 + math.ceil(reach / _TAP_SPACING_PX), 3), _MAX_TAPS)
    x = torch.arange(width, device=way.device, dtype=torch.float32)[None, None, :]
    y = torch.arange(height, device=way.device, dtype=torch.float32)[None, :, None]
    gathered = torch.zeros_like(linear)
    for tap in range(taps):
        share = (tap + 0.5) / taps - 0.5
        grid = torch.stack(
            [(x + share * way[:, 0] + 0.5) * (2.0 / width) - 1.0, (y + share * way[:, 1] + 0.5) * (2.0 / height) - 1.0],
            dim=-1,
        )
        gathered += torch.nn.functional.grid_sample(linear, grid, padding_mode="border", align_corners=False)
    return gathered / taps
