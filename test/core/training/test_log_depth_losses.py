# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Parts of losses in log depth."""

from __future__ import annotations

import pytest
import torch

from dvmvs_core.training.log_depth_losses import edge_mask, steps_loss, weighted_mean


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
