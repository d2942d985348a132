# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The plane sweep as one kernel on a GPU: sampling, correlation and mean, with nothing stored but the result.

Each program takes some pixels of the reference frame and one plane. It needs nothing of one kind of chip only.
Importing this module needs Triton.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

PIXELS = 32
"""Pixels of one program."""


@triton.jit
def bilinear_samples(view, u, v, visible, lanes, channels, width, height, repeated: tl.constexpr):
    """Return descriptors (pixels, channels) of a map (h, w, C) at pixels u, v, and zeros where those are not visible.

    Around the map are zeros, or its outermost descriptors repeated.
    """
    u = tl.where(visible, u, 0.0)
    v = tl.where(visible, v, 0.0)
    left = tl.floor(u)
    top = tl.floor(v)
    right = u - left
    down = v - top
    x = left.to(tl.int32)
    y = top.to(tl.int32)
    samples = _tap(view, x, y, visible, (1 - right) * (1 - down), lanes, channels, width, height, repeated)
    samples += _tap(view, x + 1, y, visible, right * (1 - down), lanes, channels, width, height, repeated)
    samples += _tap(view, x, y + 1, visible, (1 - right) * down, lanes, channels, width, height, repeated)
    samples += _tap(view, x + 1, y + 1, visible, right * down, lanes, channels, width, height, repeated)
    return samples


@triton.jit
def _tap(view, x, y, visible, weight, lanes, channels, width, height, repeated: tl.constexpr):
    """Weighted descriptors (pixels, channels) at integer pixels."""
    if repeated:
        x = tl.minimum(tl.maximum(x, 0), width - 1)
        y = tl.minimum(tl.maximum(y, 0), height - 1)
    else:
        visible = visible & (x >= 0) & (x < width) & (y >= 0) & (y < height)
    at = (y * width + x)[:, None] * channels + lanes[None, :]
    loaded = tl.load(view + at, mask=visible[:, None] & (lanes < channels)[None, :], other=0).to(tl.float32)
    return loaded * weight[:, None]


@triton.jit
def _sweep_kernel(
    reference,  # (B, h, w, C)
    measurements,  # (M, B, h, w, C)
    matrices,  # (M, B, 12): homography, then translation
    inverse_depths,  # (D,)
    costs,  # (B, h, w, D)
    frames: tl.constexpr,
    height,
    width,
    planes,
    channels,
    masked: tl.constexpr,
    block_channels: tl.constexpr,
    block: tl.constexpr,
):
    plane = tl.program_id(1)
    b = tl.program_id(2)
    pixel = tl.program_id(0) * block + tl.arange(0, block)
    real = pixel < height * width
    lanes = tl.arange(0, block_channels)
    column = (pixel % width).to(tl.float32)
    row = (pixel // width).to(tl.float32)
    inverse_depth = tl.load(inverse_depths + plane)
    area = height * width
    here = tl.load(
        reference + (b * area + pixel)[:, None] * channels + lanes[None, :],
        mask=real[:, None] & (lanes < channels)[None, :],
        other=0.0,
    )
    total = tl.zeros([block], tl.float32)
    in_view = tl.zeros([block], tl.float32)
    for m in range(frames):
        frame = m * tl.num_programs(2) + b
        H = matrices + frame * 12
        qx = tl.load(H) * column + tl.load(H + 1) * row + tl.load(H + 2) + tl.load(H + 9) * inverse_depth
        qy = tl.load(H + 3) * column + tl.load(H + 4) * row + tl.load(H + 5) + tl.load(H + 10) * inverse_depth
        qz = tl.load(H + 6) * column + tl.load(H + 7) * row + tl.load(H + 8) + tl.load(H + 11) * inverse_depth
        u = qx / (qz + 1e-8)
        v = qy / (qz + 1e-8)
        if masked:
            visible = real & (qz > 0) & (u >= 0) & (u <= width - 1) & (v >= 0) & (v <= height - 1)
        else:
            visible = real & (u > -1) & (u < width) & (v > -1) & (v < height)
        view = measurements + frame * area * channels
        warped = bilinear_samples(view, u, v, visible, lanes, channels, width, height, repeated=False)
        total += tl.sum(here * warped, axis=1)
        in_view += tl.where(visible, 1.0, 0.0)
    count = tl.maximum(in_view, 1.0) if masked else frames
    tl.store(costs + (b * area + pixel) * planes + plane, total / count / channels, mask=real)


def triton_sweep(
    reference: Tensor,
    measurements: Tensor,
    homographies: Tensor,
    translations: Tensor,
    inverse_depths: Tensor,
    masked: bool,
) -> Tensor:
    """As `model.cost_volume.plane_sweep`; the cost volume is channels-last."""
    batch, channels, height, width = reference.shape
    planes = len(inverse_depths)
    costs = torch.empty((batch, height, width, planes), dtype=torch.float32, device=reference.device)
    matrices = torch.cat([homographies.flatten(2), translations], dim=2).contiguous()
    _sweep_kernel[(triton.cdiv(height * width, PIXELS), planes, batch)](
        reference.permute(0, 2, 3, 1).contiguous(),
        measurements.permute(0, 1, 3, 4, 2).contiguous(),
        matrices,
        inverse_depths,
        costs,
        len(measurements),
        height,
        width,
        planes,
        channels,
        masked=masked,
        block_channels=max(16, triton.next_power_of_2(channels)),
        block=PIXELS,
    )
    return costs.permute(0, 3, 1, 2)
