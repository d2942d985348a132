# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The 2D U-Net around the memory: cost volume in, depth at five scales out.

The encoder meets each scale's image features on its way down and leaves four skips; the decoder goes up,
predicting inverse depth at every scale and feeding each prediction to the next.

Symbols: B batch, D depth hypotheses, F pyramid channels, N hyper channels (widths N, 2N, 4N, 8N, 16N).
Source: Düzçeker et al., "DeepVideoMVS", CVPR 2021, figure 2. Module names are those of the released
checkpoints.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from dvmvs_core.model.features import ImageFeatures


class EncodedVolume(NamedTuple):
    """What the encoder hands on; skips are fine to coarse.

    Attributes:
        skip_half: (B, N, H/2, W/2).
        skip_quarter: (B, 2N, H/4, W/4).
        skip_eighth: (B, 4N, H/8, W/8).
        skip_sixteenth: (B, 8N, H/16, W/16).
        bottom: (B, 16N, H/32, W/32).
    """

    skip_half: Tensor
    skip_quarter: Tensor
    skip_eighth: Tensor
    skip_sixteenth: Tensor
    bottom: Tensor


class DepthPyramid(NamedTuple):
    """Depth along the optical axis in metres, at five scales, each (B, h, w)."""

    full: Tensor
    half: Tensor
    quarter: Tensor
    eighth: Tensor
    sixteenth: Tensor


class CostVolumeEncoder(nn.Module):
    """Compresses the cost volume, guided by the image, to the bottleneck.

    Args:
        pyramid_channels: F, channels of each image feature map.
        depth_hypotheses: D, planes of the cost volume.
        hyper_channels: N, the width at half resolution.
    """

    def __init__(self, pyramid_channels: int, depth_hypotheses: int, hyper_channels: int) -> None:
        super().__init__()
        f, n = pyramid_channels, hyper_channels
        self.aggregator0 = _conv_bn_relu(f + depth_hypotheses, n, 5)
        self.encoder_block0 = EncoderBlock(n, 2 * n, 5)
        self.aggregator1 = _conv_bn_relu(f + 2 * n, 2 * n, 3)
        self.encoder_block1 = EncoderBlock(2 * n, 4 * n, 3)
        self.aggregator2 = _conv_bn_relu(f + 4 * n, 4 * n, 3)
        self.encoder_block2 = EncoderBlock(4 * n, 8 * n, 3)
        self.aggregator3 = _conv_bn_relu(f + 8 * n, 8 * n, 3)
        self.encoder_block3 = EncoderBlock(8 * n, 16 * n, 3)

    def forward(self, features: ImageFeatures, cost_volume: Tensor) -> EncodedVolume:
        """Encodes the cost volume (B, D, H/2, W/2) with the reference frame's features."""
        skip0 = self.aggregator0(torch.cat([features.half, cost_volume.to(features.half.dtype)], dim=1))
        skip1 = self.aggregator1(torch.cat([features.quarter, self.encoder_block0(skip0)], dim=1))
        skip2 = self.aggregator2(torch.cat([features.eighth, self.encoder_block1(skip1)], dim=1))
        skip3 = self.aggregator3(torch.cat([features.sixteenth, self.encoder_block2(skip2)], dim=1))
        bottom = self.encoder_block3(skip3)
        return EncodedVolume(skip0, skip1, skip2, skip3, bottom)


