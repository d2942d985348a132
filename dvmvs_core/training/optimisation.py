# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Learning rate, averaged weights and batch-norm statistics: what turns gradients into a network worth keeping."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable

import torch
from torch import nn
from torch.optim.swa_utils import update_bn


def learning_rate_at(peak: float, step: int, progress: float, warm_up_steps: int, floor: float = 0.02) -> float:
    """Return the learning rate: linear warm-up in steps, then half a cosine over the run's progress.

    Args:
        peak: the highest rate.
        step: optimiser steps done.
        progress: the part of the run that is over, 0…1.
        warm_up_steps: steps until the peak.
        floor: the last rate, as a part of the peak.
    """
    warmth = min(1.0, (step + 1) / max(1, warm_up_steps))
    decay = floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))
    return peak * warmth * decay


class WeightAverage:
    """Exponential moving average of a network's weights, which is what gets validated and shipped.

    torch's AveragedModel copies the weights at its first step and cannot forget the initial ones gradually.

    Args:
        network: the network that learns.
        decay: how much of the average stays at each step; less in the first steps, so that it forgets
            the initial weights.
    """

    def __init__(self, network: nn.Module, decay: float = 0.998) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Move the average towards the network after optimiser step `step`."""
        decay = min(self.decay, (1 + step) / (10 + step))
        averages, values = self.network.state_dict(), network.state_dict()
        floating = [name for name, average in averages.items() if average.is_floating_point()]
        # One launch for all of them on a GPU.
        torch._foreach_lerp_([averages[name] for name in floating], [values[name] for name in floating], 1.0 - decay)
        for name in averages.keys() - set(floating):
            averages[name].copy_(values[name])


def recompute_batch_norm(network: nn.Module, passes: Iterable[Callable[[nn.Module], None]]) -> None:
    """Replace the running statistics of every batch norm by their mean over some forward passes.

    Averaged weights were never run in training, and statistics of small batches lag behind and jump: a network of a few
    thousand steps evaluates badly without this.

    Args:
        network: changed in place; left in evaluation mode.
        passes: each runs the network forward once on one batch.
    """
    update_bn(passes, _Runs(network))
    network.eval()


class _Runs(nn.Module):
    """Takes a forward pass for an input, which is all that `update_bn` gives to a network."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, run: Callable[[nn.Module], None]) -> None:
        run(self.network)
