# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The four losses, by hand and against the public implementation; edge losses; schedule, averages and statistics."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from dvmvs_core.model.encoder_decoder import DepthPyramid
from dvmvs_core.training.losses import (
    DepthLoss,
    LossMeter,
    depth_loss,
    edge_loss,
    edge_mask,
    masked_loss,
    steps_loss,
    weighted_mean,
)
from dvmvs_core.training.optimisation import WeightAverage, learning_rate_at, recompute_batch_norm


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (DepthLoss.L1, 0.5 + 2.0),
        (DepthLoss.L1_INVERSE, abs(1 / 2 - 1 / 2.5) + abs(1 / 4 - 1 / 2)),
        (DepthLoss.L1_RELATIVE, 0.5 / 2 + 2.0 / 4),
        (DepthLoss.HUBER, 0.5 * 0.5**2 + (2.0 - 0.5)),
    ],
)
def test_loss_sums_over_valid_pixels(kind: DepthLoss, expected: float) -> None:
    truth = torch.tensor([[[2.0, 4.0], [0.0, 0.0]]])
    prediction = torch.tensor([[[2.5, 2.0], [9.0, 9.0]]])
    loss, valid = masked_loss(kind, prediction, truth)
    assert valid == 2
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_every_scale_weighs_the_same() -> None:
    truth = torch.full((1, 32, 32), 2.0)
    off_by = (0.1, 0.2, 0.3, 0.4, 0.5)
    pyramid = DepthPyramid(*(torch.full((1, 32 >> s, 32 >> s), 2.0 + off) for s, off in enumerate(off_by)))
    assert depth_loss(pyramid, truth, DepthLoss.L1).item() == pytest.approx(sum(off_by), rel=1e-5)


@pytest.mark.parametrize("kind", DepthLoss)
def test_empty_truth_costs_nothing_and_has_a_gradient_of_zero(kind: DepthLoss) -> None:
    inverse = torch.full((1, 32, 32), 0.5, requires_grad=True)
    pyramid = DepthPyramid(*(1 / inverse[:, :: 1 << s, :: 1 << s] for s in range(5)))
    loss = depth_loss(pyramid, torch.zeros(1, 32, 32), kind)
    loss.backward()
    assert loss.item() == 0.0
    assert inverse.grad.abs().max() == 0.0


@pytest.mark.parametrize("kind", DepthLoss)
def test_missing_truth_leaves_the_gradient_finite(kind: DepthLoss) -> None:
    prediction = torch.full((1, 4, 4), 2.0, requires_grad=True)
    truth = torch.full((1, 4, 4), 3.0)
    truth[0, :2] = 0.0
    masked_loss(kind, prediction, truth)[0].backward()
    assert torch.isfinite(prediction.grad).all()
    assert prediction.grad[0, :2].abs().max() == 0.0
    assert (prediction.grad[0, 2:] != 0.0).all()


def test_meter_weighs_pixels_not_batches() -> None:
    meter = LossMeter()
    meter.add(torch.full((1, 1, 3), 2.0), torch.full((1, 1, 3), 1.0))
    meter.add(torch.full((1, 1, 1), 5.0), torch.full((1, 1, 1), 1.0))
    assert meter.means()["l1"] == pytest.approx((3 * 1.0 + 4.0) / 4)
    assert math.isnan(LossMeter().means()["l1"])


def test_parity_with_the_public_implementation(reference) -> None:
    units = np.load(reference / "goldens" / "units.npz")
    truth = torch.from_numpy(units["lo_gt"])
    coarse_to_fine = [torch.from_numpy(units[f"lo_p{scale}"]) for scale in range(5)]
    pyramid = DepthPyramid(*reversed(coarse_to_fine))
    order = (DepthLoss.L1, DepthLoss.L1_INVERSE, DepthLoss.L1_RELATIVE, DepthLoss.HUBER)
    totals = [depth_loss(pyramid, truth, kind).item() for kind in order]
    np.testing.assert_allclose(totals, units["lo_total"], rtol=1e-6)
    meter = LossMeter()
    meter.add(pyramid.full, truth)
    sums = [meter.sums[k] for k in (DepthLoss.L1, DepthLoss.HUBER, DepthLoss.L1_INVERSE, DepthLoss.L1_RELATIVE)]
    np.testing.assert_allclose([*sums, meter.valid], units["lo_full"], rtol=1e-6)


def pyramid_of(depth: torch.Tensor) -> DepthPyramid:
    return DepthPyramid(*(depth[:, :: 1 << scale, :: 1 << scale] for scale in range(5)))


def test_edge_loss_sees_blur_and_no_offset() -> None:
    truth = torch.full((1, 64, 64), 2.0)
    truth[:, :, 32:] = 4.0
    sharp = pyramid_of(1.1 * truth)
    blurred = pyramid_of(
        torch.nn.functional.avg_pool2d(truth[:, None], (1, 9), 1, (0, 4), count_include_pad=False)[:, 0]
    )
    assert edge_loss(sharp, truth).item() == pytest.approx(0.0, abs=1e-5)
    assert edge_loss(blurred, truth).item() > 0.1


def test_edge_loss_leaves_out_what_has_no_truth() -> None:
    depth = torch.rand(1, 64, 64) + 1.0
    depth.requires_grad_()
    loss = edge_loss(pyramid_of(depth), torch.zeros(1, 64, 64))
    loss.backward()
    assert loss.item() == 0.0
    assert torch.isfinite(depth.grad).all() and not depth.grad.any()


def test_edges_are_found_and_widened_and_holes_are_none() -> None:
    log_truth = torch.zeros(1, 1, 12)
    log_truth[..., 6:] = 0.2
    valid = torch.ones(1, 1, 12, dtype=torch.bool)
    assert edge_mask(log_truth, valid)[0, 0].nonzero().flatten().tolist() == [3, 4, 5, 6, 7]
    valid[..., 5] = False
    assert not edge_mask(log_truth, valid).any()


def test_steps_loss_sees_a_blurred_edge_but_no_factor() -> None:
    truth = torch.zeros(1, 16, 16)
    truth[..., 8:] = 1.0
    valid = torch.ones_like(truth, dtype=torch.bool)
    assert steps_loss(truth + 0.3, truth, valid) == pytest.approx(0.0, abs=1e-6)
    blurred = truth.clone()
    blurred[..., 8] = 0.5
    assert steps_loss(blurred, truth, valid) > 0


def test_weighted_mean_leaves_out_what_has_no_weight() -> None:
    values = torch.tensor([1.0, 3.0, torch.inf])
    assert weighted_mean(values, torch.tensor([1.0, 3.0, 0.0])) == 2.5
    assert weighted_mean(values, torch.zeros(3)) == 0.0


def test_an_error_at_an_edge_costs_three_times_as_much() -> None:
    truth = torch.full((1, 32, 32), 1.0)
    truth[:, :, 16:] = 2.0
    error_at_edge, error_elsewhere = truth.log(), truth.log()
    error_at_edge[:, :, 15] += 0.2
    error_elsewhere[:, :, 4] += 0.2
    exact, at_edge, elsewhere = (
        float(weighted_mean((p - truth.log()).abs(), 1 + 2 * edge_mask(truth.log(), truth > 0)))
        for p in (truth.log(), error_at_edge, error_elsewhere)
    )
    assert exact == 0.0 and at_edge == pytest.approx(3 * elsewhere, rel=1e-4)


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
