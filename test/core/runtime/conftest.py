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
from camera_poses import pose_tensor
from tiny_networks import tiny_network

from dvmvs_core.model.hidden_state import lstm_depth_estimate, reproject_depth
from dvmvs_core.runtime.model_cache import FOLDER_VARIABLE, announce_compiling
from dvmvs_core.runtime.runner import PreviousKeyframe

HEIGHT, WIDTH = 64, 96


@pytest.fixture(scope="session")
def compiled_before(tmp_path_factory):
    """Folder of the models that tests before this one compiled."""
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture(autouse=True)
def compiled_models(compiled_before, monkeypatch):
    """Folder of compiled models, none of which is from before this run of tests."""
    monkeypatch.setenv(FOLDER_VARIABLE, str(compiled_before))
    announce_compiling()  # once a process: no test counts it among its lines
    return compiled_before


@pytest.fixture
def view():
    """A camera that sees something else from every place."""
    torch.manual_seed(1)
    K = torch.tensor(((80.0, 0, 48), (0, 84.0, 30), (0, 0, 1)))
    return SimpleNamespace(
        images=[torch.rand(1, 3, HEIGHT, WIDTH) * 2 - 1 for _ in range(4)],
        K=K[None],
        # The last one looks the other way: most of what it is asked for is behind it.
        poses=[
            pose_tensor(),
            pose_tensor(0.15, 0.05, turned=0.05),
            pose_tensor(-0.1, z=0.2),
            pose_tensor(z=-0.3, turned=2.0),
        ],
    )


@pytest.fixture
def make_network():
    """Function of preset and kind: a small network."""
    return _make_network


@pytest.fixture
def plain_depths(view):
    """Function of a network: depth and state of keyframes in a row, as the plain modules give them."""
    return lambda network: _plain_depths(network, view)


@pytest.fixture
def runner_depths(view):
    """Function of a runner: the same keyframes."""
    return lambda runner: _runner_depths(runner, view)


def _make_network(preset_name, network="fusionnet", seed=0, **changes):
    """A network with batch norms that do something, since folding them is under test."""
    built = tiny_network(preset_name, seed, network=network, **changes)
    for module in built.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.running_mean, 0, 0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, 0, 0.1)
    if getattr(built, "fine_sweep", None) is not None:  # zero-initialised
        torch.nn.init.normal_(built.fine_sweep.correction.weight, 0, 0.2)
        torch.nn.init.normal_(built.fine_sweep.shares.weight, 0, 2.0)
    return built


KEYFRAMES = (1, 2, 1, 0)
"""Views that get a depth one after the other, each measured against the first and the last."""


@torch.no_grad()
def _plain_depths(network, view):
    matching = [network.extract(view.images[i]).matching for i in (0, 3)]
    poses = [view.poses[0], view.poses[3]]
    depths, past = [], None
    for i in KEYFRAMES:
        arguments = (view.images[i], network.extract(view.images[i]), matching, view.poses[i], poses, view.K)
        if network.config.network == "pairnet":
            depths.append((network(*arguments).full, None))
            continue
        state = pose = estimate = None
        if past is not None:
            depth, state, pose = past
            estimate = lstm_depth_estimate(reproject_depth(depth[:, None], pose, view.poses[i], view.K))
            assert (estimate > 0).any()
        pyramid, state = network(*arguments, state, pose, estimate)
        past = (pyramid.full, state, view.poses[i])
        depths.append((pyramid.full, state))
    return depths


@torch.inference_mode()
def _runner_depths(runner, view):
    matching = [runner.features(view.images[i]).matching for i in (0, 3)]
    poses = [view.poses[0], view.poses[3]]
    depths, previous = [], None
    for i in KEYFRAMES:
        # A runner may overwrite all features but the matching map at the next call.
        features = runner.features(view.images[i])
        depth, state = runner.depth(view.images[i], features, matching, view.poses[i], poses, view.K, previous)
        previous = PreviousKeyframe(depth[:, None], view.poses[i], state)
        depths.append((depth, state))
    return depths
