# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What the engine needs of whatever runs a network.

A runner holds no state between keyframes; whoever calls it keeps features, memory and poses. Poses and intrinsics are
float32 tensors on the CPU, all else lies on the runner's device.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from dvmvs_core.config import ModelConfig
from dvmvs_core.model.convlstm import LSTMState
from dvmvs_core.model.features import ImageFeatures
from dvmvs_core.preprocess import Preprocessor
from dvmvs_core.runtime.memory import Memory


class Runner(Protocol):
    """What the engine needs of a network.

    Attributes:
        config: configuration of the network.
        device: where its tensors live.
        description: what it runs the network with, for a person.
        keeps_features: whether features of a frame may be kept; otherwise they are extracted again at each use.
        compiled: whether it runs on the kernels that numba compiles, which others then can use too.
    """

    config: ModelConfig
    device: torch.device
    description: str
    keeps_features: bool
    compiled: bool

    def image(self, preprocessor: Preprocessor, image: np.ndarray) -> tuple[Tensor, Tensor]:
        """An RGB image (H, W, 3) uint8 at the network's resolution.

        Returns:
            Normalised (1, 3, h, w), and with values 0…255 (h, w, 3), both float32 on the runner's device.
        """
        ...

    def features(self, image: Tensor) -> ImageFeatures:
        """Features of a normalised image (1, 3, H, W); the next call may overwrite all of them but
        `matching`.
        """
        ...

    def depth(
        self,
        image: Tensor,
        reference: ImageFeatures,
        measurements: Sequence[Tensor],
        world_T_ref: Tensor,
        world_T_meas: Sequence[Tensor],
        K: Tensor,
        memory: Memory | None,
    ) -> tuple[Tensor, LSTMState | None]:
        """Depth of a reference frame.

        Args:
            image: normalised image of the reference frame, (1, 3, H, W).
            reference: its features, from `features`.
            measurements: the matching map of each measurement frame; at least one.
            world_T_ref: (1, 4, 4).
            world_T_meas: (1, 4, 4) of each measurement frame.
            K: intrinsics at full resolution, (1, 3, 3).
            memory: of the last prediction; None at the start and after tracking was lost. PairNet has no use for it.

        Returns:
            Depth (1, H, W) float32 in metres, and the new recurrent state.
        """
        ...
