# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""PairNet and FusionNet for inference on any device, without one wait of the host between image and depth.

All geometry is worked out on the host in float64 and sent in one small tensor; everything else stays on the device.
On CUDA, each of the two steps (features, depth) is captured once as a graph and then replayed, so that a keyframe costs
the host a few microseconds. In half precision, geometry, matching, gates, state and depth heads stay float32.

Symbols: B batch, M measurement frames.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from dvmvs_core.errors import DeviceError
from dvmvs_core.model.convlstm import LSTMState
from dvmvs_core.model.dvmvs import FusionNet, PairNet
from dvmvs_core.model.encoder_decoder import DepthHead
from dvmvs_core.model.features import ImageFeatures
from dvmvs_core.model.hidden_state import lstm_depth_estimate, reproject_depth_by, warp_hidden_state_by
from dvmvs_core.model.intrinsics import scale_intrinsics
from dvmvs_core.model.patch_matching import patch_descriptors
from dvmvs_core.runtime.geometry import StepGeometry, step_geometry
from dvmvs_core.runtime.previous_keyframe import PreviousKeyframe
from dvmvs_core.runtime.replay import Replay
from dvmvs_core.runtime.timer import Timer, untimed
from dvmvs_core.runtime.whole_sweep import whole_sweep

logger = logging.getLogger(__name__)


class DeviceNetwork:
    """A `Runner`.

    Args:
        network: its weights are copied.
        device: where to run.
        dtype: of the convolutions.
        strict: fail where the fused plane sweep cannot run on a CUDA device, instead of doing without.

    Raises:
        DeviceError: if it is strict and Triton is missing.
    """

    keeps_features = True

    def __init__(self, network: PairNet | FusionNet, device: torch.device, dtype: torch.dtype, strict: bool) -> None:
        self.config = network.config
        self.device = device
        self.timer: Timer = untimed
        self._dtype = dtype
        self._network = _prepared(network, device, dtype)
        self._sweep = _choose_sweep(device, strict)
        self._features = Replay(self._features_step, device)
        self._depth = Replay(self._depth_step, device)
        graphs = "CUDA graphs" if device.type == "cuda" else "plain operators"
        sweep = "unfused plane sweep" if self._sweep is whole_sweep else "fused plane sweep"
        self.description = f"{graphs}, {sweep}"

    def features(self, image: Tensor) -> ImageFeatures:
        """As in `Runner`."""
        *maps, matching = self._features(image)
        # Kept for as long as the frame is a keyframe, while the next replay overwrites it.
        return ImageFeatures(*maps, matching.clone())

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
        remembers = isinstance(self._network, FusionNet) and previous is not None
        height, width = reference.matching.shape[-2:]
        geometry = step_geometry(
            world_T_ref,
            world_T_meas,
            K,
            previous.world_T_cam if remembers else None,
            (height, width),
            self.config.exact_sampling,
        )
        packed = geometry.packed()
        if self.device.type == "cuda":
            packed = packed.pin_memory().to(self.device, non_blocking=True)
        past = (previous.depth, *previous.state) if remembers else ()
        depth, *state = self._depth(packed, image, *reference, torch.stack(list(measurements)), *past)
        return depth.clone(), LSTMState(*(x.clone() for x in state)) if state else None

    def _features_step(self, image: Tensor) -> tuple[Tensor, ...]:
        """The features of an image; the fixed descriptors are made of the float32 image."""
        network = self._network
        rounded = image.to(self._dtype, memory_format=torch.channels_last)
        maps = network.feature_pyramid(network.feature_extractor(rounded))
        matching = maps[0] if self.config.matching == "learned" else patch_descriptors(image)
        return *maps, matching.float()

    def _depth_step(
        self,
        packed: Tensor,
        image: Tensor,
        half: Tensor,
        quarter: Tensor,
        eighth: Tensor,
        sixteenth: Tensor,
        matching: Tensor,
        measurements: Tensor,
        *past: Tensor,
    ) -> tuple[Tensor, ...]:
        """Depth, and the new state; `past` is the last depth, hidden and cell state, or nothing."""
        network = self._network
        geometry = StepGeometry.unpacked(packed, len(measurements))
        # A timer may wait for the device, which a capture forbids.
        timer = untimed if self.device.type == "cuda" else self.timer
        with timer("plane_sweep"):
            costs = self._sweep(
                matching,
                measurements,
                geometry.homographies,
                geometry.translations,
                network.inverse_depths,
                self.config.mask_out_of_view,
            )
        features = ImageFeatures(half, quarter, eighth, sixteenth, matching)
        with timer("network"):
            return self._network_step(image, features, costs, measurements, geometry, past)

    def _network_step(
        self,
        image: Tensor,
        features: ImageFeatures,
        costs: Tensor,
        measurements: Tensor,
        geometry: StepGeometry,
        past: tuple[Tensor, ...],
    ) -> tuple[Tensor, ...]:
        network = self._network
        encoded = network.encoder(features, costs)
        image = image.to(self._dtype, memory_format=torch.channels_last)
        if isinstance(network, PairNet):
            return (network.decoder(image, encoded)[0].full,)
        state = None
        if past:
            previous_depth, hidden, cell = past
            estimate = lstm_depth_estimate(reproject_depth_by(geometry.cam_T_previous, previous_depth, geometry.K))
            lstm_K = scale_intrinsics(geometry.K, 1 / 32)
            state = LSTMState(warp_hidden_state_by(geometry.previous_T_cam, hidden, estimate, lstm_K), cell)
        state = network.lstm_fusion(encoded.bottom, state)
        pyramid, decoded = network.decoder(image, encoded._replace(bottom=state.hidden.to(self._dtype)))
        depth = pyramid.full
        if network.refinement is not None:
            sweep = (geometry.homographies, geometry.translations)
            matched = network.refinement.match(depth, features.matching, measurements, *sweep)
            depth = network.refinement(depth, matched, decoded, features.half)
        return depth, *state


def _prepared(network: PairNet | FusionNet, device: torch.device, dtype: torch.dtype) -> PairNet | FusionNet:
    """A copy on the device with batch norms folded, channels-last and in the wanted precision."""
    network = copy.deepcopy(network).eval().requires_grad_(False)
    for module in list(network.modules()):
        if not isinstance(module, nn.Sequential):
            continue
        for i in range(len(module) - 1):
            if isinstance(module[i], nn.Conv2d) and isinstance(module[i + 1], nn.BatchNorm2d):
                module[i], module[i + 1] = fuse_conv_bn_eval(module[i], module[i + 1]), nn.Identity()
    network.to(device, memory_format=torch.channels_last)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.to(dtype)
    for module in network.modules():
        if isinstance(module, DepthHead):
            module.float()
    return network


def _choose_sweep(device: torch.device, strict: bool):
    """The fused plane sweep on CUDA; where Triton is missing, or on a CPU, the one of torch operators."""
    if device.type != "cuda":
        return whole_sweep
    try:
        from dvmvs_core.runtime.triton_sweep import triton_sweep

        return triton_sweep
    except ImportError as error:
        if strict:
            raise DeviceError(
                f"mode fast needs Triton on CUDA, which cannot be loaded ({error}); pip install triton, or choose mode"
                " auto"
            ) from error
        logger.warning("Triton cannot be loaded (%s): the plane sweep runs as separate steps", error)
        return whole_sweep
