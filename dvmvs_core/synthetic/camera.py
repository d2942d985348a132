# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The synthetic camera: random intrinsics, and the way from linear light to 8-bit colours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dvmvs_core.runtime.devices import to_device


def sample_intrinsics(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Draw a pinhole K as it results from resizing a real camera's image without keeping its aspect.

    Args:
        rng: Source of randomness.
        height: Image height, pixels.
        width: Image width, pixels.

    Returns:
        (3, 3) float64, pixels; horizontal field of view 45 to 75 degrees, fy / fx 0.9 to 1.25 on a 5:4 image.
    """
    field_of_view = np.deg2rad(rng.uniform(45.0, 75.0))
    fx = 0.5 * width / np.tan(0.5 * field_of_view)
    fy = fx * rng.uniform(0.9, 1.25) * (height / width) / 0.8
    cx = 0.5 * (width - 1) + rng.normal(0.0, 0.015) * width
    cy = 0.5 * (height - 1) + rng.normal(0.0, 0.02) * height
    return np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])


_METERED = 3.0
"""Brighter spots count as so many times the mean in exposure."""


@dataclass(frozen=True)
class Development:
    """How one camera turns light into colours.

    Attributes:
        target: Mean linear brightness that exposure aims at.
        follow: How far automatic exposure follows each frame's brightness: 0 keeps the gain, 1 keeps the brightness.
        drift: Deviation of the gain's logarithm from frame to frame.
        balance: (3,) white balance.
        vignetting: Light lost half-way to the corners.
        shoulder: How early highlights roll off.
        white: Exposed light at which highlights are clipped.
        gamma: Of the display curve.
        contrast: Share of an S-shaped tone curve.
        side: Weight of each neighbour pixel: positive blurs, negative sharpens as camera firmware does.
        noise: Deviation at middle grey, of a full scale of 1.
        exposure_s: Seconds that the shutter is open, which blurs what moves; 0 freezes it.
    """

    target: float
    follow: float
    drift: float
    balance: np.ndarray
    vignetting: float
    shoulder: float
    white: float
    gamma: float
    contrast: float
    side: float
    noise: float
    exposure_s: float


def sample_development(rng: np.random.Generator, strength: float = 1.0) -> Development:
    """Draw a camera; `strength` scales its deviations from a clean, well exposed one."""
    return Development(
        target=float(np.exp(rng.normal(np.log(0.23), 0.35 * strength))),
        follow=rng.uniform(0.1, 0.7),
        drift=0.02 * strength,
        balance=np.exp(rng.normal(0.0, 0.06 * strength, 3)),
        vignetting=rng.uniform(0.0, 0.18) * strength,
        shoulder=rng.uniform(1.0, 1.6),
        white=float(np.exp(rng.uniform(np.log(1.2), np.log(5.0)))),
        gamma=rng.uniform(1.9, 2.4),
        contrast=rng.uniform(0.4, 1.25),
        side=rng.uniform(-0.14, 0.04),
        noise=float(np.exp(rng.uniform(np.log(0.0012), np.log(0.01)))) * strength,
        exposure_s=sample_exposure(rng) * strength,
    )


def sample_exposure(rng: np.random.Generator) -> float:
    """Draw an exposure time in seconds: short enough to freeze all motion, or up to a frame's whole period."""
    return 0.0 if rng.random() < 0.35 else float(np.exp(rng.uniform(np.log(0.003), np.log(0.033))))


def metered(linear: Tensor) -> Tensor:
    """Brightness (T,) of frames (T, 3, H, W) of linear light, without letting a small lamp outshine all the rest."""
    usual = linear.mean((1, 2, 3), keepdim=True)
    return torch.minimum(linear, _METERED * usual).mean((1, 2, 3)).clamp(min=1e-4)


def develop(linear: Tensor, camera: Development, rng: np.random.Generator, reference: Tensor | None = None) -> Tensor:
    """Turn linear light into camera images.

    Args:
        linear: (T, 3, H, W) linear RGB, any scale.
        camera: How.
        rng: Source of gain drift and pixel noise.
        reference: Mean brightness that exposure was set for; that of these frames by default.

    Returns:
        (T, 3, H, W) uint8.
    """
    frames, _, height, width = linear.shape
    device = linear.device
    brightness = metered(linear)
    if reference is None:
        reference = brightness.mean()
    drift = np.exp(np.cumsum(rng.normal(0.0, camera.drift, frames)))
    gain = to_device(torch.from_numpy(camera.target * drift[:, None] * camera.balance).float(), device)
    exposure = (brightness / reference).pow(-camera.follow) / reference
    image = linear * (gain * exposure[:, None])[:, :, None, None]

    y = torch.linspace(-1.0, 1.0, height, device=device)[:, None]
    x = torch.linspace(-1.0, 1.0, width, device=device)[None, :]
    image = image * (1.0 - camera.vignetting * (x * x + y * y))
    # Highlights roll off before they are clipped.
    image = (1.0 - torch.exp(-image * camera.shoulder)) / (1.0 - np.exp(-camera.white * camera.shoulder))
    image = image.clamp(0.0, 1.0).pow(1.0 / camera.gamma)
    image = image + camera.contrast * (image * image * (3.0 - 2.0 * image) - image)

    padded = torch.nn.functional.pad(image, (1, 1, 1, 1), mode="replicate")
    centre = 1.0 - 2.0 * camera.side
    rows = camera.side * (padded[:, :, :-2] + padded[:, :, 2:]) + centre * padded[:, :, 1:-1]
    image = camera.side * (rows[..., :-2] + rows[..., 2:]) + centre * rows[..., 1:-1]

    noise = torch.randn(
        image.shape, generator=torch.Generator(device).manual_seed(int(rng.integers(2**62))), device=device
    )
    image = image + camera.noise * (0.6 + 0.8 * torch.sqrt(image.clamp(min=0.0))) * noise
    return (image * 255.0 + 0.5).clamp(0.0, 255.0).to(torch.uint8)
