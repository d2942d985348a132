# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The losses and figures of `base`, against values worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from dvmvs_core.model.base import BasePrediction
from dvmvs_core.model.score_volume import ScoreVolume, log_planes
from dvmvs_core.training.base_figures import base_figures, scores_depth
from dvmvs_core.training.base_losses import (
    base_loss,
    edge_mask,
    expected_error_loss,
    plane_cross_entropy,
    steps_loss,
    weighted_mean,
)
from dvmvs_core.training.base_passes import BaseStep

PLANES = log_planes(0.5, 8.0, 17)  # a quarter of an octave apart


def test_cross_entropy_shares_the_truth_between_two_planes() -> None:
    logits = torch.zeros(1, 17, 1, 3)
    logits[0, 4] = math.log(9.0)  # probabilities 9/25 and 1/25
    truth = torch.tensor([[[PLANES[4], PLANES[4] + 0.25 * (PLANES[5] - PLANES[4]), math.log(100.0)]]])
    losses = plane_cross_entropy(logits, truth, PLANES)[0, 0]
    at, beside = -math.log(9 / 25), -math.log(1 / 25)
    torch.testing.assert_close(losses, torch.tensor([at, 0.75 * at + 0.25 * beside, beside]), rtol=1e-4, atol=1e-4)


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


def test_expected_error_is_least_where_it_is_true() -> None:
    error = torch.tensor([0.1])
    costs = [float(expected_error_loss(torch.tensor([guess]).log(), error)) for guess in (0.05, 0.1, 0.2)]
    assert min(costs) == costs[1] == pytest.approx(1 + math.log(0.1))


def test_weighted_mean_leaves_out_what_has_no_weight() -> None:
    values = torch.tensor([1.0, 3.0, torch.inf])
    assert weighted_mean(values, torch.tensor([1.0, 3.0, 0.0])) == 2.5
    assert weighted_mean(values, torch.zeros(3)) == 0.0


def prediction_of(log_depth: torch.Tensor) -> BasePrediction:
    """A prediction (B, H, W) that needs a gradient, with planes that know nothing."""
    coarse = log_depth[:, 3::4, 3::4]
    return BasePrediction(log_depth.exp(), coarse, torch.zeros(len(coarse), 17, *coarse.shape[1:]), coarse * 0 - 3)


def test_loss_of_a_batch_falls_with_its_error_and_holes_give_no_gradient() -> None:
    truth = torch.full((1, 16, 16), 2.0)
    truth[:, :, 8:] = 0.0
    losses = []
    for error in (0.0, 0.1, 0.3):
        log_depth = torch.full((1, 16, 16), math.log(2.0) + error).requires_grad_(True)
        loss = base_loss(prediction_of(log_depth), truth, PLANES)
        loss.backward()
        assert log_depth.grad.isfinite().all() and not log_depth.grad[:, :, 12:].any()
        losses.append(loss.item())
    assert losses[0] < losses[1] < losses[2]
    nothing = base_loss(prediction_of(torch.zeros(1, 16, 16)), torch.zeros(1, 16, 16), PLANES)
    assert nothing == 0.0


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


def test_figures_of_a_known_error() -> None:
    """10 % too far everywhere; half of the cells have a parallax of 2 px at 2 m, so 4 px at the true 1 m."""
    truth = torch.full((1, 16, 16), 1.0)
    truth[:, :, 0] = 0.0
    parallax = torch.zeros(1, 1, 4, 4)
    parallax[..., 2:] = 2.0
    scores = ScoreVolume(torch.zeros(1, 17, 4, 4), torch.zeros(1, 17, 4, 4), torch.ones(1, 1, 4, 4), parallax)
    scores.patch[:, 4] = 1.0  # 1 m
    figures = base_figures([BaseStep(prediction_of(torch.full((1, 16, 16), 1.1).log()), truth, scores)], PLANES)
    assert figures["abs_rel"] == pytest.approx(0.1, abs=1e-6)
    assert figures["abs_log"] == pytest.approx(math.log(1.1), abs=1e-5)
    assert figures["off_105"] == 1.0 and figures["off_125"] == 0.0
    assert figures["abs_rel_parallax_0_1"] == figures["abs_rel_parallax_4_inf"] == pytest.approx(0.1, abs=1e-6)
    assert math.isnan(figures["abs_rel_parallax_1_4"]) and math.isnan(figures["missed_step"])
    assert figures["scores_abs_rel"] == pytest.approx(0.0, abs=1e-5)


def test_missed_steps_are_the_part_that_is_not_shown() -> None:
    truth = torch.full((1, 16, 16), 1.0)
    truth[:, :, 8:] = 2.0
    half = truth.log()
    half[:, :, 8] = 0.5 * math.log(2.0)
    scores = ScoreVolume(*(torch.zeros(1, 17, 4, 4) for _ in range(2)), *(torch.ones(1, 1, 4, 4) for _ in range(2)))
    figures = base_figures([BaseStep(prediction_of(half), truth, scores)], PLANES)
    assert figures["missed_step"] == pytest.approx(0.5, abs=1e-5)
    assert figures["scores_missed_step"] == 1.0


def test_scores_alone_take_the_best_plane_of_a_neighbourhood() -> None:
    scores = ScoreVolume(*(torch.zeros(1, 17, 8, 8) for _ in range(2)), *(torch.ones(1, 1, 8, 8) for _ in range(2)))
    scores.maps[:, 8] = 0.3
    scores.maps[0, 2, 4, 4] = 1.0  # one cell that stands alone
    torch.testing.assert_close(scores_depth(scores, PLANES), torch.full((1, 32, 32), 2.0))
