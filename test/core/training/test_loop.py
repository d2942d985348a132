# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The loop as a whole: it learns in any arithmetic, goes on where it stopped, and stops when it is told to."""

from __future__ import annotations

import copy
import functools
import json
import os
import resource
import signal

import pytest
import torch

from dvmvs_core.errors import ConfigError, DataError
from dvmvs_core.model.checkpoint import load_network, read_info
from dvmvs_core.model.dvmvs import build_network
from dvmvs_core.training.autocast import Arithmetic, compile_parts
from dvmvs_core.training.loop import LoopConfig, Trainer
from dvmvs_core.training.run_folder import CHECKPOINT_NAME, LOG_NAME, PICTURES_NAME
from dvmvs_core.training.stages import Stage

STAGES = (Stage("decoder", 0.5, ("decoder",)), Stage("everything", 0.5, batch_norm=False))


@pytest.fixture
def trainer(make_trainer):
    """Makes trainers of two stages."""
    return functools.partial(make_trainer, stages=STAGES)


@pytest.mark.parametrize("network", ["pairnet", "fusionnet"])
def test_loss_falls_on_a_batch_seen_again_and_again(make_trainer, wall_clips, network) -> None:
    batch = wall_clips(0)
    training = make_trainer(network=network, steps=24, learning_rate=5e-3, warm_up_steps=5)
    losses = [training.train_step(batch) for _ in range(24)]
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])


def test_resumed_run_ends_with_the_same_numbers(trainer, tmp_path) -> None:
    whole = trainer(steps=6, folder=tmp_path / "whole", warm_up_steps=2)
    assert whole.run()

    stopped = trainer(clips=lambda start: _first(4, whole.clips(start)), steps=6, warm_up_steps=2)
    assert not stopped.run()
    assert stopped.step == 4
    resumed = trainer(steps=6, warm_up_steps=2)
    resumed.resume()
    assert resumed.step == 4
    assert resumed.run()

    for key, value in whole.network.state_dict().items():
        assert torch.equal(value, resumed.network.state_dict()[key]), key
    ours, theirs = resumed.averaged_network().state_dict(), whole.averaged_network().state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_interrupt_leaves_a_checkpoint_and_weights_that_load(trainer, wall_stream, tmp_path) -> None:
    def interrupted(start):
        for index, batch in enumerate(wall_stream(start)):
            if index == 2:
                os.kill(os.getpid(), signal.SIGINT)
            yield batch

    before = signal.getsignal(signal.SIGINT)
    training = trainer(clips=interrupted, steps=100)
    assert not training.run()
    assert training.step == 3
    assert signal.getsignal(signal.SIGINT) is before

    again = trainer(steps=100)
    again.resume()
    assert again.step == 3
    network, config = load_network(tmp_path / "run" / "pairnet.safetensors")
    assert config == again.network.config
    assert {p.name for p in (tmp_path / "run").iterdir()} == {
        CHECKPOINT_NAME,
        LOG_NAME,
        PICTURES_NAME,
        "pairnet.safetensors",
        "pairnet_best.safetensors",
    }


def test_log_tells_step_loss_validation_and_where_the_time_went(trainer, tmp_path) -> None:
    trainer(steps=4, log_steps=2).run()
    entries = [json.loads(line) for line in (tmp_path / "run" / LOG_NAME).read_text().splitlines()]
    assert [e["step"] for e in entries if "loss" in e] == [2, 4]
    assert set(entries[-1]["validation"]) == {"l1", "l1-inv", "l1-rel", "huber"}
    assert list(entries[0]["seconds"]) == ["data", "augmentation", "forward", "backward", "optimiser"]
    assert entries[0]["seconds"]["forward"] > 0


def test_step_without_finite_gradient_changes_nothing(trainer, wall_clips) -> None:
    training = trainer(steps=5)
    training.train_step(wall_clips(0))
    before = {key: value.clone() for key, value in training.network.state_dict().items()}
    broken = wall_clips(1)
    broken.depth[0, 0, 0, 0] = float("nan")
    training.train_step(broken)
    assert training.step == 2
    for name, parameter in training.network.named_parameters():
        assert torch.equal(before[name], parameter), name


