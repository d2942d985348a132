# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Resizing and normalising of images as torch tensors, on any device."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from dvmvs_core.preprocess import IMAGE_MEAN, IMAGE_SCALE, IMAGE_STD


def resized_image(image: Tensor, size: tuple[int, int]) -> Tensor:
    """(H, W, 3) uint8 -> (h, w, 3) float32 with values 0…255, linear without smoothing as in `Preprocessor.image`."""
    channels_first = image.permute(2, 0, 1)[None].float()
    resized = functional.interpolate(channels_first, size=size, mode="bilinear", align_corners=False)
    return resized[0].permute(1, 2, 0)


def normalised(resized: Tensor) -> Tensor:
    """(h, w, 3) with values 0…255 -> (1, 3, h, w) for the network, channels-last."""
    channels = [
        (resized[..., c] - float(IMAGE_SCALE * IMAGE_MEAN[c])) * float(1 / (IMAGE_SCALE * IMAGE_STD[c]))
        for c in range(3)
    ]
    return torch.stack(channels, dim=-1).permute(2, 0, 1)[None]
