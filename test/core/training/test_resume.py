# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""A run that is killed goes on to the same losses; one with a deadline ends before it, with its weights written."""

from __future__ import annotations

import functools
import json
import signal
import subprocess
import sys
import time

import pytest
import torch

from dvmvs_core.cli.main import main
from dvmvs_core.errors import WeightsError
from dvmvs_core.model.checkpoint import load_network, read_info
from dvmvs_core.model.checkpoint_parts import join_parts, write_parts
from dvmvs_core.model.dvmvs import build_network
from dvmvs_core.synthetic.clips import SyntheticClips
from dvmvs_core.training import clip_sources as data
from dvmvs_core.training import stopping as module
from dvmvs_core.training.stopping import FIRST_RESERVE_S, Deadline, process_age_s

STEPS = 6
# The same run in another process, for this one to kill.
PROGRAM = """
import os, signal, sys
from dvmvs_core.cli.main import main
from dvmvs_core.synthetic.clips import SyntheticClips
from dvmvs_core.training import clip_sources

class LastClips(SyntheticClips):
    def __init__(self, *size, **options):
        super().__init__(*size, **options, textures=8)

    def batch(self, batch_size, index):
        if index == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().batch(batch_size, index)

clip_sources.SyntheticClips = LastClips
sys.exit(main(sys.argv[1:]))
"""
ARGUMENTS = (
    *("train", "pairnet", "--steps", str(STEPS), "--log-steps", "1", "--save-minutes", "0", "--threads", "1"),
    *("--height", "32", "--width", "32", "--frames", "2", "--batch-size", "1", "--held-out-batches", "1"),
    *("--workers", "0"),
)


def entries(folder):
    log = folder / "log.jsonl"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def losses(folder):
    return {entry["step"]: entry["loss"] for entry in entries(folder) if "loss" in entry}


@pytest.mark.slow
def test_killed_run_goes_on_to_the_same_losses(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(data, "SyntheticClips", functools.partial(SyntheticClips, textures=8))
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, *ARGUMENTS, "--out", str(killed)])
    deadline = time.monotonic() + 240
    while len(entries(killed)) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 2 < len(losses(killed)) < STEPS, "it was to be killed half-way"

    assert main([*ARGUMENTS, "--out", str(killed), "--resume"]) == 0
    assert main([*ARGUMENTS, "--out", str(whole)]) == 0
    assert losses(killed) == losses(whole)
    assert list(losses(killed)) == list(range(1, STEPS + 1))
    assert entries(killed)[-1]["validation"] == entries(whole)[-1]["validation"]


@pytest.fixture
def age(monkeypatch):
    """List with the age of the process, to be set."""
    now = [0.0]
    monkeypatch.setattr(module, "process_age_s", lambda: now[0])
    return now


def test_the_age_of_a_process_grows_and_counts_its_start():
    before = process_age_s()
    time.sleep(0.05)
    assert 0.03 <= process_age_s() - before <= 60 and before > 0.0


def test_time_for_an_export_is_kept(age):
    deadline = Deadline(100.0)
    assert deadline.left_s() == 100.0 - FIRST_RESERVE_S
    age[0] = 30.0
    deadline.note_export(4.0)
    deadline.note_export(2.0)
    assert deadline.left_s() == pytest.approx(100.0 - 30.0 - 1.5 * 4.0)
    age[0] = 99.0
    assert deadline.left_s() == 0.0


@pytest.mark.parametrize("start_s", [40.0, 79.0, 500.0])
def test_a_run_ends_in_time_with_its_weights(age, make_trainer, wall_stream, tmp_path, start_s):
    """Each step takes 10 s here, and starting took a while."""
    age[0] = start_s
    steps = []

    def clips(step):
        for batch in wall_stream(step):
            age[0] += 10.0
            steps.append(age[0])
            yield batch

    trainer = make_trainer(clips, folder=tmp_path, deadline_s=100.0, log_steps=1, part_mib=1)
    assert trainer.run() and trainer.progress == 1.0
    assert steps == {40.0: [50.0, 60.0, 70.0, 80.0], 79.0: [89.0], 500.0: []}[start_s]
    assert read_info(tmp_path / "pairnet.safetensors").metadata["finished"]
    assert (tmp_path / "pairnet.safetensors.part1of1").exists()


def test_progress_goes_from_0_to_1_so_that_the_learning_rate_falls(age, make_trainer):
    trainer = make_trainer(deadline_s=100.0)
    assert trainer.progress == 0.0
    trainer.elapsed_s, trainer._left_s = 30.0, 10.0
    assert trainer.progress == 0.75


@pytest.mark.parametrize(("steps", "age_s", "reached"), [(2, 0.0, 2), (1000, 90.0, 0)], ids=("before", "at"))
def test_steps_end_before_their_deadline_or_at_it(age, make_trainer, steps, age_s, reached):
    trainer = make_trainer(steps=steps, deadline_s=100.0)
    age[0] = age_s
    assert trainer.run() and trainer.step == reached


@pytest.fixture
def weights(tiny, tmp_path):
    from dvmvs_core.model.checkpoint import save_checkpoint

    torch.manual_seed(0)
    path = tmp_path / "one.safetensors"
    save_checkpoint(path, {"pairnet": build_network(tiny)}, {})
    return path


def test_parts_are_small_and_load_as_the_whole(weights):
    expected, size = load_network(weights)[0].state_dict(), weights.stat().st_size
    write_parts(weights, size // 5)
    parts = write_parts(weights, size // 2 + 1)
    assert len(list(weights.parent.glob("*.part*"))) == len(parts) == 2
    assert max(part.stat().st_size for part in parts) <= size // 2 + 1
    weights.unlink()
    for name, value in load_network(weights)[0].state_dict().items():
        assert torch.equal(value, expected[name])


def test_missing_or_mixed_parts_are_one_clear_line(weights):
    parts = write_parts(weights, weights.stat().st_size // 3 + 1)
    weights.unlink()
    kept = parts[1].read_bytes()
    parts[1].unlink()
    with pytest.raises(WeightsError, match="part 2 missing"):
        load_network(weights)
    weights.with_name(f"{weights.name}.part2of2").write_bytes(kept)
    with pytest.raises(WeightsError, match="mixed"):
        join_parts(weights)
    assert not join_parts(weights.with_name("other.safetensors"))
