# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

from __future__ import annotations

import pytest
import torch
from camera_poses import pose_tensor
from tiny_networks import tiny_network

from dvmvs_core.config import preset
from dvmvs_core.model.dvmvs import FusionNet, PairNet, build_network
from dvmvs_core.model.hidden_state import lstm_depth_estimate, reproject_depth

HEIGHT, WIDTH = 64, 96
IDENTITY = torch.eye(4).expand(2, 4, 4)
K = torch.tensor([[80.0, 0.0, 48.0], [0.0, 80.0, 32.0], [0.0, 0.0, 1.0]]).expand(2, 3, 3)


@pytest.fixture
def image():
    return torch.randn(2, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def world_T_meas():
    return pose_tensor(0.1).repeat(2, 1, 1)


def arguments(network, image, world_T_meas):
    features = network.extract(image)
    return image, features, [features.matching], IDENTITY, [world_T_meas], K


@pytest.mark.parametrize("matching", ["learned", "patch"])
def test_depth_pyramid_shapes_and_range(image, world_T_meas, matching):
    network = tiny_network(network="pairnet", matching=matching)
    assert isinstance(network, PairNet)
    with torch.no_grad():
        depth = network(*arguments(network, image, world_T_meas))
    assert [tuple(d.shape) for d in depth] == [(2, HEIGHT // s, WIDTH // s) for s in (1, 2, 4, 8, 16)]
    assert all((d >= 0.25).all() and (d <= 20).all() for d in depth)


@pytest.mark.parametrize("matching", ["learned", "patch"])
def test_every_parameter_that_is_trained_gets_a_gradient(image, world_T_meas, matching):
    network = tiny_network(matching=matching).train()
    assert isinstance(network, FusionNet)
    depth, state = network(*arguments(network, image, world_T_meas), None, None, None)
    estimate = torch.ones(2, 1, HEIGHT // 32, WIDTH // 32)
    again, _ = network(*arguments(network, image, world_T_meas), state, world_T_meas, estimate)
    sum(d.mean() for d in (*depth, *again)).backward()
    without = [n for n, p in network.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []
    assert [n for n, p in network.named_parameters() if not p.requires_grad] == [
        "feature_pyramid.fpn.layer_blocks.4.weight",
        "feature_pyramid.fpn.layer_blocks.4.bias",
    ]


def test_state_changes_the_next_depth(image, world_T_meas):
    network = tiny_network()
    with torch.no_grad():
        shared = arguments(network, image, world_T_meas)
        first, state = network(*shared, None, None, None)
        reprojected = reproject_depth(first.full[:, None], IDENTITY, IDENTITY, K)
        assert reprojected.shape == (2, 1, HEIGHT // 2, WIDTH // 2)
        second, _ = network(*shared, state, IDENTITY, lstm_depth_estimate(reprojected))
        afresh, _ = network(*shared, None, None, None)
    assert not torch.equal(first.full, second.full)
    assert torch.equal(first.full, afresh.full)


def test_geometry_stays_float32_under_autocast(image, world_T_meas):
    network = tiny_network(matching="learned")
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        shared = arguments(network, image, world_T_meas)
        depth, state = network(*shared, None, None, None)
        reprojected = reproject_depth(depth.full[:, None], IDENTITY, world_T_meas, K)
        depth, _ = network(*shared, state, IDENTITY, lstm_depth_estimate(reprojected))
    assert depth.full.dtype == reprojected.dtype == torch.float32
    assert depth.full.isfinite().all()


@pytest.mark.parametrize(("name", "network"), [("paper", "fusionnet"), ("paper", "pairnet"), ("small", "fusionnet")])
def test_presets_build_with_modules_under_their_released_names(name, network):
    modules = ["feature_extractor", "feature_pyramid", "encoder", "lstm_fusion", "decoder"]
    if network == "pairnet":
        modules.remove("lstm_fusion")
    with torch.device("meta"):
        built = build_network(preset(name, network=network))
    assert [n for n, _ in built.named_children()] == modules
    counts = [len(m.state_dict()) for m in built.children()]
    assert counts == [306, 20, 96, *([1] if network == "fusionnet" else []), 94]
