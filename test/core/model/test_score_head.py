# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Aggregation of scores, the best plane, and the way to full resolution."""

from __future__ import annotations

import torch

from dvmvs_core.model.score_head import ConvexUpsampling, ScoreAggregation, best_plane_position


def test_untrained_aggregation_is_a_tent_over_five_cells() -> None:
    torch.manual_seed(0)
    aggregation = ScoreAggregation(4)
    scores = torch.zeros(1, 2, 11, 11)
    scores[0, 1, 5, 5] = 1.0
    spread = aggregation(scores, torch.randn(1, 4, 11, 11)).detach()
    assert not spread[0, 0].any()
    line = torch.tensor([0.0, 1.0, 2.0, 3.0, 2.0, 1.0, 0.0]) / 9
    torch.testing.assert_close(spread[0, 1, 2:9, 2:9], line[:, None] * line, atol=4e-3, rtol=0)


def test_aggregation_takes_the_same_weights_on_every_plane_and_keeps_constants() -> None:
    torch.manual_seed(0)
    aggregation = ScoreAggregation(4)
    torch.nn.init.normal_(aggregation.affinity.weight)
    scores, features = torch.randn(1, 1, 8, 8), torch.randn(1, 4, 8, 8)
    both = aggregation(scores.expand(1, 3, 8, 8), features)
    torch.testing.assert_close(both[:, :1], both[:, 2:])
    torch.testing.assert_close(aggregation(torch.ones(1, 2, 8, 8), features), torch.ones(1, 2, 8, 8))


def test_best_plane_is_found_with_fractions_and_distant_planes_have_no_part() -> None:
    logits = torch.full((1, 16, 1, 3), -20.0)
    logits[0, 7, 0, 0] = 20.0
    logits[0, 7:9, 0, 1] = 20.0  # half-way
    logits[0, 15, 0, 2] = 20.0  # the last plane
    logits[0, 1] = 19.0  # almost as good, far away
    position = best_plane_position(logits)
    torch.testing.assert_close(position[0, 0], torch.tensor([7.0, 7.5, 15.0]), atol=1e-4, rtol=0)


def test_gradient_of_the_best_plane_reaches_its_neighbours_only() -> None:
    logits = torch.zeros(1, 16, 1, 1)
    logits[0, 8] = 1.0
    logits.requires_grad_(True)
    best_plane_position(logits).sum().backward()
    assert logits.grad.flatten().nonzero().flatten().tolist() == [6, 7, 9, 10]


def test_upsampled_depth_stays_between_its_nine_cells() -> None:
    torch.manual_seed(0)
    upsampling = ConvexUpsampling(4, 8)
    torch.nn.init.normal_(upsampling.weights.weight, std=3.0)
    log_depth = torch.zeros(1, 6, 6)
    log_depth[0, :, 3:] = 1.0
    full = upsampling(log_depth, torch.randn(1, 4, 6, 6), torch.randn(1, 3, 24, 24))
    assert full.shape == (1, 24, 24)
    assert full.amin() >= 0 and full.amax() <= 1 + 1e-5
    assert not full[:, :, :8].any() and (full[:, :, 16:] > 1 - 1e-5).all()
