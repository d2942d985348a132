# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What one keyframe leaves to the network for the next, whatever ran it."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from dvmvs_core.model.convlstm import LSTMState


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
