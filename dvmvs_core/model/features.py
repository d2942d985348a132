# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Image features: what one image says about itself, at five scales.

The extractor is MNASNet 1.0 cut before its classifier; the pyramid gives every scale the same number of
channels and lets coarse context flow to fine scales. A frame's features depend on its image alone, so they
are computed once per frame and kept while it is a keyframe.

Symbols: B batch, C channels, H×W the network's resolution; half = H/2×W/2, and so on.
Source: Tan et al., "MnasNet", CVPR 2019; Lin et al., "Feature Pyramid Networks", CVPR 2017.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional

# The public extractor updates its batch statistics very slowly (it starts from ImageNet weights).
EXTRACTOR_BATCH_NORM_MOMENTUM = 1.0 - 0.9997


class ImageFeatures(NamedTuple):
    """Features of one frame; every map is (B, C, h, w).

    Attributes:
        half: Pyramid map at half resolution.
        quarter: Pyramid map at a quarter of the resolution.
        eighth: Pyramid map at an eighth of the resolution.
        sixteenth: Pyramid map at a sixteenth of the resolution.
        matching: The map that the cost volume compares between frames, at half resolution. It is all that
            has to be kept of a measurement frame.
    """

    half: Tensor
    quarter: Tensor
    eighth: Tensor
    sixteenth: Tensor
    matching: Tensor


class InvertedResidual(nn.Module):
    """Expand by 1×1, filter each channel by k×k, project by 1×1; the input is added where shapes allow."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = expansion * in_channels
        self.adds_input = in_channels == out_channels and stride == 1
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, wide, 1, bias=False),
            _batch_norm(wide),
            nn.ReLU(inplace=True),
            nn.Conv2d(wide, wide, kernel, stride, kernel // 2, groups=wide, bias=False),
            _batch_norm(wide),
            nn.ReLU(inplace=True),
            nn.Conv2d(wide, out_channels, 1, bias=False),
            _batch_norm(out_channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, h, w) -> (B, out, h/stride, w/stride)."""
        return x + self.layers(x) if self.adds_input else self.layers(x)


class FeatureExtractor(nn.Module):
    """MNASNet's convolutional layers, returned after each halving of the resolution.

    Args:
        stem: Channels of the first convolution.
        channels: Channels of the five outputs, finest first. The two coarsest double the width of the one
            before in a first stack of blocks and reach their own in a second.
    """

    def __init__(self, stem: int, channels: Sequence[int]) -> None:
        super().__init__()
        half, quarter, eighth, sixteenth, thirty_second = channels
        self.layer1 = nn.Sequential(
            nn.Conv2d(3, stem, 3, stride=2, padding=1, bias=False),
            _batch_norm(stem),
            nn.ReLU(inplace=True),
            nn.Conv2d(stem, stem, 3, padding=1, groups=stem, bias=False),
            _batch_norm(stem),
            nn.ReLU(inplace=True),
            nn.Conv2d(stem, half, 1, bias=False),
            _batch_norm(half),
        )
        self.layer2 = nn.Sequential(_stack(3, half, quarter, kernel=3, stride=2, expansion=3))
        self.layer3 = nn.Sequential(_stack(3, quarter, eighth, kernel=5, stride=2, expansion=3))
        self.layer4 = nn.Sequential(
            _stack(3, eighth, 2 * eighth, kernel=5, stride=2, expansion=6),
            _stack(2, 2 * eighth, sixteenth, kernel=3, stride=1, expansion=6),
        )
        self.layer5 = nn.Sequential(
            _stack(4, sixteenth, 2 * sixteenth, kernel=5, stride=2, expansion=6),
            _stack(1, 2 * sixteenth, thirty_second, kernel=3, stride=1, expansion=6),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                if not module.weight.is_meta:  # an outline has no values, and torch takes seconds to draw none
                    nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Turns a normalised image (B, 3, H, W) into maps at 1/2, 1/4, 1/8, 1/16 and 1/32."""
        half = self.layer1(image)
        quarter = self.layer2(half)
        eighth = self.layer3(quarter)
        sixteenth = self.layer4(eighth)
        thirty_second = self.layer5(sixteenth)
        return half, quarter, eighth, sixteenth, thirty_second


class FeaturePyramid(nn.Module):
    """Top-down pyramid: each scale adds the upsampled coarser one to its own lateral projection.

    Args:
        in_channels: Channels of the extractor's five maps, finest first.
        out_channels: Channels of every map of the pyramid.
    """

    def __init__(self, in_channels: Sequence[int], out_channels: int) -> None:
        super().__init__()
        self.fpn = nn.Module()
        self.fpn.inner_blocks = nn.ModuleList(nn.Conv2d(c, out_channels, 1) for c in in_channels)
        # The coarsest 3×3 convolution has no use: released files hold it, so it stays for strict loading.
        self.fpn.layer_blocks = nn.ModuleList(nn.Conv2d(out_channels, out_channels, 3, padding=1) for _ in in_channels)
        self.fpn.layer_blocks[-1].requires_grad_(False)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
                nn.init.zeros_(module.bias)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Turns the extractor's five maps into four of equal width, at 1/2, 1/4, 1/8 and 1/16."""
        lateral = [inner(x) for inner, x in zip(self.fpn.inner_blocks, maps, strict=True)]
        merged = lateral[4]
        outputs = []
        for level in (3, 2, 1, 0):
            merged = lateral[level] + functional.interpolate(merged, size=lateral[level].shape[-2:])
            outputs.append(self.fpn.layer_blocks[level](merged))
        sixteenth, eighth, quarter, half = outputs
        return half, quarter, eighth, sixteenth


def _batch_norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, momentum=EXTRACTOR_BATCH_NORM_MOMENTUM)


def _stack(blocks: int, in_channels: int, out_channels: int, kernel: int, stride: int, expansion: int) -> nn.Sequential:
    """Several inverted residuals; only the first changes resolution and width."""
    first = InvertedResidual(in_channels, out_channels, kernel, stride, expansion)
    rest = [InvertedResidual(out_channels, out_channels, kernel, 1, expansion) for _ in range(blocks - 1)]
    return nn.Sequential(first, *rest)
