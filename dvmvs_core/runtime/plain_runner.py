# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The modules of `model` as they are: the reference that every other runner is tested against."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from dvmvs_core.model.convlstm import LSTMState
from dvmvs_core.model.dvmvs import FusionNet, PairNet
from dvmvs_core.model.features import ImageFeatures
from dvmvs_core.model.hidden_state import lstm_depth_estimate, reproject_depth
from dvmvs_core.runtime.runner import PreviousKeyframe, Timer, untimed


class PlainRunner:
    """The modules of `model` as they were trained, in float32.

    Args:
        network: the network, on its device and in evaluation mode.
        keeps_features: False for the reference path, which has no cache.
        description: what it is, for a person.
    """

    def __init__(self, network: PairNet | FusionNet, keeps_features: bool, description: str = "plain network") -> None:
        self.config, self.ends_at_quarter = network.config, network.ends_at_quarter
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
