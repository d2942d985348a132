"""What one prediction leaves for the next, whatever ran the network."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from dvmvs_core.model.convlstm import LSTMState


class Memory(NamedTuple):
    """What one prediction leaves for the next.

    Attributes:
        depth: (B, 1, H, W) metres.
        world_T_cam: (B, 4, 4) pose of the reference frame.
        state: the recurrent state; None from PairNet.
    """

    depth: Tensor
    world_T_cam: Tensor
    state: LSTMState | None