def test_resume_refuses_what_it_cannot_go_on_from(trainer, tiny, wall_stream, held_out, tmp_path) -> None:
    training = trainer(steps=3)
    with pytest.raises(DataError, match="no last.pt"):
        training.resume()
    training.save()
    other = build_network(tiny.replace(hyper_channels=8))
    with pytest.raises(DataError, match="another network"):
        Trainer(other, wall_stream, held_out, STAGES, LoopConfig(steps=3), tmp_path / "run").resume()
    (tmp_path / "run" / CHECKPOINT_NAME).write_bytes(b"half a file")
    with pytest.raises(DataError, match="cannot be read"):
        training.resume()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "either steps or minutes or a deadline"),
        ({"steps": 3, "minutes": 1.0}, "either steps or minutes or a deadline"),
        ({"minutes": 3, "deadline_s": 5.0}, "either steps or minutes or a deadline"),
        ({"steps": 0}, "longer than 0; got 0"),
        ({"minutes": -1.0}, "longer than 0; got -1"),
        ({"deadline_s": -1.0}, "longer than 0; got -1"),
        ({"steps": 1, "part_mib": 0}, "at least 1 MiB; got 0"),
    ],
    ids=("no end", "two ends", "two times", "no step", "minutes below 0", "deadline below 0", "empty parts"),
)
def test_a_run_has_one_end_and_parts_that_hold_something(settings, said) -> None:
    with pytest.raises(ConfigError, match=said):
        LoopConfig(**settings)


def _first(count, batches):
    return (batch for batch, _ in zip(batches, range(count), strict=False))


def test_full_disk_on_the_way_is_told_and_ends_nothing(trainer, wall_stream, tmp_path, caplog) -> None:
    training = trainer(steps=3, save_minutes=0.0)
    training.train_step(next(training.clips(0)))
    training.save()
    good = (tmp_path / "run" / CHECKPOINT_NAME).read_bytes()
    seen = []

    def rest_of_the_run(start):
        for step, batch in enumerate(wall_stream(start), start=start):
            seen.append((tmp_path / "run" / CHECKPOINT_NAME).read_bytes() == good)
            if step == 2:  # before the last step there is room again
                resource.setrlimit(resource.RLIMIT_FSIZE, before)
            yield batch

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    training.clips = rest_of_the_run
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(good) // 2, before[1]))
    try:
        assert training.run()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert seen == [True, True]
    assert "the checkpoint before it is still whole; training goes on" in caplog.text
    again = trainer(steps=3)
    again.resume()
    assert again.step == 3


def test_best_weights_are_those_of_the_last_validation_with_any_record(trainer, tmp_path, monkeypatch) -> None:
    training = trainer(steps=9)
    validations = iter(
        [
            {"l1": 1.0, "l1-inv": 1.0},
            {"l1": 2.0, "l1-inv": 0.5},  # one of them is a record
            {"l1": 1.0, "l1-inv": 0.5},  # as good is not better
        ]
    )
    monkeypatch.setattr(training, "validate", lambda network: next(validations))
    best = tmp_path / "run" / "pairnet_best.safetensors"
    steps = []
    for _ in range(3):
        training.train_step(next(training.clips(training.step)))
        training.export()
        steps.append(read_info(best).metadata["step"])
    assert steps == [1, 2, 2]
    assert read_info(tmp_path / "run" / "pairnet.safetensors").metadata["step"] == 3
    assert training.best == {"l1": 1.0, "l1-inv": 0.5}
    training.save()
    resumed = trainer(steps=9)
    resumed.resume()
    assert resumed.best == training.best


STEPS = 10  # float16 skips the first ones, until its scale fits


@pytest.mark.parametrize(("precision", "network"), [("bfloat16", "fusionnet"), ("float16", "pairnet")])
def test_short_arithmetic_learns_too(make_trainer, wall_clips, precision, network) -> None:
    how = {"network": network, "steps": STEPS, "learning_rate": 5e-3, "warm_up_steps": 2}
    short, batch = make_trainer(**how, precision=precision), wall_clips(0)
    losses = [short.train_step(batch) for _ in range(STEPS)]
    exact = make_trainer(**how).train_step(batch)
    assert losses[0] == pytest.approx(exact, rel=0.02)
    assert losses[0] != exact
    assert losses[-1] < 0.95 * losses[0]


def test_scale_of_float16_is_part_of_the_checkpoint(make_trainer) -> None:
    trainer, again = (make_trainer(steps=2, precision="float16") for _ in range(2))
    trainer._arithmetic.scaler.load_state_dict({**trainer._arithmetic.scaler.state_dict(), "scale": 128.0})
    trainer.save()
    again.resume()
    assert again._arithmetic.scaler.get_scale() == 128.0


def test_only_float16_scales_its_loss() -> None:
    device = torch.device("cpu")
    enabled = {name: Arithmetic(name, device).scaler.is_enabled() for name in ("float16", "bfloat16", "float32")}
    assert enabled == {"float16": True, "bfloat16": False, "float32": False}


def test_compiled_parts_compute_the_same_and_keep_their_names(tiny) -> None:
    torch.manual_seed(0)
    network = build_network(tiny).eval()
    compiled = copy.deepcopy(network)
    used = []

    def backend(graph, _inputs):
        used.append(graph)
        return graph.forward

    compile_parts(compiled, backend)
    assert list(compiled.state_dict()) == list(network.state_dict())
    image = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        for ours, theirs in zip(compiled.extract(image), network.extract(image), strict=True):
            torch.testing.assert_close(ours, theirs)
    assert used
