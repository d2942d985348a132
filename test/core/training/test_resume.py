# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""A run that is killed goes on to the same losses, to the last bit."""

from __future__ import annotations

import functools
import json
import signal
import subprocess
import sys
import time

from dvmvs_core.cli.main import main
from dvmvs_core.synthetic.clips import SyntheticClips
from dvmvs_core.training import clip_sources as data

STEPS = 10
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
