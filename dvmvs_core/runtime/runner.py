# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What runs a network: the plain modules as they are, or something faster that computes the same.

A runner holds no state between keyframes; whoever calls it keeps features, depth, recurrent state and poses. Poses and
intrinsics are float32 tensors on the CPU, all else lies on the runner's device.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from dvmvs_core.config import ModelConfig
from dvmvs_core.errors import DeviceError
from dvmvs_core.model.convlstm import LSTMState
from dvmvs_core.model.dvmvs import FusionNet, PairNet
from dvmvs_core.model.features import ImageFeatures
from dvmvs_core.model.hidden_state import lstm_depth_estimate, reproject_depth
from dvmvs_core.runtime.previous_keyframe import PreviousKeyframe
from dvmvs_core.runtime.timer import Timer, untimed

logger = logging.getLogger(__name__)


class Runner(Protocol):
    """What the engine needs of a network.

    Attributes:
        config: configuration of the network.
        device: where its tensors are.
        description: what it runs the network with, for a person.
        keeps_features: whether features of a frame may be kept; otherwise they are extracted again at each use.
        timer: is told of the parts of `depth`, plane_sweep and network, where they run one after another.
    """

    config: ModelConfig
    device: torch.device
    description: str
    keeps_features: bool
    timer: Timer

    def features(self, image: Tensor) -> ImageFeatures:
        """Features of a normalised image (B, 3, H, W); the next call may overwrite all of them but `matching`."""
        ...

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
        """Depth of a reference frame.

        Args:
            image: normalised image of the reference frame, (B, 3, H, W).
            reference: its features, from `features`.
            measurements: the matching map of each measurement frame; at least one.
            world_T_ref: (B, 4, 4).
            world_T_meas: (B, 4, 4) of each measurement frame.
            K: intrinsics at full resolution, (B, 3, 3).
            previous: the last keyframe; None at the start and after tracking was lost. PairNet has no use for it.

        Returns:
            Depth (B, H, W) float32 in metres, and the new recurrent state.
        """
        ...


class PlainRunner:
    """The modules of `model` as they were trained, in float32.

    Args:
        network: the network, on its device and in evaluation mode.
        keeps_features: False for the reference path, which has no cache.
        description: what it is, for a person.
    """

    def __init__(self, network: PairNet | FusionNet, keeps_features: bool, description: str = "plain network") -> None:
        self.config = network.config
        self.device = next(network.parameters()).device
        self.description = description
        self.keeps_features = keeps_features
        self.timer: Timer = untimed
        self._network = network

    def features(self, image: Tensor) -> ImageFeatures:
        """As in `Runner`."""
        return self._network.extract(image)

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
        world_T_ref, K = world_T_ref.to(self.device), K.to(self.device)
        world_T_meas = [pose.to(self.device) for pose in world_T_meas]
        arguments = (image, reference, measurements, world_T_ref, world_T_meas, K)
        if isinstance(self._network, PairNet):
            return self._network(*arguments).full, None
        if previous is None:
            pyramid, state = self._network(*arguments, None, None, None)
            return pyramid.full, state
        previous_world_T_cam = previous.world_T_cam.to(self.device)
        estimate = lstm_depth_estimate(reproject_depth(previous.depth, previous_world_T_cam, world_T_ref, K))
        pyramid, state = self._network(*arguments, previous.state, previous_world_T_cam, estimate)
        return pyramid.full, state


def choose_runner(network: PairNet | FusionNet, device: torch.device, precision: str, mode: str) -> Runner:
    """The runner for a device, precision and mode, as `EngineConfig` describes them.

    Args:
        network: in evaluation mode; it is moved to the device, and faster runners work on a copy.
        device: where to run.
        precision: "float32", "float16" or "bfloat16".
        mode: "auto", "fast" or "reference".

    Raises:
        DeviceError: if the mode is "fast" and what it needs is missing, or "reference" in another precision.
    """
    network = network.to(device).eval()
    if device.type == "cuda" and precision == "float32":
        # By default cuDNN rounds the factors of float32 convolutions to 10 bits.
        torch.backends.cudnn.allow_tf32 = False
    if mode == "reference":
        if precision != "float32":
            raise DeviceError(f"mode reference runs in precision float32; got {precision}: choose mode auto or fast")
        return PlainRunner(network, keeps_features=False)
    if device.type == "cpu" and precision == "float32":
        try:
            from dvmvs_core.runtime.cpu_network import CpuNetwork

            return CpuNetwork(network)
        except ImportError as error:
            if mode == "fast":
                raise DeviceError(
                    f"mode fast needs numba on a CPU, which cannot be loaded ({error}); pip install numba, or choose"
                    " mode auto"
                ) from error
            logger.warning("numba cannot be loaded (%s): depth takes two to four times as long", error)
            return PlainRunner(network, keeps_features=True, description="plain network, for want of numba")
    from dvmvs_core.runtime.device_network import DeviceNetwork

    return DeviceNetwork(network, device, getattr(torch, precision), strict=mode == "fast")
