# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""From a clip to what the networks are trained on: turned around, scaled, recoloured, spoilt, normalised.

All frames of a clip share what is drawn for it, since they show one scene through one camera.

Source: Düzçeker et al., "DeepVideoMVS", CVPR 2021, and its public training code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dvmvs_core.preprocess import IMAGE_MEAN, IMAGE_SCALE, IMAGE_STD
from dvmvs_core.runtime.devices import to_device
from dvmvs_core.synthetic.clips import ClipBatch
from dvmvs_core.synthetic.defects import Defects, apply_defects, draw_defects

SCALE_RANGES = ((0.8, 1.25), (0.666, 1.5))
"""A scene of any size looks the same through a camera that moves in proportion: free variety in depth."""
BRIGHTNESS_RANGE = (-0.03, 0.03)
CONTRAST_RANGE = (0.8, 1.2)
GAMMA_RANGE = (0.8, 1.2)
RECOLOURED_MEANS = (55.0, 200.0)
"""Mean value of the frames that are recoloured: darker and brighter ones would lose what little they show."""


@dataclass(frozen=True)
class TrainingClip:
    """Clips as the networks take them.

    Attributes:
        image: (B, T, 3, H, W) float32, normalised.
        depth: (B, T, H, W) float32, metres, 0 where there is none.
        world_T_cam: (B, T, 4, 4) float32.
        K: (B, 3, 3) float32, pixels.
    """

    image: Tensor
    depth: Tensor
    world_T_cam: Tensor
    K: Tensor


@dataclass(frozen=True)
class ClipDraw:
    """What is drawn for one clip.

    Args:
        turned: whether time runs backwards.
        scale_range: lowest and highest scale of the world.
        scale_share: where in the range the scale is, 0…1, once the range was narrowed for the clip's depths.
        brightness: added to values of 0…1.
        contrast: multiplies them.
        gamma: their exponent.
        order: the order in which gamma (0), contrast (1) and brightness (2) are applied.
        defects: of the camera.
    """

    turned: bool
    scale_range: tuple[float, float]
    scale_share: float
    brightness: float
    contrast: float
    gamma: float
    order: tuple[int, ...]
    defects: Defects = Defects()


def draw_clip(rng: np.random.Generator, defects: bool = True) -> ClipDraw:
    """Draw the augmentation of one clip, with or without the defects of a camera."""
    return ClipDraw(
        turned=rng.random() > 0.5,
        scale_range=SCALE_RANGES[int(rng.random() > 0.5)],
        scale_share=rng.random(),
        brightness=rng.uniform(*BRIGHTNESS_RANGE),
        contrast=rng.uniform(*CONTRAST_RANGE),
        gamma=rng.uniform(*GAMMA_RANGE),
        order=tuple(rng.permutation(3).tolist()),
        defects=draw_defects(rng) if defects else Defects(),
    )


def prepare_clip(batch: ClipBatch) -> TrainingClip:
    """Convert clips without augmenting them, as validation does."""
    return _training_clip(batch.image.float() / IMAGE_SCALE, batch.depth, batch.world_T_cam, batch.K)


def augment_clip(batch: ClipBatch, draws: Sequence[ClipDraw], min_depth_m: float, max_depth_m: float) -> TrainingClip:
    """Convert clips, each augmented as was drawn for it.

    Args:
        batch: B clips.
        draws: one of each.
        min_depth_m: no scale brings a surface nearer than this, unless another one would then be too far away.
        max_depth_m: no scale takes a surface farther away than this.
    """
    device = batch.depth.device
    numbers = [
        (*draw.scale_range, draw.scale_share, draw.gamma, draw.contrast, draw.brightness, *draw.order, draw.turned)
        for draw in draws
    ]
    table = to_device(torch.tensor(numbers, dtype=torch.float32), device)
    image, depth, world_T_cam = (_turn(part, table[:, 9] > 0) for part in batch[:3])
    scale = _scales(depth, table[:, :3], min_depth_m, max_depth_m)
    world_T_cam = torch.cat([world_T_cam[..., :3], world_T_cam[..., 3:] * _metres(scale)], -1)
    image = apply_defects(_recolour(image, *table[:, 3:6].unbind(1), table[:, 6:9]), [draw.defects for draw in draws])
    return _training_clip(image, depth * scale.view(-1, 1, 1, 1), world_T_cam, batch.K)


def _training_clip(image: Tensor, depth: Tensor, world_T_cam: Tensor, K: Tensor) -> TrainingClip:
    statistics = to_device(torch.from_numpy(np.stack((IMAGE_MEAN, IMAGE_STD))), image.device)
    mean, std = statistics.view(2, 3, 1, 1)
    return TrainingClip((image - mean) / std, depth.float(), world_T_cam.float(), K.float())


def _turn(part: Tensor, turned: Tensor) -> Tensor:
    """Reverse the frames (B, T, …) of clips that are turned (B,)."""
    return torch.where(turned.view(-1, *[1] * (part.dim() - 1)), part.flip(1), part)


def _metres(scale: Tensor) -> Tensor:
    """Factors (B, 1, 4, 1) of the last column of poses: the scale of the world for metres, 1 for the last row."""
    one = torch.ones_like(scale)
    return torch.stack([scale, scale, scale, one], 1)[:, None, :, None]


def _scales(depth: Tensor, ranges: Tensor, min_depth_m: float, max_depth_m: float) -> Tensor:
    """Scales (B,) of clips with depth (B, T, H, W), from lowest, highest and share (B, 3): none leaves the device."""
    nearest = torch.where(depth > 0, depth, torch.inf).amin((1, 2, 3)).clamp(max=max_depth_m)
    farthest = depth.amax((1, 2, 3)).clamp(min=min_depth_m)
    low = torch.maximum(min_depth_m / nearest, ranges[:, 0])
    high = torch.minimum(max_depth_m / farthest, ranges[:, 1])
    return low + (high - low) * ranges[:, 2]


def _recolour(image: Tensor, gamma: Tensor, contrast: Tensor, brightness: Tensor, order: Tensor) -> Tensor:
    """Gamma, contrast and brightness (B,) in the clip's order (B, 3), each clamped to 0…1.

    Images are (B, T, 3, H, W), 0…255 to 0…1.
    """
    plain = image.float()
    low, high = RECOLOURED_MEANS
    mean = plain.mean(dim=(2, 3, 4), keepdim=True)
    plain = plain / IMAGE_SCALE
    coloured = plain
    for operation in order.unbind(1):
        coloured = colour_operation(coloured, operation, gamma, contrast, brightness)
    return torch.where((mean > low) & (mean < high), coloured, plain)


def colour_operation(image: Tensor, operation: Tensor, gamma: Tensor, contrast: Tensor, brightness: Tensor) -> Tensor:
    """Apply to each clip one of three operations as published: all are about 0, and clamped to 0…1.

    Args:
        image: (B, T, 3, H, W), 0…1.
        operation: (B,) 0 raises to the power of gamma, 1 multiplies by contrast, 2 adds brightness.
        gamma: (B,).
        contrast: (B,).
        brightness: (B,).
    """
    # The two others do nothing: which one works differs from clip to clip.
    exponent = torch.where(operation == 0, gamma, 1.0).view(-1, 1, 1, 1, 1)
    factor = torch.where(operation == 1, contrast, 1.0).view(-1, 1, 1, 1, 1)
    offset = torch.where(operation == 2, brightness, 0.0).view(-1, 1, 1, 1, 1)
    return (image.pow(exponent) * factor + offset).clamp(0.0, 1.0)
