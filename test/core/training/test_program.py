# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Runs of several parts: everything from nothing, and two real processes that train as one with the doubled batch."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import pytest
import torch

from dvmvs_core.errors import ConfigError, DeviceError
from dvmvs_core.model.checkpoint import read_info
from dvmvs_core.synthetic.clips import ClipBatch, SyntheticClips
from dvmvs_core.training import clip_sources as data
from dvmvs_core.training.processes import SharedBatchNorm2d, share_batch_norm, single_process, training_processes
from dvmvs_core.training.program import PROGRAM, train_everything
from dvmvs_core.training.run_folder import CHECKPOINT_NAME, LOG_NAME
from dvmvs_core.training.training_run import RunPlan, build_trainer

WORLDS = 48
STEPS = 160


class FewWorlds(SyntheticClips):
    """The first worlds of the endless ones, rendered once and seen again and again, with few textures."""

    drawn: ClassVar[list[tuple[int, int]]] = []
    """Seed and number of every clip."""

    def __init__(self, *size, **options) -> None:
        super().__init__(*size, **options, textures=32)
        self._made: dict[int, ClipBatch] = {}

    def _draw(self, number):
        self.drawn.append((self.seed, number))
        return super()._draw(number)

    def batch(self, batch_size: int, index: int) -> ClipBatch:
        numbers = [number % WORLDS for number in range(index * batch_size, (index + 1) * batch_size)]
        for number in numbers:
            if number not in self._made:
                self._made[number] = super().batch(1, number)
        return ClipBatch(*map(torch.cat, zip(*(self._made[number] for number in numbers), strict=True)))


@pytest.fixture
def plan(tmp_path, monkeypatch) -> RunPlan:
    monkeypatch.setattr(data, "SyntheticClips", FewWorlds)
    loop = {"steps": STEPS, "learning_rate": 2e-3, "warm_up_steps": 10, "average_decay": 0.95}
    return RunPlan("pairnet", tmp_path, height=64, width=64, workers=0, held_out_batches=3, loop=loop)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_everything_from_nothing_takes_two_fifths_off_the_error_on_worlds_never_seen(plan, tmp_path) -> None:
    """What can be learned in two minutes: not yet more than a good guess."""
    last = PROGRAM[-1]
    same = dataclasses.replace(plan, network=last.network, batch_size=last.batch_size, frames=last.frames)
    untrained = build_trainer(same, single_process())
    before = untrained.validate(untrained.averaged_network())

    weights = train_everything(plan, single_process())

    info = read_info(weights)
    assert weights == tmp_path / "small.safetensors"
    assert list(info.networks) == ["fusionnet", "pairnet"]
    after = info.metadata["parts"][-1]["validation"]
    assert after["l1-inv"] < 0.6 * before["l1-inv"]
    assert after["l1-rel"] < before["l1-rel"]

    # What is finished is not done again.
    logs = [(tmp_path / part.name / "log.jsonl").read_bytes() for part in PROGRAM]
    steps = [json.loads(log.splitlines()[-1])["step"] for log in logs]
    assert steps == [round(part.share * STEPS) for part in PROGRAM]
    weights.unlink()
    assert train_everything(plan, single_process()) == weights
    assert [(tmp_path / part.name / "log.jsonl").read_bytes() for part in PROGRAM] == logs
    assert read_info(weights).metadata == info.metadata


@pytest.mark.slow
def test_held_out_worlds_are_drawn_once_for_all_parts(plan) -> None:
    FewWorlds.drawn.clear()
    train_everything(dataclasses.replace(plan, held_out_batches=1, loop={"steps": len(PROGRAM)}), single_process())
    numbers = [number for seed, number in FewWorlds.drawn if seed == data.HELD_OUT_SEED]
    assert sorted(numbers) == list(range(2 * max(part.batch_size for part in PROGRAM)))


def test_shares_make_a_whole_program() -> None:
    assert sum(part.share for part in PROGRAM) == pytest.approx(1.0)


def test_program_without_an_end_is_refused(tmp_path) -> None:
    with pytest.raises(ConfigError, match="either minutes or steps"):
        train_everything(RunPlan("pairnet", tmp_path), single_process())


SCRIPT = Path(__file__).with_name("two_processes.py")


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("two_processes", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def inputs(tiny, wall_clips):
    """Four clips, one with half of its depth missing and one with none: the halves have unequal shares of pixels."""
    batch = wall_clips(0, batch=4)
    batch.depth[0, :, :32] = 0.0
    batch.depth[1] = 0.0
    return {"batch": tuple(batch), "model": dataclasses.asdict(tiny.replace(network="fusionnet"))}


@pytest.mark.slow
def test_two_processes_have_the_gradient_of_the_doubled_batch(script, inputs, tmp_path) -> None:
    torch.save(inputs, tmp_path / "inputs.pt")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(SCRIPT)]
    done = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True, timeout=580)
    assert done.returncode == 0, done.stderr[-3000:]

    alone = script.trainer_of(inputs, None, tmp_path / "alone")
    loss = alone.train_step(next(alone.clips(0)))
    first = [torch.load(tmp_path / f"first{rank}.pt", weights_only=True) for rank in range(2)]
    assert first[0]["loss"] == pytest.approx(loss, rel=1e-5)
    expected = script.gradients(alone)
    assert list(first[0]["gradients"]) == list(expected)
    for name, gradient in expected.items():
        atol = 1e-3 * float(gradient.abs().max()) + 1e-6
        torch.testing.assert_close(first[0]["gradients"][name], gradient, rtol=0.0, atol=atol, msg=name)
    for name, value in script.batch_norm_gradients(script.images_of(inputs), None).items():
        torch.testing.assert_close(first[0]["batch_norm"][name], value, rtol=1e-4, atol=1e-6, msg=name)

    # Only the first wrote, though it was the second that was interrupted, and both are one network at every stage.
    assert {CHECKPOINT_NAME, LOG_NAME, "fusionnet.safetensors"} <= {p.name for p in (tmp_path / "run0").iterdir()}
    assert not any((tmp_path / "run1").iterdir())
    states = [torch.load(tmp_path / f"last{rank}.pt", weights_only=True) for rank in range(2)]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_shared_batch_norm_keeps_weights_and_names(tiny) -> None:
    from dvmvs_core.model.dvmvs import build_network

    network = build_network(tiny)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    share_batch_norm(network)
    after = network.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], value) for name, value in before.items())
    layers = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert layers
    assert all(type(layer) is SharedBatchNorm2d for layer in layers)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
@pytest.mark.parametrize("world_size", ["1", "2"])
def test_no_gpu_where_one_is_asked_for(monkeypatch, world_size) -> None:
    monkeypatch.setenv("WORLD_SIZE", world_size)
    with pytest.raises(DeviceError, match="has 0 CUDA devices"), training_processes("cuda"):
        pass
