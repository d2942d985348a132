# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Descriptors of an image on a device; what each part is, `matching.descriptors` says."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from dvmvs_core.matching.descriptors import INT8_SCALE, NOISE_LEVELS, joined_maps
from dvmvs_core.model.lite0 import IMAGE_MEAN, IMAGE_SCALE, LEVEL_STAGES, Lite0
from dvmvs_core.model.patch_matching import transformed_patches

_GREY = (0.299, 0.587, 0.114)


def describe_image(image: Tensor, network: Lite0) -> tuple[Tensor, ...]:
    """Return the fields of `Descriptors` in their order, the levels last, of an image (H, W, 3) of 0…255."""
    rounded = image.round().clamp(0, 255)
    colours = _smoothed(rounded)
    grey = sum(colours[..., c] * weight for c, weight in enumerate(_GREY))
    outputs = network((rounded.permute(2, 0, 1)[None] - IMAGE_MEAN) / IMAGE_SCALE)
    levels = [outputs[stage] for stage in LEVEL_STAGES]
    maps = joined_maps(*levels[:2])
    return _bytes(_patches(grey)), _bytes(maps), colours.round().byte(), rounded.byte(), grey.round().byte(), *levels


def _smoothed(image: Tensor) -> Tensor:
    """Every second pixel (h, w, 3) of an image (H, W, 3), with binomial weights."""
    height, width, _ = image.shape
    padded = functional.pad(image.permute(2, 0, 1)[None], (1, 1, 1, 1), "replicate")[0]
    rows = 0.25 * padded[:, 0:height:2] + 0.5 * padded[:, 1 : height + 1 : 2] + 0.25 * padded[:, 2 : height + 2 : 2]
    smoothed = 0.25 * rows[..., 0:width:2] + 0.5 * rows[..., 1 : width + 1 : 2] + 0.25 * rows[..., 2 : width + 2 : 2]
    return smoothed.permute(1, 2, 0).contiguous()


def _patches(grey: Tensor) -> Tensor:
    """Patches (h, w, 8) of grey levels (h, w), see `matching.descriptors.patch_rows`."""
    patches = transformed_patches(grey[None])[0].permute(1, 2, 0)
    floor = 9 * NOISE_LEVELS * NOISE_LEVELS
    return (patches * (patches.square().sum(dim=-1, keepdim=True) + floor).rsqrt()).contiguous()


def _bytes(descriptors: Tensor) -> Tensor:
    return (descriptors * INT8_SCALE).round().to(torch.int8)
