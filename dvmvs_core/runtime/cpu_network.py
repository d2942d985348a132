# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""PairNet and FusionNet for inference on a CPU in float32.

Differs from `model.dvmvs` in how, not in what: batch norms folded, channels-last throughout, the plane sweep and the
upsampling written straight into the buffers that the convolutions read, and only the finest depth computed.

Symbols: F pyramid channels, D depth hypotheses, N hyper channels.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from dvmvs_core.model.convlstm import LSTMState
from dvmvs_core.model.dvmvs import FusionNet, PairNet
from dvmvs_core.model.encoder_decoder import CostVolumeDecoder, CostVolumeEncoder, DecoderBlock, EncoderBlock
from dvmvs_core.model.features import FeatureExtractor, FeaturePyramid, ImageFeatures, InvertedResidual
from dvmvs_core.model.hidden_state import warp_hidden_state
from dvmvs_core.model.intrinsics import scale_intrinsics
from dvmvs_core.model.patch_matching import patch_descriptors
from dvmvs_core.runtime.convolution import Convolutions, fused
from dvmvs_core.runtime.cpu_refinement import CpuRefinement
from dvmvs_core.runtime.depth_head import DepthHead
from dvmvs_core.runtime.kernels import expected_depth
from dvmvs_core.runtime.merge import Merge
from dvmvs_core.runtime.plane_sweep import PlaneSweep
from dvmvs_core.runtime.previous_keyframe import PreviousKeyframe
from dvmvs_core.runtime.timer import Timer, untimed


class CpuNetwork:
    """A `Runner`. Several threads may share it; they take turns.

    Args:
        network: its weights are copied.
    """

    device = torch.device("cpu")
    keeps_features = True
    description = "compiled CPU kernels"

    def __init__(self, network: PairNet | FusionNet) -> None:
        self.config = network.config
        self.timer: Timer = untimed
        self._lock = threading.Lock()
        self._extractor = _Extractor(network.feature_extractor)
        self._pyramid = _Pyramid(network.feature_pyramid)
        self._sweep = PlaneSweep(network.inverse_depths, self.config.mask_out_of_view, self.config.exact_sampling)
        self._encoder = _Encoder(network.encoder, self.config.pyramid_channels, self.config.depth_hypotheses)
        self._lstm = _LSTM(network.lstm_fusion.lstm_cell.conv) if isinstance(network, FusionNet) else None
        self._decoder = _Decoder(network.decoder)
        self._refinement = None
        if isinstance(network, FusionNet) and network.refinement is not None:
            self._refinement = CpuRefinement(network.refinement)

    def features(self, image: Tensor) -> ImageFeatures:
        """As in `Runner`."""
        with self._lock:
            return self._image_features(image)

    def _image_features(self, image: Tensor) -> ImageFeatures:
        image = image.contiguous(memory_format=torch.channels_last)
        half, quarter, eighth, sixteenth = self._pyramid(self._extractor(image))
        matching = half
        if self.config.matching == "patch":
            matching = patch_descriptors(image).contiguous(memory_format=torch.channels_last)
        return ImageFeatures(half, quarter, eighth, sixteenth, matching)

    def depth(
        self,
        image: Tensor,
        reference: ImageFeatures,
        measurements: Sequence[Tensor],
        world_T_ref: Tensor,
        world_T_meas: Sequence[Tensor],
        K: Tensor,
        previous: PreviousKeyframe | None,
    ) -> tuple[Tensor, LSTMState | None]:
        """As in `Runner`."""
        with self._lock:
            first = self._encoder.first(reference)
            seen = (reference.matching, measurements, world_T_ref, world_T_meas, K)
            with self.timer("plane_sweep"):
                views = self._sweep(*seen, first.buffer, self.config.pyramid_channels)
            with self.timer("network"):
                *skips, bottom = self._encoder(reference)
                state = None
                if self._lstm is not None:
                    state = self._lstm(bottom, None if previous is None else _seen_from(world_T_ref, previous, K))
                    bottom = state.hidden
                depth, decoded = self._decoder(image, skips, bottom)
                if self._refinement is not None:
                    depth = self._refinement(depth, decoded, reference.half, views)
            return depth, state


