# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Fixed descriptors for matching: normalised 3×3 grey patches.

The mean product of two descriptors over their channels is the zero-mean normalised cross-correlation of the
patches, in -1..1. Nothing is learned, so a network that uses them sees geometry from its first step on.

A patch without its mean is eight numbers: a cosine transform of it, without the constant. That is orthonormal, so
products of patches, and of what lies between two of them, are products of those numbers.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from dvmvs_core.preprocess import IMAGE_STD

COSINES = np.array(((1, 1, 1), (1, 0, -1), (1, -2, 1))) / np.sqrt(((3,), (2,), (6,)))
"""(3, 3) cosine transform of three numbers."""

PATCH_BASIS = np.kron(COSINES, COSINES)[1:].astype(np.float32)
"""(8, 9) that of a patch, row by row, without the constant."""

PATCH_CHANNELS = len(PATCH_BASIS)

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
# Patches whose standard deviation is below about one of 255 grey levels are noise: they match nothing.
_NOISE_LEVEL = 1 / 255


def patch_descriptors(image: Tensor) -> Tensor:
    """Descriptors of a normalised image (B, 3, H, W), as (B, 8, H/2, W/2) without gradient.

    Half-resolution pixel x is centred on pixel 2x of the image, as in the learned features.
    """
    with torch.no_grad(), torch.autocast(image.device.type, enabled=False):
        grey = _grey(image)
        return _patches(
            _halved(_halved(functional.pad(grey, (1, 1, 1, 1), "replicate")).transpose(1, 2)).transpose(1, 2)
        )


def full_patch_descriptors(image: Tensor) -> Tensor:
    """Descriptors of every pixel of a normalised image (B, 3, H, W), as (B, 8, H, W) without gradient."""
    with torch.no_grad(), torch.autocast(image.device.type, enabled=False):
        return _patches(_grey(image))


def _grey(image: Tensor) -> Tensor:
    """Grey levels (B, H, W) of a normalised image, 0..1 up to a constant."""
    red, green, blue = image.float().unbind(dim=1)
    to_grey = [w * float(s) for w, s in zip(_LUMA, IMAGE_STD, strict=True)]
    return red * to_grey[0] + green * to_grey[1] + blue * to_grey[2]


def transformed_patches(grey: Tensor) -> Tensor:
    """The eight numbers (B, 8, h, w) of the 3×3 patch around every pixel of (B, h, w)."""
    height, width = grey.shape[1:]
    around = functional.pad(grey, (1, 1, 1, 1), "replicate")
    across = _cosines([around[..., x : x + width] for x in range(3)])
    down = zip(*(_cosines([part[:, y : y + height] for y in range(3)]) for part in across), strict=True)
    return torch.stack([part for parts in down for part in parts][1:], dim=1)


def _cosines(three: list[Tensor]) -> list[Tensor]:
    """The three coefficients of neighbours along a line. The weights are numbers: an array would have to be sent."""
    return [sum(float(weight) * part for weight, part in zip(weights, three, strict=True)) for weights in COSINES]


def _patches(grey: Tensor) -> Tensor:
    """Normalised patches (B, 8, h, w) around every pixel of (B, h, w)."""
    patches = transformed_patches(grey)
    variance = patches.square().sum(dim=1, keepdim=True) / PATCH_BASIS.shape[1]
    return patches * ((variance + _NOISE_LEVEL**2) * (PATCH_BASIS.shape[1] / PATCH_CHANNELS)).rsqrt()


def _halved(x: Tensor) -> Tensor:
    """Every other row of (B, 2n+2, w), smoothed by the binomial 1 2 1: (B, n, w)."""
    return (x[:, :-2:2] + 2 * x[:, 1:-1:2] + x[:, 2::2]) / 4
