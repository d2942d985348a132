"""From a rendered clip to what the networks are trained on: scaled, recoloured, normalised.

Source: Düzçeker et al., "DeepVideoMVS", CVPR 2021, and its public training code for the ranges.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from kornia.enhance import adjust_brightness, adjust_contrast, adjust_gamma
from torch import Tensor

from dvmvs_core.data.synthetic.clips import ClipBatch
from dvmvs_core.preprocess import IMAGE_MEAN, IMAGE_SCALE, IMAGE_STD

SCALE_RANGE = (0.666, 1.5)
"""A scene of any size looks the same through a camera that moves in proportion: free variety in depth."""
BRIGHTNESS_RANGE = (-0.03, 0.03)
CONTRAST_RANGE = (0.8, 1.2)
GAMMA_RANGE = (0.8, 1.2)


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


def prepare_clip(batch: ClipBatch) -> TrainingClip:
    """Convert a clip without augmenting it, as validation does."""
    return _training_clip(batch.image.float() / IMAGE_SCALE, batch.depth, batch.world_T_cam, batch.K)


def augment_clip(batch: ClipBatch, generator: torch.Generator, min_depth_m: float, max_depth_m: float) -> TrainingClip:
    """Convert a clip, with every scene at a random scale and in random colours.

    All frames of a clip get the same scale and colours, since they show the same scene through the same camera.

    Args:
        batch: the clips.
        generator: random numbers.
        min_depth_m: a scale that would bring a surface nearer than this is not drawn.
        max_depth_m: a scale that would take a surface farther away than this is not drawn.
    """
    scale = _draw_scale(batch.depth, generator, min_depth_m, max_depth_m).view(-1, 1, 1, 1)
    world_T_cam = batch.world_T_cam.clone()
    world_T_cam[:, :, :3, 3:] *= scale.to(world_T_cam.dtype)
    image = _recolour(batch.image.float() / IMAGE_SCALE, generator)
    return _training_clip(image, batch.depth * scale, world_T_cam, batch.K)


def _training_clip(image: Tensor, depth: Tensor, world_T_cam: Tensor, K: Tensor) -> TrainingClip:
    mean = torch.from_numpy(IMAGE_MEAN).view(3, 1, 1)
    std = torch.from_numpy(IMAGE_STD).view(3, 1, 1)
    return TrainingClip((image - mean) / std, depth.float(), world_T_cam.float(), K.float())


def _draw_scale(depth: Tensor, generator: torch.Generator, min_depth_m: float, max_depth_m: float) -> Tensor:
    """One scale a clip, (B,): log-uniform in SCALE_RANGE, narrowed so that all depths stay within the planes."""
    flat = depth.flatten(1)
    nearest = torch.where(flat > 0, flat, torch.inf).amin(1).clamp(max=max_depth_m)
    farthest = flat.amax(1).clamp(min=min_depth_m)
    low = (min_depth_m / nearest).clamp(min=SCALE_RANGE[0], max=1.0).log()
    high = (max_depth_m / farthest).clamp(min=1.0, max=SCALE_RANGE[1]).log()
    return (low + (high - low) * torch.rand(len(depth), generator=generator)).exp()


def _recolour(image: Tensor, generator: torch.Generator) -> Tensor:
    """Gamma, contrast and brightness in a random order, each clamped to 0…1; image (B, T, 3, H, W)."""

    def draw(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(len(image), generator=generator)

    steps = (
        lambda x: adjust_gamma(x, draw(*map(math.log, GAMMA_RANGE)).exp()),
        lambda x: adjust_contrast(x, draw(*CONTRAST_RANGE)),
        lambda x: adjust_brightness(x, draw(*BRIGHTNESS_RANGE)),
    )
    for index in torch.randperm(len(steps), generator=generator).tolist():
        image = steps[index](image)
    return image
