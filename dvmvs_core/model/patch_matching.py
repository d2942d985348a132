# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Fixed descriptors for matching: normalised 3×3 grey patches.

The mean product of two descriptors over their channels is the zero-mean normalised cross-correlation of the
patches, in -1..1. Nothing is learned, so a network that uses them sees geometry from its first step on.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from dvmvs_core.preprocess import IMAGE_STD

PATCH_CHANNELS = 9
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
# Patches whose standard deviation is below about one of 255 grey levels are noise: they match nothing.
_NOISE_LEVEL = 1 / 255


def patch_descriptors(image: Tensor) -> Tensor:
    """Descriptors of a normalised image (B, 3, H, W), as (B, 9, H/2, W/2) without gradient.

    Half-resolution pixel x is centred on pixel 2x of the image, as in the learned features.
    """
    with torch.no_grad(), torch.autocast(image.device.type, enabled=False):
        grey = _grey(image)
        return _patches(
            _halved(_halved(functional.pad(grey, (1, 1, 1, 1), "replicate")).transpose(1, 2)).transpose(1, 2)
        )


def full_patch_descriptors(image: Tensor) -> Tensor:
    """Descriptors of every pixel of a normalised image (B, 3, H, W), as (B, 9, H, W) without gradient."""
    with torch.no_grad(), torch.autocast(image.device.type, enabled=False):
        return _patches(_grey(image))


def _grey(image: Tensor) -> Tensor:
    """Grey levels (B, H, W) of a normalised image, 0..1 up to a constant."""
    red, green, blue = image.float().unbind(dim=1)
    to_grey = [w * float(s) for w, s in zip(_LUMA, IMAGE_STD, strict=True)]
    return red * to_grey[0] + green * to_grey[1] + blue * to_grey[2]


def _patches(grey: Tensor) -> Tensor:
    """Normalised 3×3 patches (B, 9, h, w) around every pixel of (B, h, w)."""
    height, width = grey.shape[1:]
    around = functional.pad(grey, (1, 1, 1, 1), "replicate")
    shifts = [(y, x) for y in range(3) for x in range(3)]
    patches = torch.stack([around[:, y : y + height, x : x + width] for y, x in shifts], dim=1)
    centred = patches - patches.mean(dim=1, keepdim=True)
    return centred * (centred.square().mean(dim=1, keepdim=True) + _NOISE_LEVEL**2).rsqrt()


def _halved(x: Tensor) -> Tensor:
    """Every other row of (B, 2n+2, w), smoothed by the binomial 1 2 1: (B, n, w)."""
    return (x[:, :-2:2] + 2 * x[:, 1:-1:2] + x[:, 2::2]) / 4
