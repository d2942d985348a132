# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Convolutional LSTM: the memory that carries the scene from keyframe to keyframe.

Symbols: x the encoder's bottleneck, h hidden state, c cell state, all (B, C, H/32, W/32); i, f, o, g the
gates; LN layer norm over the two spatial axes of each channel, without scale or shift.

    i, f, o = sigmoid(...)    g = celu(LN(...))    c' = LN(f c + i g)    h' = o celu(c')

Source: Düzçeker et al., "DeepVideoMVS", CVPR 2021, section 3.3; celu and layer norm replace tanh.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional


class LSTMState(NamedTuple):
    """What the network remembers; both (B, C, H/32, W/32).

    Attributes:
        hidden: Hidden state, seen from the camera of the last predicted keyframe.
        cell: Cell state. It is never warped to a new view (kept from the public implementation).
    """

    hidden: Tensor
    cell: Tensor


class ConvLSTMCell(nn.Module):
    """One recurrent step.

    Args:
        input_channels: Channels of the input.
        hidden_channels: Channels of the hidden and of the cell state.
    """

    def __init__(self, input_channels: int, hidden_channels: int) -> None:
        super().__init__()
        self.hidden_channels = hidden_channels
        self.conv = nn.Conv2d(input_channels + hidden_channels, 4 * hidden_channels, 3, padding=1, bias=False)

    def forward(self, x: Tensor, state: LSTMState) -> LSTMState:
        """Takes the input (B, C, h, w) and the state, hidden already warped to the current view."""
        # Gates and state are float32 in every precision: half the digits of a sum over time would be lost.
        gates = self.conv(torch.cat([x, state.hidden.to(x.dtype)], dim=1)).float()  # (B, 4C, h, w)
        input_gate, forget_gate, output_gate, candidate = gates.chunk(4, dim=1)
        candidate = functional.celu(_spatial_layer_norm(candidate))
        cell = _spatial_layer_norm(torch.sigmoid(forget_gate) * state.cell + torch.sigmoid(input_gate) * candidate)
        hidden = torch.sigmoid(output_gate) * functional.celu(cell)
        return LSTMState(hidden, cell)

    def zero_state(self, x: Tensor) -> LSTMState:
        """The state before the first keyframe, for an input like ``x``."""
        zeros = x.new_zeros(x.shape[0], self.hidden_channels, *x.shape[-2:], dtype=torch.float32)
        return LSTMState(zeros, zeros)


class LSTMFusion(nn.Module):
    """The cell under the name that released checkpoints give it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.lstm_cell = ConvLSTMCell(channels, channels)

    def forward(self, bottom: Tensor, state: LSTMState | None) -> LSTMState:
        """Fuses the bottleneck (B, C, h, w) into the state; None starts from zeros."""
        return self.lstm_cell(bottom, state or self.lstm_cell.zero_state(bottom))


def _spatial_layer_norm(x: Tensor) -> Tensor:
    return functional.layer_norm(x, x.shape[-2:])