def _seen_from(world_T_cam: Tensor, previous: PreviousKeyframe, K: Tensor) -> LSTMState:
    """The recurrent state with its hidden part warped to a new pose."""
    batch, _, height, width = previous.depth.shape
    expected = np.empty((batch, 1, height // 32, width // 32), np.float32)
    cam_T_previous = torch.linalg.inv(world_T_cam) @ previous.world_T_cam
    half_K = scale_intrinsics(K, 0.5)
    for b in range(batch):
        arrays = (previous.depth[b, 0], cam_T_previous[b], K[b], half_K[b])
        expected_depth(*(np.ascontiguousarray(a.numpy()) for a in arrays), expected[b, 0])
    lstm_K = scale_intrinsics(K, 1 / 32)
    estimate = torch.from_numpy(expected)
    hidden = warp_hidden_state(previous.state.hidden, estimate, previous.world_T_cam, world_T_cam, lstm_K)
    return previous.state._replace(hidden=hidden)


class _Extractor:
    """`FeatureExtractor`."""

    def __init__(self, extractor: FeatureExtractor) -> None:
        self._layers = [[Convolutions(extractor.layer1)]]
        for layer in (extractor.layer2, extractor.layer3, extractor.layer4, extractor.layer5):
            self._layers.append([_Residual(block) for stack in layer for block in stack])

    def __call__(self, x: Tensor) -> list[Tensor]:
        maps = []
        for layer in self._layers:
            for block in layer:
                x = block(x)
            maps.append(x)
        return maps


class _Residual:
    """`InvertedResidual`."""

    def __init__(self, block: InvertedResidual) -> None:
        self._layers = Convolutions(block.layers)
        self._adds_input = block.adds_input

    def __call__(self, x: Tensor) -> Tensor:
        y = self._layers(x)
        return y.add_(x) if self._adds_input else y


class _Pyramid:
    """`FeaturePyramid`."""

    def __init__(self, pyramid: FeaturePyramid) -> None:
        self._inner = [fused(c, None, relu=False) for c in pyramid.fpn.inner_blocks]
        self._layers = [fused(c, None, relu=False) for c in pyramid.fpn.layer_blocks]

    def __call__(self, maps: Sequence[Tensor]) -> list[Tensor]:
        merged = self._inner[4](maps[4])
        outputs = []
        for level in (3, 2, 1, 0):
            lateral = self._inner[level](maps[level])
            merged = lateral.add_(functional.interpolate(merged, size=lateral.shape[-2:]))
            outputs.append(self._layers[level](merged))
        return outputs[::-1]


class _Encoder:
    """`CostVolumeEncoder`, whose first buffer is filled in part by the plane sweep."""

    def __init__(self, encoder: CostVolumeEncoder, pyramid_channels: int, depth_hypotheses: int) -> None:
        self._aggregators = [Convolutions(getattr(encoder, f"aggregator{i}")) for i in range(4)]
        blocks = [getattr(encoder, f"encoder_block{i}") for i in range(4)]
        self._blocks = [Convolutions(_flat_encoder_block(block)) for block in blocks]
        self._widths = [depth_hypotheses, *(_out_channels(block) for block in blocks[:3])]
        self._pyramid_channels = pyramid_channels
        self._merges: list[Merge] = []

    def first(self, features: ImageFeatures) -> Merge:
        """The buffer (B, h, w, F+D) for the features and, behind them, the cost volume."""
        sizes = [x.shape for x in features[:4]]
        if not self._merges or self._merges[0].buffer.shape[:3] != (sizes[0][0], *sizes[0][2:]):
            self._merges = [
                Merge(b, h, w, self._pyramid_channels + width)
                for (b, _, h, w), width in zip(sizes, self._widths, strict=True)
            ]
        return self._merges[0]

    def __call__(self, features: ImageFeatures) -> list[Tensor]:
        """Four skips, fine to coarse, and the bottleneck."""
        outputs: list[Tensor] = []
        coarser = None
        for i, merge in enumerate(self._merges):
            merge.put(features[i], 0)
            if coarser is not None:
                merge.put(coarser, self._pyramid_channels)
            outputs.append(self._aggregators[i](merge.tensor))
            coarser = self._blocks[i](outputs[-1])
        return [*outputs, coarser]


class _LSTM:
    """`ConvLSTMCell`; its convolution reads input and hidden state from one buffer."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        self._convolution = fused(convolution, None, relu=False)

    def __call__(self, x: Tensor, state: LSTMState | None) -> LSTMState:
        if state is None:
            state = LSTMState(torch.zeros_like(x), torch.zeros_like(x))
        both = torch.cat([x, state.hidden], dim=1).contiguous(memory_format=torch.channels_last)
        gates = self._convolution(both).contiguous()
        sigmoids, candidate = gates.split((3 * x.shape[1], x.shape[1]), dim=1)
        input_gate, forget_gate, output_gate = torch.sigmoid(sigmoids).chunk(3, dim=1)
        candidate = functional.celu(functional.layer_norm(candidate, candidate.shape[-2:]))
        cell = forget_gate * state.cell + input_gate * candidate
        cell = functional.layer_norm(cell, cell.shape[-2:])
        return LSTMState(output_gate * functional.celu(cell), cell)


class _Decoder:
    """`CostVolumeDecoder`, without the depths of the coarser scales."""

    def __init__(self, decoder: CostVolumeDecoder) -> None:
        blocks = [getattr(decoder, f"decoder_block{i}") for i in range(1, 5)]
        heads = ("one_sixteen", "one_eight", "quarter", "half", "full")
        self._blocks = [_DecoderBlock(block) for block in blocks]
        self._heads = [DepthHead(getattr(decoder, f"depth_layer_{name}")[0]) for name in heads]
        self._refine = Convolutions(nn.Sequential(*decoder.refine[0], *decoder.refine[1]))
        self._min_inverse_depth = decoder.min_inverse_depth
        self._span = decoder.max_inverse_depth - decoder.min_inverse_depth
        self._merge: Merge | None = None

    def __call__(self, image: Tensor, skips: Sequence[Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
        """Depth (B, H, W) in metres, and the last map (B, N, h, w) at half resolution."""
        sigmoid = None
        for block, head, skip in zip(self._blocks, self._heads[:4], skips[::-1], strict=True):
            x = block(x, skip, sigmoid)
            sigmoid = head(x)
        batch, channels, _, _ = x.shape
        if self._merge is None or self._merge.buffer.shape[:3] != (batch, *image.shape[2:]):
            self._merge = Merge(batch, *image.shape[2:], channels + 1 + 3)
        self._merge.put_upsampled(x, 0)
        self._merge.put_upsampled(sigmoid, channels)
        self._merge.put(image, channels + 1)
        inverse_depth = self._heads[4](self._refine(self._merge.tensor))
        return inverse_depth.mul_(self._span).add_(self._min_inverse_depth).reciprocal_().squeeze(1), x


class _DecoderBlock:
    """`DecoderBlock`."""

    def __init__(self, block: DecoderBlock) -> None:
        self._up = Convolutions(block.up_convolution["conv"])
        self._convolutions = Convolutions(nn.Sequential(*block.convolution1, *block.convolution2))
        self._merged_channels = block.convolution1[0].in_channels
        self._up_merge: Merge | None = None
        self._merge: Merge | None = None

    def __call__(self, x: Tensor, skip: Tensor, sigmoid: Tensor | None) -> Tensor:
        batch, skip_channels, height, width = skip.shape
        if self._merge is None or self._merge.buffer.shape[:3] != (batch, height, width):
            self._up_merge = Merge(batch, height, width, x.shape[1])
            self._merge = Merge(batch, height, width, self._merged_channels)
        self._up_merge.put_upsampled(x, 0)
        up = self._up(self._up_merge.tensor)
        self._merge.put(up, 0)
        self._merge.put(skip, up.shape[1])
        if sigmoid is not None:
            self._merge.put_upsampled(sigmoid, up.shape[1] + skip_channels)
        return self._convolutions(self._merge.tensor)


def _flat_encoder_block(block: EncoderBlock) -> nn.Sequential:
    standard = block.standard_convolution
    return nn.Sequential(*block.down_convolution["down_conv"], *standard["conv1"], *standard["conv2"])


def _out_channels(block: EncoderBlock) -> int:
    return block.down_convolution["down_conv"][0].out_channels
