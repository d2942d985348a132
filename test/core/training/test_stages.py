# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What a run starts from, and what learns when: frozen means no gradient, and statistics that stand still."""

from __future__ import annotations

import copy

import pytest
import torch

from dvmvs_core.errors import ConfigError
from dvmvs_core.model.checkpoint import load_network, save_checkpoint
from dvmvs_core.model.dvmvs import build_network
from dvmvs_core.training import setup
from dvmvs_core.training.augmentation import prepare_clip
from dvmvs_core.training.optimisation import recompute_batch_norm
from dvmvs_core.training.passes import predictions
from dvmvs_core.training.stages import (
    FINE_SWEEP_STAGES,
    FUSIONNET_STAGES,
    FUSIONNET_TUNING_STAGES,
    LAST_STAGE,
    PAIRNET_STAGES,
    Stage,
    enter_stage,
    published_stages,
    stage_at,
)

ONLY_DECODER = Stage("decoder", 1.0, ("decoder",))


def changed_modules(network: torch.nn.Module, before: dict[str, torch.Tensor]) -> set[str]:
    """Names of the modules of which any weight or statistic is not what it was."""
    after = network.state_dict()
    return {key.split(".")[0] for key in before if not torch.equal(before[key], after[key])}


@pytest.mark.parametrize(
    ("stage", "learns"),
    [
        (ONLY_DECODER, {"decoder"}),
        (Stage("memory", 1.0, ("lstm_fusion", "decoder")), {"lstm_fusion", "decoder"}),
        (LAST_STAGE, {"lstm_fusion"}),
        (Stage("all", 1.0), {"feature_extractor", "feature_pyramid", "encoder", "lstm_fusion", "decoder"}),
    ],
)
def test_only_the_modules_of_the_stage_change(make_trainer, wall_stream, stage, learns) -> None:
    trainer = make_trainer(network="fusionnet", stages=(stage,), steps=2)
    before = {key: value.clone() for key, value in trainer.network.state_dict().items()}
    for _, batch in zip(range(2), wall_stream(0), strict=False):
        trainer.train_step(batch)
    assert changed_modules(trainer.network, before) == learns


def test_frozen_batch_norm_keeps_statistics_and_affine_weights(make_trainer, wall_stream) -> None:
    trainer = make_trainer(stages=(Stage("all", 1.0, batch_norm=False),), steps=1)
    layers = [m for m in trainer.network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    before = [{k: v.clone() for k, v in layer.state_dict().items()} for layer in layers]
    trainer.train_step(next(wall_stream(0)))
    for layer, old in zip(layers, before, strict=True):
        assert all(torch.equal(old[key], value) for key, value in layer.state_dict().items())


def test_stages_follow_their_shares() -> None:
    stages = (Stage("a", 0.25), Stage("b", 0.5), Stage("c", 0.25))
    assert [stage_at(stages, p) for p in (0.0, 0.2499, 0.25, 0.7499, 0.75, 1.0)] == [0, 0, 1, 1, 2, 2]


def test_published_stages_have_their_lengths_in_steps() -> None:
    stages = published_stages("fusionnet", steps=1000, epoch_steps=100, last_stage_steps=250)
    starts = [0, 100, 200, 750]
    assert [stage_at(stages, start / 1000) for start in starts] == [0, 1, 2, 3]
    assert [stage_at(stages, (start - 1) / 1000) for start in starts[1:]] == [0, 1, 2]
    assert stages[-1].trained == ("lstm_fusion",)
    assert (stages[-1].predicted_state, stages[-1].learning_rate) == (1.0, 5e-5)
    assert [stage.share for stage in published_stages("pairnet", 1000, 100)] == pytest.approx([0.2, 0.8])


def test_run_too_short_for_the_published_stages_is_refused() -> None:
    with pytest.raises(ConfigError, match="27000 steps before and after"):
        published_stages("fusionnet", steps=27_000, epoch_steps=1000)


@pytest.mark.parametrize(
    "stages",
    [
        PAIRNET_STAGES,
        FUSIONNET_STAGES,
        FUSIONNET_TUNING_STAGES,
        FINE_SWEEP_STAGES,
        (LAST_STAGE,),
        published_stages("fusionnet", 30_000, 1000),
    ],
)
def test_shares_make_a_whole_run(stages) -> None:
    assert sum(stage.share for stage in stages) == pytest.approx(1.0)


def test_a_stage_that_trains_nothing_is_refused(tiny) -> None:
    with pytest.raises(ConfigError, match="trains none"):
        enter_stage(build_network(tiny), Stage("memory", 1.0, ("lstm_fusion",)))


def test_calibrating_stage_starts_from_statistics_of_the_held_out_clips(make_trainer, wall_stream, held_out) -> None:
    stages = (Stage("all", 0.5), Stage("fixed", 0.5, batch_norm=False, calibrate=True))
    trainer = make_trainer(stages=stages, steps=4)
    batches = wall_stream(0)
    for _ in range(2):
        trainer.train_step(next(batches))
    expected = copy.deepcopy(trainer.network)
    clip = prepare_clip(held_out.calibration[0])
    recompute_batch_norm(expected, [lambda network: list(predictions(network, clip, 2))])
    trainer.train_step(next(batches))
    assert trainer.stage.name == "fixed"
    statistics = {name: value for name, value in expected.named_buffers() if "running" in name}
    assert len(statistics) > 50
    for name, value in statistics.items():
        torch.testing.assert_close(trainer.network.get_buffer(name), value)


def saved(path, *networks: torch.nn.Module):
    save_checkpoint(path, {network.config.network: network for network in networks}, {}, half=False)
    return path


@pytest.fixture
def pairnet_file(tiny, tmp_path):
    torch.manual_seed(7)
    return saved(tmp_path / "pairnet.safetensors", build_network(tiny))


@pytest.fixture
def fusionnet_file(tiny, tmp_path):
    """Without a fine sweep."""
    torch.manual_seed(8)
    return saved(tmp_path / "fusionnet.safetensors", build_network(tiny.replace(network="fusionnet")))


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
    file = saved(tmp_path / "both.safetensors", *both.values())
    for name, original in both.items():
        network, companions = setup.initial_network(name, "small", str(file), None, None)
        assert all(torch.equal(value, original.state_dict()[key]) for key, value in network.state_dict().items())
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


def test_pairnet_cannot_start_from_a_fusionnet(fusionnet_file) -> None:
    with pytest.raises(ConfigError, match="needs a pairnet to start from"):
        setup.initial_network("pairnet", "small", str(fusionnet_file), None, None)


def test_last_stage_needs_a_fusionnet(tiny, pairnet_file) -> None:
    for init in (None, str(pairnet_file)):
        with pytest.raises(ConfigError, match="tunes a trained FusionNet"):
            setup.stages_of(tiny.replace(network="fusionnet"), init, last_stage=True)
    with pytest.raises(ConfigError, match="no memory"):
        setup.schedule_of("last-stage", "pairnet")


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
    refined = str(saved(tmp_path / "refined.safetensors", network))
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
