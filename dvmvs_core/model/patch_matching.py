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
        to_grey = image.new_tensor([w * float(s) for w, s in zip(_LUMA, IMAGE_STD, strict=True)])
        grey = (image.float() * to_grey.view(1, 3, 1, 1)).sum(dim=1, keepdim=True)  # 0..1, up to a constant
        binomial = image.new_tensor([1.0, 2.0, 1.0]) / 4
        kernel = (binomial[:, None] * binomial[None]).view(1, 1, 3, 3)
        half = functional.conv2d(functional.pad(grey, (1, 1, 1, 1), "replicate"), kernel, stride=2)
        patches = functional.unfold(functional.pad(half, (1, 1, 1, 1), "replicate"), 3)  # (B, 9, hw)
        centred = patches - patches.mean(dim=1, keepdim=True)
        deviation = (centred.square().mean(dim=1, keepdim=True) + _NOISE_LEVEL**2).sqrt()
        return (centred / deviation).view(len(image), PATCH_CHANNELS, *half.shape[-2:])
