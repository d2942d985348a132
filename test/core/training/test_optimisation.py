# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Schedule, weight average and batch-norm statistics, against their definitions."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from dvmvs_core.training.optimisation import WeightAverage, learning_rate_at, recompute_batch_norm


def test_learning_rate_warms_up_then_falls_to_its_floor() -> None:
    rates = [learning_rate_at(1.0, step, step / 1000, warm_up_steps=100) for step in range(1001)]
    assert rates[0] == pytest.approx(0.01)
    assert max(rates) == pytest.approx(rates[100], rel=0.03)
    assert all(later < earlier for earlier, later in zip(rates[100:], rates[101:], strict=False))
    assert learning_rate_at(1.0, 500, 0.5, 100, floor=0.0) == pytest.approx(0.5)
    assert rates[-1] == pytest.approx(0.02)


def test_average_follows_its_recurrence() -> None:
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, 1.0)
    average = WeightAverage(network, decay=0.9)
    nn.init.constant_(network.weight, 2.0)
    average.update(network, step=0)  # decay min(0.9, 1/10)
    assert average.network.weight.item() == pytest.approx(0.1 * 1.0 + 0.9 * 2.0)
    nn.init.constant_(network.weight, 0.0)
    average.update(network, step=10_000)
    assert average.network.weight.item() == pytest.approx(0.9 * 1.9)
    assert not average.network.weight.requires_grad


def test_recomputed_statistics_are_the_mean_over_the_batches() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.BatchNorm2d(3, momentum=0.0003)).train()
    batches = [torch.randn(4, 3, 5, 5) * (1 + i) + i for i in range(3)]
    affine = copy.deepcopy([network[0].weight, network[0].bias])
    recompute_batch_norm(network, ((lambda net, x=x: net(x)) for x in batches))
    means = torch.stack([x.mean((0, 2, 3)) for x in batches]).mean(0)
    variances = torch.stack([x.var((0, 2, 3)) for x in batches]).mean(0)
    torch.testing.assert_close(network[0].running_mean, means)
    torch.testing.assert_close(network[0].running_var, variances)
    assert network[0].momentum == 0.0003
    assert not network.training
    assert not network[0].training
    assert torch.equal(network[0].weight, affine[0])
