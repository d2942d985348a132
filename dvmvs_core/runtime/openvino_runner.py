# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""PairNet and FusionNet on OpenVINO: CPUs of every make, Intel's GPUs and NPUs.

What is between the plane sweeps is exported from the modules of `model` as it stands. The sweeps and the
re-projection of the last depth run on the CPU, compiled by numba.

Importing this module needs OpenVINO and numba.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from dvmvs_core.errors import DeviceError
from dvmvs_core.model.convlstm import LSTMState
from dvmvs_core.model.dvmvs import FusionNet, PairNet
from dvmvs_core.model.features import ImageFeatures
from dvmvs_core.model.hidden_state import lstm_depth_estimate, warp_hidden_state_by
from dvmvs_core.model.parts import network_parts
from dvmvs_core.model.pinhole import scale_intrinsics
from dvmvs_core.runtime.openvino_export import ExportedFunction, Target, network_key
from dvmvs_core.runtime.reprojection_kernels import splat_maps
from dvmvs_core.runtime.runner import PreviousKeyframe, Timer, untimed
from dvmvs_core.runtime.step_geometry import StepGeometry, step_geometry
from dvmvs_core.runtime.sweep import CompiledSweep

logger = logging.getLogger(__name__)


class OpenVinoRunner:
    """A `Runner`. Several threads may share it; they take turns.

    Args:
        network: what to run, on the CPU; its weights must stay as they are.
        device: as OpenVINO names it.
        precision: "float32", "float16" or "bfloat16", of all that OpenVINO runs.
        strict: fail where the device does not compute in the precision, instead of using float32.

    Raises:
        DeviceError: if the device cannot run the network.
    """

    keeps_features = True
    device = torch.device("cpu")

    def __init__(self, network: PairNet | FusionNet, device: str, precision: str, strict: bool) -> None:
        self.config, self.ends_at_quarter = network.config, network.ends_at_quarter
        self.timer: Timer = untimed
        self._lock = threading.Lock()
        self._inverse_depths = network.inverse_depths.numpy()
        self._initial_state = network.zero_state() if isinstance(network, FusionNet) else None
        self._target = _target(device, precision, strict)
        self.description = f"OpenVINO on {device}, {self._target.precision}; compiled plane sweep"
        key = network_key(network, self._target, network.config)
        with _frozen(network):
            parts = {
                name: ExportedFunction(part.run, part.examples, self._target, f"{key}-{name}")
                for name, part in network_parts(network).items()
            }
        self._features, self._decode, self._correct = parts["features"], parts["decode"], parts.get("refine")
        if self._correct is not None:
            self._factors = torch.exp(-network.fine_sweep.log_shifts).numpy()

    def features(self, image: Tensor) -> ImageFeatures:
        """As in `Runner`."""
        with self._lock:
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
        half_size = tuple(reference.matching.shape[-2:])
        pose = None if previous is None else previous.world_T_cam
        exact = self.config.exact_sampling
        geometry = step_geometry(world_T_ref, world_T_meas, K, pose, half_size, exact)
        with self._lock:
            with self.timer("plane_sweep"):
                sweep = CompiledSweep(reference.matching, measurements, geometry.homographies, geometry.translations)
                costs = sweep.costs(self._inverse_depths, self.config.mask_out_of_view)
            with self.timer("network"):
                state = self._initial_state
                if state is not None and previous is not None:
                    state = previous.state._replace(hidden=_warped_hidden_state(previous, geometry))
                given = () if self.ends_at_quarter else (image,)
                depth, *state = self._decode(*given, *reference[:4], costs, *(state or ()))
                if self._correct is not None:
                    decoded, *state = state
                    cosines, counts = sweep.cosines(depth[0].numpy(), self._factors)
                    in_view = counts / len(measurements)
                    (depth,) = self._correct(depth, cosines, in_view, reference.matching, decoded, reference.half)
                return depth, LSTMState(*state) if state else None


def _target(device: str, precision: str, strict: bool) -> Target:
    target = Target(device, precision)
    if target.has_precision():
        return target
    if strict:
        raise DeviceError(
            f"OpenVINO's {device} here does not compute in {precision}; choose precision float32, or mode auto"
        )
    logger.warning("OpenVINO's %s here does not compute in %s: the network runs in float32", device, precision)
    return Target(device, "float32")


@contextlib.contextmanager
def _frozen(network: nn.Module) -> Iterator[None]:
    """Weights as constants, which a trace wants."""
    trainable = [p for p in network.parameters() if p.requires_grad]
    for parameter in trainable:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trainable:
            parameter.requires_grad_(True)


def _warped_hidden_state(previous: PreviousKeyframe, geometry: StepGeometry) -> Tensor:
    """The hidden state (1, C, H/32, W/32) as the new camera would have left it."""
    depth = previous.depth[0].contiguous().numpy()
    height, width = depth.shape[-2:]
    splatted, weights = np.empty((2, 1, height // 2, width // 2), np.float32)
    matrices = (geometry.cam_T_previous, scale_intrinsics(geometry.K, 0.5), geometry.K)
    splat_maps(0, 1, depth, depth, *(m.numpy() for m in matrices), np.float32(0), True, splatted, weights)
    estimate = lstm_depth_estimate(torch.from_numpy(splatted)[None])
    lstm_K = scale_intrinsics(geometry.K, 1 / 32)
    return warp_hidden_state_by(geometry.previous_T_cam, previous.state.hidden, estimate, lstm_K)
