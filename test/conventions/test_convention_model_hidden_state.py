# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Conventions of the hidden state's geometry that released weights depend on, each next to the wrong answer."""

from __future__ import annotations

import pytest
import torch
from camera_poses import pose_tensor as moved
from tiny_networks import tiny_network

from dvmvs_core.model.convlstm import LSTMState
from dvmvs_core.model.hidden_state import lstm_depth_estimate, reproject_depth, warp_hidden_state

IDENTITY = torch.eye(4)[None]
# Powers of two keep the projection exact, so that ties are ties.
K = torch.tensor([[[2.0, 0.0, 4.0], [0.0, 2.0, 4.0], [0.0, 0.0, 1.0]]])


def test_convention_farthest_point_wins():
    depth = torch.ones(1, 1, 8, 8)
    depth[0, 0, 0, 1] = 4.0
    reprojected = reproject_depth(depth, IDENTITY, IDENTITY, K)
    assert reprojected[0, 0, 0, 0] == 4.0, "a z-buffer would keep the nearest, 1"


def test_convention_pixels_are_rounded_ties_to_even():
    depth = torch.ones(1, 1, 8, 8)
    depth[0, 0, :, 3] = 8.0  # column 3 falls on 1.5
    reprojected = reproject_depth(depth, IDENTITY, IDENTITY, K)[0, 0]
    assert (reprojected[:, 2] == 8.0).all()
    assert (reprojected[:, 1] == 1.0).all(), "rounding down would put 8 here"


def test_convention_holes_stay_empty():
    # Moving 1 m back halves the picture of a plane at 1 m around (2, 2); nothing fills the border.
    reprojected = reproject_depth(torch.ones(1, 1, 8, 8), IDENTITY, moved(z=-1.0), K)[0, 0]
    assert reprojected[2, 2] == 2.0
    assert reprojected[0, 0] == 0.0


def test_convention_points_behind_the_camera_leave_zero():
    reprojected = reproject_depth(torch.ones(1, 1, 8, 8), IDENTITY, moved(z=3.0), K)
    assert (reprojected == 0).all(), "their depth of -2, or its magnitude, must not appear"


def test_convention_depth_estimate_takes_the_top_left_pixel():
    reprojected = torch.zeros(1, 1, 32, 32)
    reprojected[0, 0, 1, 1] = 7.0
    reprojected[0, 0, 16, 0] = 3.0
    estimate = lstm_depth_estimate(reprojected)
    assert estimate.tolist() == [[[[0.0, 0.0], [3.0, 0.0]]]], "pooling would give 7, the block's centre 0"


def test_convention_warp_looks_up_where_the_previous_camera_saw_the_point():
    # The camera has moved 0.5 m to the right: what is now at pixel x was at x + 2 · 0.5 / 1 = x + 1.
    hidden = torch.arange(8.0).expand(1, 1, 8, 8)
    warped = warp_hidden_state(hidden, torch.ones(1, 1, 8, 8), IDENTITY, moved(x=0.5), K)
    torch.testing.assert_close(warped[..., :7], hidden[..., :7] + 1)
    assert not torch.allclose(warped[..., 1:7], hidden[..., 1:7] - 1), "the transform would be inverted"


def test_convention_warp_samples_exactly_unlike_the_cost_volume():
    hidden = torch.arange(8.0).expand(1, 1, 8, 8)
    warped = warp_hidden_state(hidden, torch.ones(1, 1, 8, 8), IDENTITY, IDENTITY, K)
    torch.testing.assert_close(warped, hidden)
    assert not torch.allclose(warped, hidden * 7 / 8), "the cost volume's normaliser would give this"


@pytest.mark.parametrize(("depth", "kept"), [(0.0, 0.0), (0.01, 0.0), (0.02, 5.0)])
def test_convention_cells_without_an_estimate_become_zero(depth, kept):
    hidden = torch.full((1, 3, 8, 8), 5.0)
    warped = warp_hidden_state(hidden, torch.full((1, 1, 8, 8), depth), IDENTITY, IDENTITY, K)
    torch.testing.assert_close(warped, torch.full_like(warped, kept))


def test_convention_hidden_is_warped_and_cell_is_not():
    network = tiny_network(width=64, hyper_channels=1)
    seen = []
    network.lstm_fusion.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[1]))
    image = torch.rand(1, 3, 64, 64)
    state = LSTMState(torch.rand(1, 16, 2, 2), torch.rand(1, 16, 2, 2))
    nothing_known = torch.zeros(1, 1, 2, 2)
    with torch.no_grad():
        features = network.extract(image)
        arguments = (image, features, [features.matching], IDENTITY, [IDENTITY], 16 * K)
        network(*arguments, state, IDENTITY, nothing_known)
        network(*arguments, state, None, None)
    warped, unwarped = seen
    assert (warped.hidden == 0).all()
    assert torch.equal(warped.cell, state.cell), "warping the cell state would give zeros"
    assert torch.equal(unwarped.hidden, state.hidden), "without a previous pose nothing is warped"
