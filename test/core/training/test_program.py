# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Everything from nothing, small and short: the slowest test of all. It learns what it can in two minutes, which is
half the error of an untrained network and not yet more than a good guess."""

from __future__ import annotations

import dataclasses
import json
from typing import ClassVar

import pytest
import torch

from dvmvs_core.errors import ConfigError
from dvmvs_core.model.checkpoint import read_info
from dvmvs_core.synthetic.clips import ClipBatch, SyntheticClips
from dvmvs_core.training import clip_sources as data
from dvmvs_core.training.processes import single_process
from dvmvs_core.training.program import PROGRAM, train_everything
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
