# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""A second, finer plane sweep around the predicted depth, and the network that corrects depth by it.

At 2 m the 64 planes of the paper are 25 cm apart. Here every pixel has depths of its own, dense around the prediction
and sparse farther off. In checkpoints, configurations and ONNX files its name is refinement (`refinement_channels`).

No part of the published method. Sources: coarse-to-fine cost volumes, Gu et al., "Cascade Cost Volume for
High-Resolution Multi-View Stereo and Stereo Matching", CVPR 2020; the way to full resolution by a learned mean of the
nine values around, Teed and Deng, "RAFT", ECCV 2020.

Symbols: B batch, C channels of the matching maps, P depths of a pixel, N hyper channels, F pyramid channels, H×W
network resolution, h×w half of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from dvmvs_core.model.pinhole import pixel_grid
from dvmvs_core.model.ray_matching import match_at_pixels

LOG_SHIFTS = (-0.7, -0.52, -0.38, -0.28, -0.2, -0.14, -0.09, -0.045, 0.0, 0.045, 0.09, 0.14, 0.2, 0.28, 0.38, 0.52, 0.7)
"""Logarithms of the depths that are matched, over the predicted one."""
PREDICTED = LOG_SHIFTS.index(0.0)
MATCHED_CHANNELS = len(LOG_SHIFTS) + 2
NEAR = 3
"""Pixels a side of the neighbourhood whose corrections are averaged."""


class FineSweep(nn.Module):
    """Matches around a prediction, and corrects it by what was found.

    Args:
        hyper_channels: N, channels of the decoder's last map at half resolution.
        pyramid_channels: F, channels of the image features.
        channels: its own width.
        min_depth_m: Nearest depth that it can give, metres.
        max_depth_m: Farthest depth that it can give, metres.
    """

    def __init__(
        self, hyper_channels: int, pyramid_channels: int, channels: int, min_depth_m: float, max_depth_m: float
    ) -> None:
        super().__init__()
        self.min_depth_m = min_depth_m
        self.max_depth_m = max_depth_m
        self.register_buffer("log_shifts", torch.tensor(LOG_SHIFTS), persistent=False)
        inputs = MATCHED_CHANNELS + 1 + hyper_channels + pyramid_channels
        self.fine = nn.Conv2d(inputs, channels, 3, padding=1)
        self.down = nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1)
        self.coarse1 = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1)
        self.coarse2 = nn.Conv2d(2 * channels, 2 * channels, 3, padding=2, dilation=2)
        self.up = nn.Conv2d(2 * channels, channels, 1)
        self.merge = nn.Conv2d(channels, channels, 3, padding=1)
        self.correction = nn.Conv2d(channels, 1, 3, padding=1)
        # RAFT calls them the mask of convex upsampling; the name is a key of checkpoints.
        self.shares = nn.Conv2d(channels, 4 * NEAR**2, 1)
        # Zero-initialised, so training starts from the network without this part.
        nn.init.zeros_(self.correction.weight)
        nn.init.zeros_(self.correction.bias)

    def match(
        self,
        depth: Tensor,
        reference: Tensor,
        measurements: Sequence[Tensor],
        homographies: Iterable[Tensor],
        translations: Iterable[Tensor],
    ) -> Tensor:
        """Compare every other pixel of a prediction with the measurement frames, at depths around its own.

        Args:
            depth: (B, H, W) metres; no gradient flows into it.
            reference: (B, C, h, w) matching map of the reference frame.
            measurements: (B, C, h, w) of each measurement frame; at least one.
            homographies: (B, 3, 3) of each, from `sweep_geometry`.
            translations: (B, 3) of each, from there too.

        Returns:
            (B, P+2, h, w): the cosine of both descriptors, averaged over the frames that have the point in view, for
            each of LOG_SHIFTS; the share of frames that have the predicted point in view; and how much texture the
            pixel has.
        """
        with torch.no_grad(), torch.autocast(depth.device.type, enabled=False):
            batch, _, height, width = reference.shape
            inverse_depths = torch.exp(-_log(depth).flatten(2) - self.log_shifts.view(1, -1, 1))  # (B, P, hw)
            pixels = pixel_grid(height, width, like=inverse_depths)
            views = zip(measurements, homographies, translations, strict=True)
            matched = match_at_pixels(
                inverse_depths, reference.flatten(2), ((matching, H @ pixels, t) for matching, H, t in views)
            )
            total, count = (part.view(batch, -1, height, width) for part in matched)
            return self.with_texture(total / count.clamp(min=1.0), count / len(measurements), reference)

    def with_texture(self, cosines: Tensor, in_view: Tensor, reference: Tensor) -> Tensor:
        """What `match` returns, (B, P+2, h, w), of the mean cosines and of the share of frames in view (B, P, h, w)."""
        texture = reference.float().square().mean(dim=1, keepdim=True).sqrt()
        return torch.cat([cosines, in_view[:, PREDICTED : PREDICTED + 1], texture], dim=1)

    def forward(self, depth: Tensor, matched: Tensor, decoded: Tensor, features: Tensor) -> Tensor:
        """Corrects a prediction.

        Args:
            depth: (B, H, W) metres.
            matched: (B, P+2, h, w) from `match`.
            decoded: (B, N, h, w) the decoder's last map at half resolution.
            features: (B, F, h, w) of the image.

        Returns:
            (B, H, W) metres, float32.
        """
        x = torch.cat([part.to(decoded.dtype) for part in (matched, _log(depth), decoded, features)], dim=1)
        fine = self.fine(x).relu()
        coarse = self.down(fine).relu()
        coarse = (coarse + self.coarse2(self.coarse1(coarse).relu())).relu()
        coarse = functional.interpolate(self.up(coarse), size=fine.shape[-2:], mode="bilinear", align_corners=True)
        x = self.merge((fine + coarse).relu()).relu()
        corrected = depth * upsampled(self.correction(x).float(), self.shares(x).float()).exp()
        return corrected.clamp(self.min_depth_m, self.max_depth_m)


def upsampled(correction: Tensor, upsampling_weights: Tensor) -> Tensor:
    """Corrections (B, H, W) at full resolution: of each pixel a mean of the nine around it at half resolution.

    Args:
        correction: (B, 1, h, w).
        upsampling_weights: (B, 36, h, w) logits: for each of the nine, row by row, those of the four pixels in a cell.
    """
    batch, _, height, width = correction.shape
    reach = NEAR // 2
    near = functional.unfold(functional.pad(correction, (reach,) * 4, "replicate"), NEAR)
    weights = upsampling_weights.view(batch, NEAR**2, 4, height, width).softmax(dim=1)
    cells = (weights * near.view(batch, NEAR**2, 1, height, width)).sum(dim=1)
    return functional.pixel_shuffle(cells, 2)[:, 0]


def _log(depth: Tensor) -> Tensor:
    """Logarithm (B, 1, h, w) of every other pixel's depth."""
    return depth[:, None, ::2, ::2].float().log()
