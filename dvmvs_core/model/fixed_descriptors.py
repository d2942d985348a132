# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Descriptors that are not trained, for whole batches: what `base` matches, and the image features it decodes from.

They are those of `matching.descriptors`, as torch operations on batches. Symbols: B batch, C channels, H×W network
resolution.

Patches are centred on pixels 2x, as everywhere in this package. Lite0 pads as TensorFlow does, so cell x of its map
with stride s is centred on pixel s·x + s − 1: 4x + 3, 8x + 7, 16x + 15, 32x + 31.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from dvmvs_core.model import lite0
from dvmvs_core.model.lite0 import Lite0
from dvmvs_core.model.patch_matching import PATCH_CHANNELS, patch_descriptors
from dvmvs_core.preprocess import IMAGE_MEAN, IMAGE_SCALE, IMAGE_STD

LEVEL_STAGES = (1, 2, 4, 6)
"""The stages of Lite0 that give its maps at 1/4, 1/8, 1/16 and 1/32 ..."""
LEVEL_CHANNELS = (24, 40, 112, 320)
"""... and how many channels these have."""
MAP_CHANNELS = LEVEL_CHANNELS[0] + LEVEL_CHANNELS[1]

_TINY = 1e-6


class FixedFeatures(NamedTuple):
    """What `base` keeps of a frame.

    Attributes:
        patches: (B, 9, H/2, W/2) zero-mean 3×3 grey patches of length 1, shorter where they are noise.
        maps: (B, 64, H/4, W/4) Lite0's maps at 1/4 and 1/8, joined, of length 1.
        levels: Lite0's maps at 1/4, 1/8, 1/16 and 1/32, each divided by its standard deviation.
    """

    patches: Tensor
    maps: Tensor
    levels: tuple[Tensor, Tensor, Tensor, Tensor]


def fixed_features(encoder: Lite0, image: Tensor) -> FixedFeatures:
    """Describe normalised images (B, 3, H, W)."""
    outputs = encoder(_lite0_input(image))
    levels = [outputs[stage].float() for stage in LEVEL_STAGES]
    with torch.autocast(image.device.type, enabled=False):
        return FixedFeatures(
            patch_descriptors(image) / PATCH_CHANNELS**0.5,
            _joined_maps(levels[0], levels[1]),
            tuple(scaled_level(level) for level in levels),
        )


def scaled_level(level: Tensor) -> Tensor:
    """A map (B, C, h, w) of Lite0 over its standard deviation."""
    return level / (level.std(dim=(1, 2, 3), keepdim=True) + _TINY)


def _lite0_input(image: Tensor) -> Tensor:
    """Undo the normalisation of this package and apply that of Lite0."""
    scale = [float(std) * IMAGE_SCALE / lite0.IMAGE_SCALE for std in IMAGE_STD]
    shift = [(float(mean) * IMAGE_SCALE - lite0.IMAGE_MEAN) / lite0.IMAGE_SCALE for mean in IMAGE_MEAN]
    channels = [channel * a + b for channel, a, b in zip(image.unbind(1), scale, shift, strict=True)]
    return torch.stack(channels, dim=1).contiguous(memory_format=torch.channels_last)


def _joined_maps(quarter: Tensor, eighth: Tensor) -> Tensor:
    """Both maps less their means, each with half of the weight, at the resolution of the first."""
    quarter, eighth = (_unit(x - x.mean(dim=(2, 3), keepdim=True)) for x in (quarter, eighth))
    eighth = _unit(_doubled(_doubled(eighth).mT).mT)
    return torch.cat([quarter, eighth], dim=1) * 0.5**0.5


def _unit(x: Tensor) -> Tensor:
    return functional.normalize(x, dim=1, eps=_TINY)


def _doubled(x: Tensor) -> Tensor:
    """Twice as many columns: pixel 8x + 7 is that of column 2x + 1, pixel 8x + 3 lies half-way from the one before."""
    before = torch.cat([x[..., :1], x[..., :-1]], dim=-1)
    return torch.stack([(before + x) / 2, x], dim=-1).flatten(-2)
