# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""From matching scores and image features to depth at full resolution.

Symbols: B batch, D planes (0 is the nearest), h×w cells of the score volume, 4h×4w pixels of the image.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from dvmvs_core.model.score_volume import VOLUME_STRIDE

NEIGHBOURS = 9
"""Cells of a 3×3 neighbourhood, row by row."""

PLANES_BESIDE = 2
"""Planes on each side of the best one that depth is interpolated from."""


class ScoreAggregation(nn.Module):
    """Averages the scores of every plane over neighbourhoods whose weights are learned from the features.

    All planes of a cell share its weights, so what is learned of edges holds at every depth. Without training the two
    means over 3×3 cells come to a tent over 5×5; the third, with gaps between its cells, leaves them as they are.

    Source: propagation with learned affinities, Cheng, Wang and Yang, "Depth Estimation via Affinity Learned with
    Convolutional Spatial Propagation Network", ECCV 2018; there of depth, here of scores.

    Args:
        channels: of the features.
    """

    DILATIONS = (1, 1, 2)
    _CENTRE = 6.0  # softmax weight of the centre over that of the eight others: 0.98

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.affinity = nn.Conv2d(channels, NEIGHBOURS * len(self.DILATIONS), 3, padding=1)
        nn.init.zeros_(self.affinity.weight)
        nn.init.zeros_(self.affinity.bias)
        with torch.no_grad():
            self.affinity.bias[-NEIGHBOURS + NEIGHBOURS // 2] = self._CENTRE

    def forward(self, scores: Tensor, features: Tensor) -> Tensor:
        """Return (B, D, h, w) of scores (B, D, h, w) and features (B, C, h, w)."""
        weights = self.affinity(features).float().unflatten(1, (len(self.DILATIONS), NEIGHBOURS)).softmax(dim=2)
        for step, dilation in enumerate(self.DILATIONS):
            scores = _weighted_mean(scores, weights[:, step], dilation)
        return scores


class ConvexUpsampling(nn.Module):
    """Log depth at full resolution: of each pixel a mean of the nine cells around, with learned weights.

    Without training it interpolates linearly. Source: Teed and Deng, "RAFT", ECCV 2020.

    Args:
        channels: of the features.
        width: of its own hidden layer.
    """

    _LEAST = 0.01

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.hidden = nn.Conv2d(channels + 3 * VOLUME_STRIDE**2, width, 3, padding=1)
        self.weights = nn.Conv2d(width, NEIGHBOURS * VOLUME_STRIDE**2, 1)
        nn.init.normal_(self.weights.weight, std=1e-3)
        with torch.no_grad():
            self.weights.bias.copy_((_linear_weights() + self._LEAST).log().flatten())

    def forward(self, log_depth: Tensor, features: Tensor, image: Tensor) -> Tensor:
        """Return (B, 4h, 4w).

        Args:
            log_depth: (B, h, w).
            features: (B, C, h, w).
            image: (B, 3, 4h, 4w) normalised.
        """
        pixels = functional.pixel_unshuffle(image.to(features.dtype), VOLUME_STRIDE)
        hidden = self.hidden(torch.cat([features, pixels], dim=1)).relu()
        weights = self.weights(hidden).float().unflatten(1, (NEIGHBOURS, VOLUME_STRIDE**2)).softmax(dim=1)
        near = torch.stack(_neighbours(log_depth[:, None].float(), 1), dim=1)  # (B, 9, 1, h, w)
        return functional.pixel_shuffle((weights * near).sum(dim=1), VOLUME_STRIDE)[:, 0]


def best_plane_position(logits: Tensor) -> Tensor:
    """Position (B, h, w) of the best plane, with fractions: the mean of the planes about it, weighed by their softmax.

    Differentiable in the logits (B, D, h, w); which plane is best is not.
    """
    planes = logits.shape[1]
    best = logits.detach().argmax(dim=1, keepdim=True)
    first = (best - PLANES_BESIDE).clamp(0, planes - 1 - 2 * PLANES_BESIDE)
    index = first + torch.arange(2 * PLANES_BESIDE + 1, device=logits.device).view(1, -1, 1, 1)
    weights = logits.gather(1, index).softmax(dim=1)
    return (weights * index).sum(dim=1)


def _weighted_mean(maps: Tensor, weights: Tensor, dilation: int) -> Tensor:
    """Mean over neighbourhoods of (B, C, h, w), with weights (B, 9, h, w) that add up to 1."""
    total = None
    for near, weight in zip(_neighbours(maps, dilation), weights.split(1, dim=1), strict=True):
        total = near * weight if total is None else torch.addcmul(total, near, weight)
    return total


def _neighbours(maps: Tensor, dilation: int) -> list[Tensor]:
    """The nine neighbours of every cell of (B, C, h, w), row by row; beyond the border the nearest cell."""
    height, width = maps.shape[-2:]
    padded = functional.pad(maps, (dilation,) * 4, "replicate")
    steps = (0, dilation, 2 * dilation)
    return [padded[..., y : y + height, x : x + width] for y in steps for x in steps]


def _linear_weights() -> Tensor:
    """Weights (9, 16) of the neighbours for the pixels of a cell, row by row, that interpolate linearly.

    Pixel 4x + i lies between the centres of cells x − 1, at pixel 4x − 1, and x, at pixel 4x + 3.
    """
    own = (torch.arange(VOLUME_STRIDE) + 1) / VOLUME_STRIDE
    line = torch.stack([1 - own, own, torch.zeros(VOLUME_STRIDE)])  # (3, 4): the cell before, this one, the next
    return torch.einsum("ai,bj->abij", line, line).reshape(NEIGHBOURS, VOLUME_STRIDE**2)
