# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""PairNet and FusionNet, whole.

Both compare a reference frame with measurement frames in a plane sweep and decode depth from it; FusionNet
carries what it saw from keyframe to keyframe in a ConvLSTM. Both are stateless modules: whoever calls
FusionNet keeps its state.

Source: Düzçeker et al., "DeepVideoMVS: Multi-View Stereo on Video with Recurrent Spatio-Temporal Fusion",
CVPR 2021, figure 2.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dvmvs_core.config import ModelConfig
from dvmvs_core.model.convlstm import LSTMFusion, LSTMState
from dvmvs_core.model.cost_volume import cost_volume, inverse_depth_planes, sweep_geometry
from dvmvs_core.model.encoder_decoder import (
    CostVolumeDecoder,
    CostVolumeEncoder,
    DepthPyramid,
)
from dvmvs_core.model.features import FeatureExtractor, FeaturePyramid, ImageFeatures
from dvmvs_core.model.fine_sweep import FineSweep
from dvmvs_core.model.hidden_state import warp_hidden_state
from dvmvs_core.model.low_rank import Directions, split
from dvmvs_core.model.patch_matching import patch_descriptors
from dvmvs_core.model.pinhole import scale_intrinsics


class _PlaneSweepNet(nn.Module):
    """What both networks share: features of one image, and the encoded comparison of several.

    Attributes:
        low_rank: directions that tell what convolutions do, by name, where they were found for these weights;
            `ending_at_quarter` uses them.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.low_rank: dict[str, Directions] = {}
        planes = inverse_depth_planes(config.min_depth_m, config.max_depth_m, config.depth_hypotheses)
        self.register_buffer("inverse_depths", planes, persistent=False)
        self.feature_extractor = FeatureExtractor(config.extractor_stem, config.extractor_channels)
        self.feature_pyramid = FeaturePyramid(config.extractor_channels, config.pyramid_channels)
        self.encoder = CostVolumeEncoder(config.pyramid_channels, config.depth_hypotheses, config.hyper_channels)

    @property
    def ends_at_quarter(self) -> bool:
        """Whether depth ends at quarter resolution, see the function `ending_at_quarter`."""
        return self.decoder.decoder_block4 is None

    def extract(self, image: Tensor) -> ImageFeatures:
        """Features of a normalised image (B, 3, H, W), whether as reference or as measurement frame."""
        half, quarter, eighth, sixteenth = self.feature_pyramid(self.feature_extractor(image))
        matching = half if self.config.matching == "learned" else patch_descriptors(image)
        return ImageFeatures(half, quarter, eighth, sixteenth, matching)

    def match(
        self,
        reference: ImageFeatures,
        measurements: Sequence[Tensor],
        world_T_ref: Tensor,
        world_T_meas: Sequence[Tensor],
        K: Tensor,
    ) -> Tensor:
        """The cost volume (B, D, H/2, W/2)."""
        return cost_volume(
            reference.matching,
            measurements,
            world_T_ref,
            world_T_meas,
            K,
            self.inverse_depths,
            mask_out_of_view=self.config.mask_out_of_view,
            exact_sampling=self.config.exact_sampling,
        )

    def _new_decoder(self) -> CostVolumeDecoder:
        return CostVolumeDecoder(self.config.hyper_channels, self.config.min_depth_m, self.config.max_depth_m)


class PairNet(_PlaneSweepNet):
    """Depth of a reference frame from measurement frames, each keyframe for itself.

    Args:
        config: Sizes, depth range and matching.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.decoder = self._new_decoder()

    def forward(
        self,
        image: Tensor,
        reference: ImageFeatures,
        measurements: Sequence[Tensor],
        world_T_ref: Tensor,
        world_T_meas: Sequence[Tensor],
        K: Tensor,
    ) -> DepthPyramid:
        """Predicts depth.

        Args:
            image: Normalised image of the reference frame, (B, 3, H, W).
            reference: Its features, from ``extract``.
            measurements: The ``matching`` map of each measurement frame; at least one.
            world_T_ref: (B, 4, 4).
            world_T_meas: (B, 4, 4) of each measurement frame.
            K: Intrinsics at full resolution, (B, 3, 3).

        Returns:
            Depth at five scales, metres.
        """
        costs = self.match(reference, measurements, world_T_ref, world_T_meas, K)
        return self.decode(image, reference, costs)

    def decode(self, image: Tensor | None, reference: ImageFeatures, costs: Tensor) -> DepthPyramid:
        """What follows the plane sweep: depth from the cost volume (B, D, H/2, W/2)."""
        pyramid, _ = self.decoder(image, self.encoder(reference, costs))
        return pyramid


