# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What a run starts from: weights of another run, and a schedule."""

from __future__ import annotations

import pytest
import torch

from dvmvs_core.errors import ConfigError
from dvmvs_core.model.checkpoint import load_network, save_checkpoint
from dvmvs_core.model.dvmvs import build_network
from dvmvs_core.training import setup
from dvmvs_core.training.stages import FINE_SWEEP_STAGES, FUSIONNET_TUNING_STAGES, enter_stage


@pytest.fixture
def pairnet_file(tiny, tmp_path):
    """A PairNet in a file."""
    torch.manual_seed(7)
    save_checkpoint(tmp_path / "pairnet.safetensors", {"pairnet": build_network(tiny)}, {}, half=False)
    return tmp_path / "pairnet.safetensors"


def test_fusionnet_takes_all_but_its_memory_from_a_pairnet(pairnet_file) -> None:
    torch.manual_seed(0)
    network, companions = setup.initial_network("fusionnet", "small", str(pairnet_file), None, None)
    (pairnet,) = companions.values()
    theirs = pairnet.state_dict()
    for key, value in network.state_dict().items():
        if key.startswith("lstm_fusion."):
            assert key not in theirs
        else:
            assert torch.equal(value, theirs[key]), key


def test_a_network_goes_on_from_its_own_weights_where_a_file_holds_both(tiny, tmp_path) -> None:
    both = {name: build_network(tiny.replace(network=name)) for name in ("fusionnet", "pairnet")}
    save_checkpoint(tmp_path / "both.safetensors", both, {}, half=False)
    for name, saved in both.items():
        network, companions = setup.initial_network(name, "small", str(tmp_path / "both.safetensors"), None, None)
        assert all(torch.equal(value, saved.state_dict()[key]) for key, value in network.state_dict().items())
        assert list(companions) == (["pairnet"] if name == "fusionnet" else [])


def test_size_can_change_between_runs(pairnet_file, tiny) -> None:
    network, companions = setup.initial_network("pairnet", "small", str(pairnet_file), 128, None)
    assert network.config == tiny.replace(height=128)
    assert companions == {}


def test_preset_is_used_without_weights() -> None:
    network, companions = setup.initial_network("fusionnet", "small", None, 64, 96)
    assert (network.config.preset, network.config.network) == ("small", "fusionnet")
    assert (network.config.height, network.config.width) == (64, 96)
    assert companions == {}


def test_pairnet_cannot_start_from_a_fusionnet(tiny, tmp_path) -> None:
    fusionnet = build_network(tiny.replace(network="fusionnet"))
    save_checkpoint(tmp_path / "f.safetensors", {"fusionnet": fusionnet}, {})
    with pytest.raises(ConfigError, match="needs a pairnet to start from"):
        setup.initial_network("pairnet", "small", str(tmp_path / "f.safetensors"), None, None)


def test_last_stage_needs_a_fusionnet(tiny, pairnet_file) -> None:
    for init in (None, str(pairnet_file)):
        with pytest.raises(ConfigError, match="tunes a trained FusionNet"):
            setup.stages_of(tiny.replace(network="fusionnet"), init, last_stage=True)
    with pytest.raises(ConfigError, match="no memory"):
        setup.schedule_of("last-stage", "pairnet")


@pytest.fixture
def fusionnet_file(tiny, tmp_path):
    """A FusionNet without a fine sweep in a file."""
    torch.manual_seed(8)
    network = build_network(tiny.replace(network="fusionnet"))
    save_checkpoint(tmp_path / "fusionnet.safetensors", {"fusionnet": network}, {}, half=False)
    return tmp_path / "fusionnet.safetensors"


def test_a_fine_sweep_joins_a_fusionnet_and_learns_alone_at_first(fusionnet_file) -> None:
    network, _ = setup.initial_network("fusionnet", "small", str(fusionnet_file), None, None, refinement_channels=4)
    theirs = load_network(fusionnet_file)[0].state_dict()
    for key, value in network.state_dict().items():
        assert torch.equal(value, theirs[key]) if key in theirs else key.startswith("refinement."), key
    stages = setup.stages_of(network.config, str(fusionnet_file))
    assert stages == FINE_SWEEP_STAGES
    learning = enter_stage(network, stages[0])
    assert {id(p) for p in learning} == {id(p) for p in network.fine_sweep.parameters()}
    assert len(enter_stage(network, stages[1])) > len(learning)


def test_a_fine_sweep_that_is_there_stays(fusionnet_file, tmp_path) -> None:
    network, _ = setup.initial_network("fusionnet", "small", str(fusionnet_file), None, None, refinement_channels=4)
    save_checkpoint(tmp_path / "refined.safetensors", {"fusionnet": network}, {}, half=False)
    refined = str(tmp_path / "refined.safetensors")
    again, _ = setup.initial_network("fusionnet", "small", refined, None, None)
    assert again.config.refinement_channels == 4
    assert torch.equal(again.fine_sweep.fine.weight, network.fine_sweep.fine.weight)
    assert setup.stages_of(again.config, refined) == FUSIONNET_TUNING_STAGES
    with pytest.raises(ConfigError, match="is 4 channels wide; 8 were asked"):
        setup.initial_network("fusionnet", "small", refined, None, None, refinement_channels=8)


def test_statistics_are_estimated_anew_for_a_pairnet_of_another_size_alone(pairnet_file, fusionnet_file, tiny) -> None:
    wider = tiny.replace(width=2 * tiny.width)
    assert setup.stages_of(wider, str(pairnet_file))[0].calibrate
    assert not any(stage.calibrate for stage in setup.stages_of(tiny, str(pairnet_file)))
    for config in (tiny, wider):
        fusionnet = config.replace(network="fusionnet")
        assert not any(stage.calibrate for stage in setup.stages_of(fusionnet, str(fusionnet_file)))
