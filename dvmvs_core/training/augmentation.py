# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""From a clip to what the networks are trained on: turned around, scaled, recoloured, normalised.

All frames of a clip share what is drawn for it, since they show one scene through one camera.

Source: Düzçeker et al., "DeepVideoMVS", CVPR 2021, and its public training code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from kornia.enhance import adjust_brightness, adjust_contrast, adjust_gamma
from torch import Tensor

from dvmvs_core.data.synthetic.clips import ClipBatch
from dvmvs_core.preprocess import IMAGE_MEAN, IMAGE_SCALE, IMAGE_STD

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
        scale_share: where in the range the scale lies, 0…1, once the range was narrowed for the clip's depths.
        brightness: added to values of 0…1.
        contrast: multiplies them.
        gamma: their exponent.
        order: the order in which gamma (0), contrast (1) and brightness (2) are applied.
    """

    turned: bool
    scale_range: tuple[float, float]
    scale_share: float
    brightness: float
    contrast: float
    gamma: float
    order: tuple[int, ...]


def draw_clip(rng: np.random.Generator) -> ClipDraw:
    """Draw the augmentation of one clip."""
    return ClipDraw(
        turned=rng.random() > 0.5,
        scale_range=SCALE_RANGES[int(rng.random() > 0.5)],
        scale_share=rng.random(),
        brightness=rng.uniform(*BRIGHTNESS_RANGE),
        contrast=rng.uniform(*CONTRAST_RANGE),
        gamma=rng.uniform(*GAMMA_RANGE),
        order=tuple(rng.permutation(3).tolist()),
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
    turned = ClipBatch(*(_stack(part, draws, _turn) for part in batch[:3]), batch.K)
    scale = torch.stack([_scale(*clip, min_depth_m, max_depth_m) for clip in zip(turned.depth, draws, strict=True)])
    world_T_cam = turned.world_T_cam.clone()
    world_T_cam[:, :, :3, 3:] *= scale.view(-1, 1, 1, 1)
    image = _stack(turned.image, draws, _recolour)
    return _training_clip(image, turned.depth * scale.view(-1, 1, 1, 1), world_T_cam, batch.K)


def _training_clip(image: Tensor, depth: Tensor, world_T_cam: Tensor, K: Tensor) -> TrainingClip:
    mean = torch.from_numpy(IMAGE_MEAN).to(image.device).view(3, 1, 1)
    std = torch.from_numpy(IMAGE_STD).to(image.device).view(3, 1, 1)
    return TrainingClip((image - mean) / std, depth.float(), world_T_cam.float(), K.float())


def _stack(part: Tensor, draws: Sequence[ClipDraw], change) -> Tensor:
    return torch.stack([change(clip, draw) for clip, draw in zip(part, draws, strict=True)])


def _turn(frames: Tensor, draw: ClipDraw) -> Tensor:
    return frames.flip(0) if draw.turned else frames


def _scale(depth: Tensor, draw: ClipDraw, min_depth_m: float, max_depth_m: float) -> Tensor:
    """The scale of a clip whose depth is (T, H, W), as a scalar: no value leaves the device."""
    nearest = torch.where(depth > 0, depth, torch.inf).amin().clamp(max=max_depth_m)
    farthest = depth.amax().clamp(min=min_depth_m)
    low = (min_depth_m / nearest).clamp(min=draw.scale_range[0])
    high = (max_depth_m / farthest).clamp(max=draw.scale_range[1])
    return low + (high - low) * draw.scale_share


def _recolour(frames: Tensor, draw: ClipDraw) -> Tensor:
    """Gamma, contrast and brightness, each clamped to 0…1; frames (T, 3, H, W), 0…255 to 0…1."""
    plain = frames.float()
    low, high = RECOLOURED_MEANS
    mean = plain.mean(dim=(1, 2, 3), keepdim=True)
    plain = plain / IMAGE_SCALE
    steps = (
        lambda x: adjust_gamma(x, draw.gamma),
        lambda x: adjust_contrast(x, draw.contrast),
        lambda x: adjust_brightness(x, draw.brightness),
    )
    coloured = plain
    for index in draw.order:
        coloured = steps[index](coloured)
    return torch.where((mean > low) & (mean < high), coloured, plain)