class FusionNet(_PlaneSweepNet):
    """Depth of a reference frame from measurement frames and from all that was seen before.

    Args:
        config: Sizes, depth range and matching.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.lstm_fusion = LSTMFusion(16 * config.hyper_channels)
        self.decoder = self._new_decoder()
        self.fine_sweep = None
        self._register_state_dict_hook(_as_stored)
        self._register_load_state_dict_pre_hook(_from_stored)
        if config.refinement_channels:
            self.fine_sweep = FineSweep(
                config.hyper_channels,
                config.pyramid_channels,
                config.refinement_channels,
                config.min_depth_m,
                config.max_depth_m,
            )

    def forward(
        self,
        image: Tensor,
        reference: ImageFeatures,
        measurements: Sequence[Tensor],
        world_T_ref: Tensor,
        world_T_meas: Sequence[Tensor],
        K: Tensor,
        state: LSTMState | None,
        previous_world_T_cam: Tensor | None,
        depth_estimate: Tensor | None,
    ) -> tuple[DepthPyramid, LSTMState]:
        """Predicts depth and the state for the next keyframe.

        Args:
            image: Normalised image of the reference frame, (B, 3, H, W).
            reference: Its features, from ``extract``.
            measurements: The ``matching`` map of each measurement frame; at least one.
            world_T_ref: (B, 4, 4).
            world_T_meas: (B, 4, 4) of each measurement frame.
            K: Intrinsics at full resolution, (B, 3, 3).
            state: What the last call returned; None at the start and after tracking was lost.
            previous_world_T_cam: Pose of the last call's reference frame, (B, 4, 4); None leaves the hidden
                state unwarped.
            depth_estimate: Depth expected in the current view, (B, 1, H/32, W/32), metres, 0 = unknown:
                ``lstm_depth_estimate`` of the reprojected last prediction. Needed with a previous pose.

        Returns:
            Depth at five scales, metres; the new state.
        """
        costs = self.match(reference, measurements, world_T_ref, world_T_meas, K)
        if state is not None and previous_world_T_cam is not None:
            lstm_K = scale_intrinsics(K, 1 / 32)
            hidden = warp_hidden_state(state.hidden, depth_estimate, previous_world_T_cam, world_T_ref, lstm_K)
            state = state._replace(hidden=hidden)
        pyramid, decoded, state = self.decode(image, reference, costs, state)
        if self.fine_sweep is None:
            return pyramid, state
        geometry = sweep_geometry(world_T_ref, world_T_meas, K)
        matched = self.fine_sweep.match(pyramid.full, reference.matching, measurements, *geometry)
        return pyramid._replace(full=self.fine_sweep(pyramid.full, matched, decoded, reference.half)), state

    def decode(
        self, image: Tensor | None, reference: ImageFeatures, costs: Tensor, state: LSTMState | None
    ) -> tuple[DepthPyramid, Tensor | None, LSTMState]:
        """What follows the plane sweep, up to the fine sweep.

        Args:
            image: Normalised image of the reference frame, (B, 3, H, W); not needed where depth ends at quarter
                resolution.
            reference: Its features.
            costs: Cost volume, (B, D, H/2, W/2).
            state: The last state, its hidden part in the current view; None at the start.

        Returns:
            Depth at five scales, metres; the decoder's last map at half resolution, if it gets there; the new state.
        """
        encoded = self.encoder(reference, costs)
        state = self.lstm_fusion(encoded.bottom, state)
        encoded = encoded._replace(bottom=state.hidden.to(encoded.bottom.dtype))
        return *self.decoder(image, encoded), state

    def zero_state(self) -> LSTMState:
        """The state before the first keyframe, for a batch of one."""
        zeros = torch.zeros(
            1, self.lstm_fusion.lstm_cell.hidden_channels, self.config.height // 32, self.config.width // 32
        )
        return LSTMState(zeros, zeros)


_STORED, _OWN = "refinement.", "fine_sweep."
"""What checkpoints call the fine sweep, and its name here."""


def _as_stored(_module: nn.Module, state: dict, prefix: str, _metadata: dict) -> None:
    _rename(state, prefix + _OWN, prefix + _STORED)


def _from_stored(state: dict, prefix: str, *_arguments: object) -> None:
    _rename(state, prefix + _STORED, prefix + _OWN)


def _rename(state: dict, old: str, new: str) -> None:
    for key in [key for key in state if key.startswith(old)]:
        state[new + key[len(old) :]] = state.pop(key)


def build_network(config: ModelConfig) -> PairNet | FusionNet:
    """The network that ``config.network`` names, freshly initialised."""
    return FusionNet(config) if config.network == "fusionnet" else PairNet(config)


def ending_at_quarter(network: PairNet | FusionNet) -> PairNet | FusionNet:
    """Return a copy that takes a third of the time, for matching to go on from: depth ends at quarter resolution.

    Finer depth is interpolated, as it is between the scales of the decoder, and there is no fine sweep. Convolutions
    are of low rank where `low_rank` says how. Matched depth of 299 keyframes of rendered worlds, and of fourteen
    recordings, is as good with it: benchmarks/ablation.md.
    """
    network = copy.deepcopy(network)
    decoder = network.decoder
    decoder.decoder_block4 = decoder.depth_layer_half = decoder.refine = decoder.depth_layer_full = None
    if isinstance(network, FusionNet):
        network.fine_sweep = None
    split(network, network.low_rank)
    return network