class CostVolumeDecoder(nn.Module):
    """Turns the bottleneck (or the hidden state) back into depth.

    Where `decoder_block4` and what follows it are None, it ends at quarter resolution, see `dvmvs.ending_at_quarter`.

    Args:
        hyper_channels: N, the width at half resolution.
        min_depth_m: Nearest depth that it can predict, metres.
        max_depth_m: Farthest depth that it can predict, metres.
    """

    def __init__(self, hyper_channels: int, min_depth_m: float, max_depth_m: float) -> None:
        super().__init__()
        n = hyper_channels
        self.min_inverse_depth = 1.0 / max_depth_m
        self.max_inverse_depth = 1.0 / min_depth_m
        self.decoder_block1 = DecoderBlock(16 * n, 8 * n, 3, sees_prediction=False)
        self.decoder_block2 = DecoderBlock(8 * n, 4 * n, 3)
        self.decoder_block3 = DecoderBlock(4 * n, 2 * n, 3)
        self.decoder_block4 = DecoderBlock(2 * n, n, 5)
        self.refine = nn.Sequential(_conv_bn_relu(n + 1 + 3, n, 5), _conv_bn_relu(n, n, 5))
        self.depth_layer_one_sixteen = DepthHead(8 * n)
        self.depth_layer_one_eight = DepthHead(4 * n)
        self.depth_layer_quarter = DepthHead(2 * n)
        self.depth_layer_half = DepthHead(n)
        self.depth_layer_full = DepthHead(n)

    def forward(self, image: Tensor | None, encoded: EncodedVolume) -> tuple[DepthPyramid, Tensor | None]:
        """Decodes with the normalised image (B, 3, H, W); ``encoded.bottom`` may be the hidden state.

        A decoder that ends at quarter resolution does not look at the image.

        Returns:
            Depth at five scales; the last map at half resolution, (B, N, H/2, W/2), if it gets there.
        """
        features16 = self.decoder_block1(encoded.bottom, encoded.skip_sixteenth)
        sigmoid16 = self.depth_layer_one_sixteen(features16)
        features8 = self.decoder_block2(features16, encoded.skip_eighth, sigmoid16)
        sigmoid8 = self.depth_layer_one_eight(features8)
        features4 = self.decoder_block3(features8, encoded.skip_quarter, sigmoid8)
        sigmoid4 = self.depth_layer_quarter(features4)
        if self.decoder_block4 is None:
            features2, sigmoid2 = None, _upsample(sigmoid4)
            sigmoid1 = _upsample(sigmoid2)
        else:
            features2 = self.decoder_block4(features4, encoded.skip_half, sigmoid4)
            sigmoid2 = self.depth_layer_half(features2)
            near = [_upsample(features2), _upsample(sigmoid2).to(image.dtype), image]
            sigmoid1 = self.depth_layer_full(self.refine(torch.cat(near, dim=1)))
        return DepthPyramid(*map(self._depth, (sigmoid1, sigmoid2, sigmoid4, sigmoid8, sigmoid16))), features2

    def _depth(self, sigmoid: Tensor) -> Tensor:
        """(B, 1, h, w) in 0..1 -> (B, h, w) metres; 1 is the nearest depth."""
        span = self.max_inverse_depth - self.min_inverse_depth
        return 1.0 / (span * sigmoid.float() + self.min_inverse_depth).squeeze(1)


class EncoderBlock(nn.Module):
    """Halves the resolution, then two more convolutions: (B, in, h, w) -> (B, out, h/2, w/2)."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int) -> None:
        super().__init__()
        self.down_convolution = nn.ModuleDict({"down_conv": _conv_bn_relu(in_channels, out_channels, kernel, stride=2)})
        self.standard_convolution = nn.ModuleDict(
            {
                "conv1": _conv_bn_relu(out_channels, out_channels, kernel),
                "conv2": _conv_bn_relu(out_channels, out_channels, kernel),
            }
        )

    def forward(self, x: Tensor) -> Tensor:
        """Applies the three convolutions."""
        x = self.down_convolution["down_conv"](x)
        x = self.standard_convolution["conv1"](x)
        return self.standard_convolution["conv2"](x)


class DecoderBlock(nn.Module):
    """Doubles the resolution and merges the skip and, past the first block, the coarser prediction."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, sees_prediction: bool = True) -> None:
        super().__init__()
        merged_channels = 2 * out_channels + int(sees_prediction)
        self.up_convolution = nn.ModuleDict({"conv": _conv_bn_relu(in_channels, out_channels, kernel)})
        self.convolution1 = _conv_bn_relu(merged_channels, out_channels, kernel)
        self.convolution2 = _conv_bn_relu(out_channels, out_channels, kernel)

    def forward(self, x: Tensor, skip: Tensor, sigmoid: Tensor | None = None) -> Tensor:
        """(B, in, h, w), skip (B, out, 2h, 2w), sigmoid (B, 1, h, w) or None -> (B, out, 2h, 2w)."""
        merged = [self.up_convolution["conv"](_upsample(x)), skip]
        if sigmoid is not None:
            merged.append(_upsample(sigmoid).to(x.dtype))
        return self.convolution2(self.convolution1(torch.cat(merged, dim=1)))


def _conv_bn_relu(in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, stride, (kernel - 1) // 2, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


class DepthHead(nn.Sequential):
    """Inverse depth in 0..1, in the precision of its own weights, which may be finer than that of its input."""

    def __init__(self, channels: int) -> None:
        super().__init__(nn.Conv2d(channels, 1, 3, padding=1), nn.Sigmoid())

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, 1, h, w)."""
        return super().forward(features.to(self[0].weight.dtype))


def _upsample(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
