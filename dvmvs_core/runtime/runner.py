# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What the engine needs of whatever runs a network, what one keyframe leaves to the next, and how stages are timed.

A runner holds no state between keyframes; whoever calls it keeps features, depth, recurrent state and poses. Poses and
intrinsics are float32 tensors on the CPU, all else is on the device of the runner.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from dvmvs_core.config import ModelConfig
from dvmvs_core.model.convlstm import LSTMState
from dvmvs_core.model.features import ImageFeatures

Timer = Callable[[str], AbstractContextManager[None]]
"""Takes the name of a stage and returns what is entered where it begins and left where it ends. Stages may nest.

It may wait for a CUDA device, so nothing that is captured as a graph calls it.
"""

_NOTHING = nullcontext()


def untimed(stage: str) -> AbstractContextManager[None]:
    """The timer where nobody wants to know."""
    return _NOTHING


class PreviousKeyframe(NamedTuple):
    """The last keyframe that got a depth.

    Attributes:
        depth: (B, 1, H, W) metres.
        world_T_cam: (B, 4, 4) its pose.
        state: the recurrent state that it left; None from PairNet.
    """

    depth: Tensor
    world_T_cam: Tensor
    state: LSTMState | None


class Runner(Protocol):
    """What the engine needs of a network.

    Attributes:
        config: configuration of the network.
        device: where its tensors are.
        description: what it runs the network with, for a person.
        ends_at_quarter: whether its depth ends at quarter resolution, for matching to go on from.
        keeps_features: whether features of a frame may be kept; otherwise they are extracted again at each use.
        timer: is told of the parts of `depth`, plane_sweep and network, where they run one after another.
    """

    config: ModelConfig
    device: torch.device
    description: str
    ends_at_quarter: bool
    keeps_features: bool
    timer: Timer

    def features(self, image: Tensor) -> ImageFeatures:
        """Features of a normalised image (1, 3, H, W); the next call may overwrite all of them but `matching`."""
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
            image: normalised image of the reference frame, (1, 3, H, W).
            reference: its features, from `features`.
            measurements: the matching map of each measurement frame; at least one.
            world_T_ref: (1, 4, 4).
            world_T_meas: (1, 4, 4) of each measurement frame.
            K: intrinsics at full resolution, (1, 3, 3).
            previous: the last keyframe; None at the start and after tracking was lost. PairNet has no use for it.

        Returns:
            Depth (1, H, W) float32 in metres, and the new recurrent state.
        """
        ...
