# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The warp of a plane sweep: a measurement frame's map as points on the rays of the reference frame see it.

Symbols: B batch, C channels, P points on a ray, N rays, q homogeneous pixels of the measurement frame.

    q = K R K⁻¹ p + K t / d

Source: Collins, "A space-sweep approach to true multi-image matching", CVPR 1996.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

_EPSILON = 1e-8
"""Added to the divisor, as the published network does."""


def warp_to_rays(measurement: Tensor, ends: Tensor, translation: Tensor, inverse_depths: Tensor) -> tuple[Tensor, ...]:
    """Sample a map (bilinear, zeros around it) where a measurement frame sees points on rays.

    Args:
        measurement: (B, C, h, w).
        ends: K R K⁻¹ p of each ray, (B, 3, N).
        translation: K t, (B, 3).
        inverse_depths: of the points, 1/m: (B or 1, P, N or 1).

    Returns:
        The samples (B, C, P, N), and which points are in view (B, P, N).
    """
    q = ends[:, :, None] + translation[..., None, None] * inverse_depths[:, None]  # (B, 3, P, N)
    grid, in_view = sampling_grid(q[:, :2], q[:, 2], measurement.shape[-2:])
    return functional.grid_sample(measurement, grid, align_corners=True), in_view


def sampling_grid(xy: Tensor, z: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return the grid (B, P, N, 2) that samples an image of `size` at homogeneous pixels, and which are in view.

    Args:
        xy: (B, 2, P, N), to be divided by z.
        z: (B, P, N).
        size: (height, width).
    """
    height, width = size
    # Plain numbers, which a CUDA graph can hold.
    divisor = z + _EPSILON
    u, v = xy[:, 0] / divisor * (2 / (width - 1)) - 1, xy[:, 1] / divisor * (2 / (height - 1)) - 1
    in_view = (z > 0) & (u.abs() <= 1) & (v.abs() <= 1)
    return torch.stack((u, v), dim=-1), in_view
