# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""A camera that looks around a random scene, and small networks of both kinds."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from dvmvs_core.config import preset
from dvmvs_core.model.dvmvs import build_network
from dvmvs_core.model.hidden_state import lstm_depth_estimate, reproject_depth
from dvmvs_core.runtime.previous_keyframe import PreviousKeyframe

HEIGHT, WIDTH = 64, 96
SMALL = {"height": HEIGHT, "width": WIDTH, "depth_hypotheses": 8, "hyper_channels": 4, "pyramid_channels": 4}
CHANNELS = {"extractor_stem": 4, "extractor_channels": (4, 4, 8, 8, 8)}


def moved(x=0.0, y=0.0, z=0.0, turn=0.0):
    pose = torch.eye(4)
    turn = torch.tensor(turn)
    pose[0, 0], pose[0, 2], pose[2, 0], pose[2, 2] = turn.cos(), turn.sin(), -turn.sin(), turn.cos()
    pose[:3, 3] = torch.tensor((x, y, z))
    return pose


@pytest.fixture
def view():
    """Two cameras at once, which see different things from different places."""
    torch.manual_seed(1)
    K = torch.tensor(((80.0, 0, 48), (0, 84.0, 30), (0, 0, 1)))
    return SimpleNamespace(
        images=[torch.rand(2, 3, HEIGHT, WIDTH) * 2 - 1 for _ in range(4)],
        K=torch.stack((K, K + torch.tensor(((2.0, 0, 3), (0, 1, 1), (0, 0, 0))))),
        # The last one looks the other way: most of what it is asked for lies behind it.
        poses=[
            torch.stack((moved(), moved(x=1.0))),
            torch.stack((moved(x=0.15, y=0.05, turn=0.05), moved(x=1.1, z=0.1))),
            torch.stack((moved(x=-0.1, z=0.2), moved(x=1.0, y=-0.2, turn=-0.1))),
            torch.stack((moved(z=-0.3, turn=2.0), moved(x=1.2, turn=-0.02))),
        ],
    )


@pytest.fixture
def make_network():
    """Function of preset and kind: a small network."""
    return _make_network


@pytest.fixture
def plain_depths(view):
    """Function of a network: depth and state of two keyframes in a row, as the plain modules give them."""
    return lambda network: _plain_depths(network, view)


@pytest.fixture
def runner_depths(view):
    """Function of a runner: the same two keyframes."""
    return lambda runner: _runner_depths(runner, view)


def _make_network(preset_name, network="fusionnet", seed=0, **changes):
    """A network with batch norms that do something, since folding them is under test."""
    torch.manual_seed(seed)
    built = build_network(preset(preset_name, network=network, **{**SMALL, **CHANNELS, **changes})).eval()
    for module in built.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.running_mean, 0, 0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, 0, 0.1)
    if getattr(built, "refinement", None) is not None:  # it begins as if it were not there
        torch.nn.init.normal_(built.refinement.correction.weight, 0, 0.2)
        torch.nn.init.normal_(built.refinement.shares.weight, 0, 2.0)
    return built


@torch.no_grad()
def _plain_depths(network, view):
    features = [network.extract(image) for image in view.images]
    arguments = (features[0].matching, features[3].matching)
    poses = (view.poses[0], view.poses[3])
    first = (view.images[1], features[1], arguments, view.poses[1], poses, view.K)
    second = (view.images[2], features[2], arguments, view.poses[2], poses, view.K)
    if network.config.network == "pairnet":
        return [(network(*first).full, None), (network(*second).full, None)]
    pyramid, state = network(*first, None, None, None)
    estimate = lstm_depth_estimate(reproject_depth(pyramid.full[:, None], view.poses[1], view.poses[2], view.K))
    assert (estimate > 0).any()
    later, later_state = network(*second, state, view.poses[1], estimate)
    return [(pyramid.full, state), (later.full, later_state)]


@torch.inference_mode()
def _runner_depths(runner, view):
    arguments = [runner.features(view.images[i]).matching for i in (0, 3)]
    poses = [view.poses[0], view.poses[3]]
    # A runner may overwrite all features but the matching map at the next extraction.
    features = runner.features(view.images[1])
    first = runner.depth(view.images[1], features, arguments, view.poses[1], poses, view.K, None)
    previous = PreviousKeyframe(first[0][:, None], view.poses[1], first[1])
    features = runner.features(view.images[2])
    second = runner.depth(view.images[2], features, arguments, view.poses[2], poses, view.K, previous)
    return [first, second]
