# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Checkpoints of one kind have a mean, others are refused."""

from __future__ import annotations

import pytest
import torch

from dvmvs_core.config import preset
from dvmvs_core.errors import WeightsError
from dvmvs_core.model.averaging import average_checkpoints
from dvmvs_core.model.checkpoint import load_network, read_info, save_checkpoint
from dvmvs_core.model.dvmvs import build_network

TINY = {
    "height": 64, "width": 64, "depth_hypotheses": 4, "extractor_stem": 2, "extractor_channels": (2, 2, 2, 2, 2),
    "pyramid_channels": 2, "hyper_channels": 2,
}  # fmt: skip


@pytest.fixture
def checkpoint(tmp_path):
    """Function of a name, a seed and a network's settings: the file of a network with random weights."""

    def save(name, seed, **settings):
        torch.manual_seed(seed)
        network = build_network(preset("small", **{**TINY, "network": "pairnet", **settings}))
        path = tmp_path / f"{name}.safetensors"
        save_checkpoint(path, {network.config.network: network}, {"seed": seed}, half=False)
        return path

    return save


def test_every_weight_is_the_mean(checkpoint, tmp_path) -> None:
    files = [checkpoint(str(seed), seed) for seed in range(3)]
    info = average_checkpoints(files, tmp_path / "mean.safetensors")
    assert info.metadata == {"mean_of": ["0.safetensors", "1.safetensors", "2.safetensors"]}
    mean = load_network(tmp_path / "mean.safetensors")[0].state_dict()
    states = [load_network(file)[0].state_dict() for file in files]
    moved = 0
    for key, value in mean.items():
        expected = sum(state[key] for state in states) / 3
        # Kernels are stored as float16.
        torch.testing.assert_close(value, expected.to(value.dtype), rtol=1e-3, atol=1e-4)
        moved += not torch.equal(value, states[0][key])
    assert moved > 50


def test_all_networks_of_the_files_are_averaged(tmp_path) -> None:
    files = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        networks = {name: build_network(preset("small", **TINY, network=name)) for name in ("fusionnet", "pairnet")}
        files.append(tmp_path / f"{seed}.safetensors")
        save_checkpoint(files[-1], networks, {})
    average_checkpoints(files, tmp_path / "mean.safetensors")
    assert set(read_info(tmp_path / "mean.safetensors").networks) == {"fusionnet", "pairnet"}
    for name in ("fusionnet", "pairnet"):
        first, second, mean = (
            load_network(file, name)[0].encoder.aggregator0[0].weight
            for file in (*files, tmp_path / "mean.safetensors")
        )
        torch.testing.assert_close(mean, (first + second) / 2, rtol=1e-3, atol=1e-4)


def test_one_alone_has_no_mean(checkpoint, tmp_path) -> None:
    with pytest.raises(WeightsError, match="at least 2 checkpoints; got 1"):
        average_checkpoints([checkpoint("a", 0)], tmp_path / "mean.safetensors")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"network": "fusionnet"}, "holds pairnet, .* holds fusionnet"),
        ({"depth_hypotheses": 8}, "has depth_hypotheses 4, that of .* 8"),
        ({"hyper_channels": 4}, "has hyper_channels 2, that of .* 4"),
    ],
)
def test_other_shapes_have_no_mean(checkpoint, tmp_path, settings, message) -> None:
    files = [checkpoint("a", 0), checkpoint("b", 1, **settings)]
    with pytest.raises(WeightsError, match=message):
        average_checkpoints(files, tmp_path / "mean.safetensors")
    assert not (tmp_path / "mean.safetensors").exists()
