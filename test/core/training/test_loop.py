"""The loop as a whole: it learns, goes on where it stopped, and stops when it is told to."""

from __future__ import annotations

import json
import os
import signal

import pytest
import torch

from dvmvs_core.errors import ConfigError, DataError
from dvmvs_core.model.checkpoint import load_network
from dvmvs_core.model.dvmvs import build_network
from dvmvs_core.training.loop import CHECKPOINT_NAME, LOG_NAME, LoopConfig, Trainer
from dvmvs_core.training.stages import Stage

STAGES = (Stage("decoder", 0.5, ("decoder",)), Stage("everything", 0.5, batch_norm=False))


@pytest.fixture
def trainer(tiny, wall_stream, held_out, tmp_path):
    """Makes trainers that differ only in what they are asked."""

    def make(clips=wall_stream, stages=STAGES, network="pairnet", folder=tmp_path / "run", **config) -> Trainer:
        torch.manual_seed(0)
        return Trainer(
            build_network(tiny.replace(network=network)), clips, held_out, stages, LoopConfig(**config), folder
        )

    return make


@pytest.mark.parametrize("network", ["pairnet", "fusionnet"])
def test_loss_falls_on_a_batch_seen_again_and_again(trainer, wall_clips, network) -> None:
    batch = wall_clips(0)
    everything = (Stage("everything", 1.0),)
    training = trainer(stages=everything, network=network, steps=40, learning_rate=5e-3, warm_up_steps=5)
    losses = [training.train_step(batch) for _ in range(40)]
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])


def test_resumed_run_ends_with_the_same_numbers(trainer, tmp_path) -> None:
    whole = trainer(steps=6, folder=tmp_path / "whole", warm_up_steps=2)
    assert whole.run()

    stopped = trainer(clips=lambda start: _first(4, whole._clips(start)), steps=6, warm_up_steps=2)
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
    assert {p.name for p in (tmp_path / "run").iterdir()} == {CHECKPOINT_NAME, LOG_NAME, "pairnet.safetensors"}


def test_log_tells_step_loss_and_validation(trainer, tmp_path) -> None:
    trainer(steps=4, log_steps=2).run()
    entries = [json.loads(line) for line in (tmp_path / "run" / LOG_NAME).read_text().splitlines()]
    assert [e["step"] for e in entries if "loss" in e] == [2, 4]
    assert set(entries[-1]["validation"]) == {"l1", "l1-inv", "l1-rel", "huber"}


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


@pytest.mark.parametrize("length", [{}, {"steps": 3, "minutes": 1.0}, {"steps": 0}, {"minutes": -1.0}])
def test_a_run_must_have_one_end(length) -> None:
    with pytest.raises(ConfigError):
        LoopConfig(**length)


def _first(count, batches):
    return (batch for batch, _ in zip(batches, range(count), strict=False))
