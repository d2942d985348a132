# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""PairNet and FusionNet on CUDA, without one wait of the host between image and depth.

All geometry is worked out on the host in float64 and sent in one small pinned tensor; everything else stays on the
device. Each of the two steps (features, depth) is captured once as a graph and then replayed, so that a keyframe costs
the host a few microseconds. Depth has a graph for each number of measurement frames; without memory, FusionNet runs the
same one on zeros. In half precision, geometry, matching, gates, state and depth heads stay float32.

Symbols: B batch, M measurement frames.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from dvmvs_core.errors import DeviceError, first_line
from dvmvs_core.model.convlstm import LSTMState
from dvmvs_core.model.cost_volume import plane_sweep
from dvmvs_core.model.dvmvs import FusionNet, PairNet
from dvmvs_core.model.encoder_decoder import DepthHead
from dvmvs_core.model.features import ImageFeatures
from dvmvs_core.model.hidden_state import lstm_depth_estimate, reproject_depth_by, warp_hidden_state_by
from dvmvs_core.model.patch_matching import patch_descriptors
from dvmvs_core.model.pinhole import scale_intrinsics
from dvmvs_core.runtime.cuda_graph import CudaGraphs
from dvmvs_core.runtime.fused_convolutions import fold_batch_norms, fuse_convolutions
from dvmvs_core.runtime.runner import PreviousKeyframe, Timer, untimed
from dvmvs_core.runtime.step_geometry import StepGeometry, step_geometry
from dvmvs_core.runtime.tf32 import tf32_convolutions

logger = logging.getLogger(__name__)


class CudaRunner:
    """A `Runner`.

    Args:
        network: its weights are copied.
        device: where to run; on a CPU, for tests, without graphs.
        dtype: of the convolutions.
        strict: fail where the fused plane sweep cannot run on a CUDA device, instead of doing without.

    Raises:
        DeviceError: if it is strict and the fused plane sweep cannot run.
    """

    keeps_features = True

    def __init__(self, network: PairNet | FusionNet, device: torch.device, dtype: torch.dtype, strict: bool) -> None:
        self.config, self.ends_at_quarter = network.config, network.ends_at_quarter
        self.device = device
        self.timer: Timer = untimed
        self._dtype = dtype
        self._network = _prepared(network, device, dtype)
        self._no_memory = _no_memory(self._network, device)
        self._sweep = choose_sweep(device, strict)
        self._features = CudaGraphs(self._features_step, device)
        self._depth = CudaGraphs(self._depth_step, device)
        graphs = "CUDA graphs" if device.type == "cuda" else "plain operators"
        sweep = "unfused plane sweep" if self._sweep is plane_sweep else "fused plane sweep"
        self.description = f"{graphs}, {sweep}"

    def features(self, image: Tensor) -> ImageFeatures:
        """As in `Runner`."""
        return ImageFeatures(*self._features(image))

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
        past = self._no_memory
        if past and previous is not None:
            past = (previous.depth, *previous.state)
        height, width = reference.matching.shape[-2:]
        geometry = step_geometry(
            world_T_ref,
            world_T_meas,
            K,
            previous.world_T_cam if previous is not None else None,
            (height, width),
            self.config.exact_sampling,
        )
        packed = geometry.packed()
        if self.device.type == "cuda":
            packed = packed.pin_memory()
        depth, *state = self._depth(packed, image, *reference, *past, *measurements)
        return depth, LSTMState(*state) if state else None

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
        *maps: Tensor,
    ) -> tuple[Tensor, ...]:
        """Depth, and the new state; `maps` are FusionNet's last depth, hidden and cell state, then the measurements."""
        network = self._network
        remembered = len(self._no_memory)
        past, measurements = maps[:remembered], torch.stack(maps[remembered:])
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
        # Depth heads in float32 run on tensor cores: what comes from convolutions in halves is exact in TF32.
        with timer("network"), tf32_convolutions(self._dtype != torch.float32):
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
        image = image.to(self._dtype, memory_format=torch.channels_last)
        if isinstance(network, PairNet):
            return (network.decode(image, features, costs).full,)
        previous_depth, hidden, cell = past
        estimate = lstm_depth_estimate(reproject_depth_by(geometry.cam_T_previous, previous_depth, geometry.K))
        lstm_K = scale_intrinsics(geometry.K, 1 / 32)
        state = LSTMState(warp_hidden_state_by(geometry.previous_T_cam, hidden, estimate, lstm_K), cell)
        pyramid, decoded, state = network.decode(image, features, costs, state)
        depth = pyramid.full
        if network.fine_sweep is not None:
            sweep = (geometry.homographies, geometry.translations)
            matched = network.fine_sweep.match(depth, features.matching, measurements, *sweep)
            depth = network.fine_sweep(depth, matched, decoded, features.half)
        return depth, *state


def _prepared(network: PairNet | FusionNet, device: torch.device, dtype: torch.dtype) -> PairNet | FusionNet:
    """A copy on the device with batch norms folded, channels-last and in the wanted precision."""
    network = copy.deepcopy(network).eval().requires_grad_(False)
    fold_batch_norms(network)
    network.to(device, memory_format=torch.channels_last)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.to(dtype)
    for module in network.modules():
        if isinstance(module, DepthHead):
            module.float()
    if device.type == "cuda":
        fuse_convolutions(network)
    return network


def _no_memory(network: PairNet | FusionNet, device: torch.device) -> tuple[Tensor, ...]:
    """Depth (1, 1, H, W), hidden and cell state before the first keyframe; PairNet has none of them."""
    if isinstance(network, PairNet):
        return ()
    depth = torch.zeros(1, 1, network.config.height, network.config.width)
    return tuple(x.to(device) for x in (depth, *network.zero_state()))


def choose_sweep(device: torch.device, strict: bool) -> Callable[..., Tensor]:
    """The fused plane sweep on CUDA; where it cannot run, or on a CPU, the one of torch operators.

    Raises:
        DeviceError: if it is strict and the fused one cannot run on a CUDA device.
    """
    if device.type != "cuda":
        return plane_sweep
    try:
        from dvmvs_core.runtime.triton_sweep import triton_sweep

        check_sweep(triton_sweep, device)
        return triton_sweep
    except Exception as error:  # missing, no C compiler to load kernels with, an unknown chip, …
        reason = f"the fused plane sweep cannot run ({type(error).__name__}: {first_line(error)})"
        if strict:
            raise DeviceError(
                f"{reason}; mode fast needs it on CUDA: pip install triton, with a C compiler at hand, or choose mode"
                " auto"
            ) from error
        logger.warning("%s: it runs as separate steps", reason)
        return plane_sweep


def check_sweep(sweep: Callable[..., Tensor], device: torch.device) -> None:
    """Compare a plane sweep with the plain one on a small example.

    Raises:
        DeviceError: if they differ.
    """
    noise = torch.Generator().manual_seed(0)
    maps = torch.randn(3, 1, 9, 16, 24, generator=noise).to(device)
    homographies = (torch.eye(3) + 0.01 * torch.randn(2, 1, 3, 3, generator=noise)).to(device)
    translations = torch.randn(2, 1, 3, generator=noise).to(device)
    for masked in (True, False):
        arguments = (maps[0], maps[1:], homographies, translations, torch.linspace(0.05, 4, 8).to(device), masked)
        wrong = (sweep(*arguments) - plane_sweep(*arguments)).abs() > 1e-3
        # A sample on a border to the last digit may fall on either side of it.
        if not float(wrong.float().mean()) < 0.01:
            raise DeviceError("it differs from the plain one")
