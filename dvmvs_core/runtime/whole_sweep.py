# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The plane sweep in torch operators over all planes at once, on any device, without a wait of the host."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from dvmvs_core.model.intrinsics import pixel_grid


def whole_sweep(
    reference: Tensor,
    measurements: Tensor,
    homographies: Tensor,
    translations: Tensor,
    inverse_depths: Tensor,
    masked: bool,
) -> Tensor:
    """Cost volume (B, D, h, w) float32, as `model.cost_volume` makes it.

    Args:
        reference: (B, C, h, w) matching map of the reference frame, float32.
        measurements: (M, B, C, h, w) those of the measurement frames.
        homographies: (M, B, 3, 3) to the pixels that are sampled.
        translations: (M, B, 3).
        inverse_depths: (D,) 1/m.
        masked: leave samples out of view out of the mean.
    """
    batch, channels, height, width = reference.shape
    pixels = pixel_grid(height, width, like=reference)
    total = seen = 0.0
    for measurement, H, t in zip(measurements, homographies, translations, strict=True):
        q = (H @ pixels)[:, None] + t[:, None, :, None] * inverse_depths.view(1, -1, 1, 1)  # (B, D, 3, hw)
        x, y = (q[:, :, :2] / (q[:, :, 2:] + 1e-8)).unbind(dim=2)
        grid = torch.stack([x * (2 / (width - 1)) - 1, y * (2 / (height - 1)) - 1], dim=-1)  # (B, D, hw, 2)
        warped = functional.grid_sample(measurement, grid, align_corners=True)  # (B, C, D, hw)
        costs = (reference.flatten(2)[:, :, None] * warped).mean(dim=1)
        if masked:
            visible = ((q[:, :, 2] > 0) & (grid.abs() <= 1).all(dim=-1)).float()
            costs, seen = costs * visible, seen + visible
        total = total + costs
    total = total / (seen.clamp(min=1) if masked else len(measurements))
    return total.view(batch, -1, height, width)
