"""The synthetic camera: random intrinsics, and the way from linear light to 8-bit colours."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


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


def develop(linear: Tensor, rng: np.random.Generator, strength: float = 1.0) -> Tensor:
    """Turn one clip's linear light into camera images.

    Exposure, gamma, white balance, vignetting and blur are those of one camera; gain drifts a little from frame to
    frame, and every pixel gets its own noise.

    Args:
        linear: (T, 3, H, W) linear RGB, any scale.
        rng: Source of randomness.
        strength: Scales every deviation from a clean, well exposed camera.

    Returns:
        (T, 3, H, W) uint8.
    """
    frames, _, height, width = linear.shape
    device = linear.device
    brightness = linear.mean(1, keepdim=True)
    exposure = float(np.exp(rng.normal(np.log(0.21), 0.35 * strength))) / float(brightness.mean().clamp(min=1e-4))
    drift = np.exp(np.cumsum(rng.normal(0.0, 0.02 * strength, frames)))
    # Automatic exposure follows each frame's own brightness part of the way.
    automatic = (brightness.mean((1, 2, 3)) / brightness.mean()).pow(-rng.uniform(0.0, 0.5) * strength)
    balance = np.exp(rng.normal(0.0, 0.06 * strength, 3))
    gain = torch.tensor(exposure * drift[:, None] * balance[None, :], dtype=torch.float32, device=device)
    image = linear * (gain * automatic[:, None])[:, :, None, None]

    y = torch.linspace(-1.0, 1.0, height, device=device)[:, None]
    x = torch.linspace(-1.0, 1.0, width, device=device)[None, :]
    image = image * (1.0 - rng.uniform(0.0, 0.18) * strength * (x * x + y * y))
    # Highlights roll off instead of clipping hard.
    image = 1.0 - torch.exp(-image * rng.uniform(1.0, 1.5))
    image = image.clamp(0.0, 1.0).pow(1.0 / rng.uniform(1.9, 2.4))

    side = rng.uniform(0.0, 0.22)
    padded = torch.nn.functional.pad(image, (1, 1, 1, 1), mode="replicate")
    rows = side * (padded[:, :, :-2] + padded[:, :, 2:]) + (1.0 - 2.0 * side) * padded[:, :, 1:-1]
    image = side * (rows[..., :-2] + rows[..., 2:]) + (1.0 - 2.0 * side) * rows[..., 1:-1]

    generator = torch.Generator(device=device).manual_seed(int(rng.integers(2**62)))
    deviation = float(np.exp(rng.uniform(np.log(0.002), np.log(0.016)))) * strength
    noise = torch.randn(image.shape, generator=generator, device=device)
    image = image + deviation * (0.6 + 0.8 * torch.sqrt(image.clamp(min=0.0))) * noise
    return (image * 255.0 + 0.5).clamp(0.0, 255.0).to(torch.uint8)
