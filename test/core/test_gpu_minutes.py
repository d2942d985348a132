# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The script for a lent GPU runs from end to end, on the CPU with tiny sizes, and keeps what it can of what fails."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from dvmvs_core.model.regulariser import load_regulariser, regulariser_metadata
from dvmvs_core.training.regulariser.clip_files import read_clip

ROOT = Path(__file__).resolve().parents[2]
MIB = 2**20


def gpu_minutes(out, *arguments, python=sys.executable, **environment):
    return subprocess.run(
        ["bash", str(ROOT / "scripts" / "gpu_minutes.sh"), *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHON": str(python), "OUT": str(out), **environment},
    )


@pytest.fixture
def make_python(tmp_path):
    """Make a Python that runs lines of a shell instead; without any it does nothing, and says that all went well."""

    def make(*lines, name="python"):
        python = tmp_path / name
        python.write_text("\n".join(("#!/bin/bash", *lines, "")))
        python.chmod(0o755)
        return python

    return make


def fates(out, mode) -> dict[str, str]:
    """What became of each step."""
    lines = re.findall(r"^== ([^:]+): (exit \d+|not begun)", (out / f"{mode}.log").read_text(), re.MULTILINE)
    return dict(lines)


def distributions(named: set[str]) -> set[str]:
    """Distributions, and all that they need here."""
    found, left = set(), {canonicalize_name(name) for name in named}
    while left:
        name = left.pop()
        found.add(name)
        try:
            needed = map(Requirement, metadata.requires(name) or ())
        except metadata.PackageNotFoundError:  # Triton's place is on a machine with a GPU
            continue
        left |= {canonicalize_name(one.name) for one in needed if one.marker is None or one.marker.evaluate()} - found
    return found


@pytest.mark.slow
def test_a_bare_machine_has_all_that_is_imported():
    """What the script says that a machine must have, and the wheels that it brings along, are enough to train."""
    script, makefile = (ROOT / "scripts" / "gpu_minutes.sh").read_text(), (ROOT / "Makefile").read_text()
    said = re.search(r"needs python3 with ([\w, #\n]+) and (\w+);", script)
    there = re.findall(r"\w+", " ".join(said.groups()).replace("OpenCV", "opencv_python"))
    brought = re.search(r"-d \.gpu/wheels \\\n([^@]+)", makefile)[1].replace("\\", "").split()
    assert {"torch", "safetensors"} <= set(there) and {"kornia", "tyro"} <= set(brought)
    allowed = distributions({*there, *brought})
    refused = [
        name
        for name, owners in metadata.packages_distributions().items()
        if not allowed & {canonicalize_name(owner) for owner in owners} and name != "dvmvs_core"
    ]
    assert "openvino" in refused or "rosbags" in refused
    code = f"""
import importlib, pkgutil, sys
for name in {refused!r}:
    sys.modules.setdefault(name, None)  # whose import then fails
for package in ("training", "synthetic", "timing", "matching", "model"):
    path = importlib.import_module("dvmvs_core." + package).__path__
    for module in pkgutil.walk_packages(path, f"dvmvs_core.{{package}}."):
        if not module.name.endswith("triton_kernels"):  # Triton may be missing here
            importlib.import_module(module.name)
for name in ("benchmark", "train"):
    importlib.import_module(f"dvmvs_core.cli.{{name}}_command")
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stderr


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_measure(tmp_path):
    result = gpu_minutes(tmp_path, "measure", "--device", "cpu", "--tiny", "--seconds", 1400)
    assert result.returncode == 0, result.stderr
    log = (tmp_path / "measure.log").read_text()
    found = fates(tmp_path, "measure")
    assert len(found) == 9 and set(found.values()) == {"exit 0"}, log
    assert list(found)[1] == "training"  # which no GPU has shown yet
    assert "torch" in log and re.search(r"\d+ passed", log)
    for name in ("paper-float32", "small-float32", "paper-bfloat16", "small-bfloat16", "small-full"):
        assert json.loads((tmp_path / f"{name}.json").read_text())["frame_ms"]["median"] > 0
    rates = json.loads((tmp_path / "rates.json").read_text())
    assert len(rates) == 5 and all(value > 0 for figures in rates.values() for value in figures.values()), rates
    assert any("aten::" in name for name in rates["operations_us"])
    training = json.loads((tmp_path / "training.json").read_text())
    for size in ("96x64x1", "128x64x1"):
        assert training[f"{size}: frames a second"] > 0 and training[f"{size}: phases, ms"]["backward"] > 0
        assert any("aten::" in name for name in training[f"{size}: operations, ms"])
    files = [file for file in tmp_path.iterdir() if file.is_file()]
    assert len(files) <= 8 and sum(file.stat().st_size for file in files) < 64 * MIB


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_train_leaves_weights_to_go_on_from(tmp_path):
    first = gpu_minutes(tmp_path / "1", "train", "--device", "cpu", "--tiny", "--seconds", 800)
    assert fates(tmp_path / "1", "train")["train"] == "exit 0", (tmp_path / "1" / "train.log").read_text()
    assert first.returncode == 0, first.stderr
    assert (tmp_path / "1" / "log.jsonl").read_text().count("held_out") == 1
    weights = tmp_path / "1" / "regulariser.safetensors"
    load_regulariser(weights)
    assert {file.name for file in weights.parent.iterdir()} == {
        "train.log",
        "log.jsonl",
        "regulariser.safetensors",
        "clips-1.tar",
    }
    with tarfile.open(tmp_path / "1" / "clips-1.tar") as archive:
        archive.extractall(tmp_path, filter="data")
    clips = sorted((tmp_path / "clips").iterdir())
    assert len(clips) == 2 and read_clip(clips[0]).truth.shape[-2:] == (64, 96)
    gpu_minutes(tmp_path / "2", "train", "--device", "cpu", "--tiny", "--seconds", 800, "--init", weights)
    assert fates(tmp_path / "2", "train")["train"] == "exit 0", (tmp_path / "2" / "train.log").read_text()
    commands = regulariser_metadata(tmp_path / "2" / "regulariser.safetensors")["commands"]
    assert len(commands) == 2 and "--init regulariser.safetensors" in commands[1]


def test_as_many_clips_come_back_as_two_archives_hold(tmp_path, make_python):
    """A Python that records clips of several sizes, and ends."""
    sizes = (4 * MIB, 12 * MIB, 9 * MIB, 5 * MIB, 20 * MIB)
    lines = [f'truncate -s {size} "$run/clips/{number:05d}.npz"' for number, size in enumerate(sizes)]
    found = 'while (($#)); do [[ $1 == --out ]] && run=$2; shift; done; [[ -n $run ]] || exit 0; mkdir -p "$run/clips"'
    out = tmp_path / "out"
    result = gpu_minutes(out, "train", "--seconds", 60, python=make_python(found, *lines))
    names = []
    for path in (out / "clips-1.tar", out / "clips-2.tar"):
        assert path.stat().st_size <= 15 * MIB
        with tarfile.open(path) as archive:
            names.append(archive.getnames())
    assert names == [["clips/00000.npz", "clips/00003.npz"], ["clips/00002.npz"]]
    assert "clips: 5 recorded, 3 kept" in result.stdout


def test_a_step_that_fails_or_hangs_keeps_no_other_from_running(tmp_path, make_python):
    """A Python that fails each time, or waits for ever."""
    for name, body, fate, seconds in (("fails", "exit 3", "exit 3", 100), ("hangs", "exec sleep 100", "exit 124", 5)):
        python = make_python("[[ $1 == -c ]] && exit 0", 'echo "this is what it said"', body, name=name)
        out = tmp_path / f"{name}_out"
        result = gpu_minutes(out, "measure", "--seconds", seconds, python=python)
        assert result.returncode == 0, result.stderr
        found = fates(out, "measure")
        assert found["versions"] == fate and len(found) >= 8
        assert "this is what it said" in (out / "measure.log").read_text()
        if name == "hangs":
            assert set(found.values()) <= {"exit 124", "not begun"} and "not begun" in found.values()


def test_steps_can_be_chosen(tmp_path, make_python):
    gpu_minutes(tmp_path, "measure", "--only", "rates,paper", "--seconds", 0, python=make_python())
    assert [name for name in fates(tmp_path, "measure") if name != "nvidia-smi"] == [
        "versions",
        "rates",
        "benchmark paper-float16",
    ]


def test_what_is_too_large_is_left_out_and_said(tmp_path, make_python):
    out = tmp_path / "out"
    out.mkdir()
    (out / "large.bin").write_bytes(bytes(17 * MIB))
    gpu_minutes(out, "measure", "--seconds", 0, python=make_python())
    assert not (out / "large.bin").exists() and "too large" in (out / "measure.log").read_text()
    assert set(fates(out, "measure").values()) == {"not begun"}


@pytest.mark.parametrize(
    "arguments", [(), ("both",), ("measure", "--fast"), ("train", "--seconds"), ("measure", "--only", "all")]
)
def test_a_wrong_call_says_how_it_is_called(tmp_path, arguments):
    result = gpu_minutes(tmp_path, *arguments)
    assert result.returncode == 2 and "gpu_minutes.sh measure" in result.stdout
