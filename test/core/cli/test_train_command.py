# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""`dvmvs train` from the command line to weights that the engine takes, and on from its checkpoint."""

from __future__ import annotations

import functools
import json

import pytest
import torch

from dvmvs_core.cli.main import main
from dvmvs_core.engine import DepthEngine
from dvmvs_core.model.checkpoint import read_info
from dvmvs_core.synthetic.clips import SyntheticClips
from dvmvs_core.training import clip_sources as data

SIZE = ("--height", "64", "--width", "64", "--frames", "2", "--batch-size", "1", "--held-out-batches", "1")
HERE = ("--workers", "0")


@pytest.fixture(autouse=True)
def quick_worlds(monkeypatch) -> None:
    """Renders from few textures without compiling."""
    monkeypatch.setattr(data, "SyntheticClips", functools.partial(SyntheticClips, textures=8))


def entries(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_train_pairnet_then_fusionnet_from_it_then_resume(tmp_path) -> None:
    pairs, fused = tmp_path / "pairs", tmp_path / "fused"
    assert main(["train", "pairnet", "--out", str(pairs), "--steps", "2", *SIZE, *HERE]) == 0
    start = ["train", "fusionnet", "--out", str(fused), "--init", str(pairs / "pairnet.safetensors"), *SIZE, *HERE]
    assert main([*start, "--steps", "1"]) == 0
    assert main([*start, "--steps", "2", "--resume"]) == 0

    assert [entry["step"] for entry in entries(fused) if "validation" in entry] == [1, 2]
    assert (fused / "pictures" / "00000002.png").stat().st_size > 10_000
    for network in ("fusionnet", "pairnet"):
        engine = DepthEngine.from_weights(fused / "fusionnet.safetensors", network)
        assert (engine.model_config.height, engine.model_config.network) == (64, network)
    # A finished run that is resumed does no further step.
    assert main([*start, "--steps", "2", "--resume"]) == 0
    assert [entry["step"] for entry in entries(fused)][-1] == 2


@pytest.mark.slow
def test_train_on_a_mix_of_worlds_and_recordings_with_corrupt_frames(tmp_path, capsys) -> None:
    recording = tmp_path / "recordings" / "scene"
    recording.parent.mkdir()
    made = ["synthesize", str(recording), "--npz", "--frames", "40", "--height", "48", "--width", "64"]
    assert main(made) == 0
    (recording.parent / "train.txt").write_text("scene\ngone\n")
    (recording.parent / "validation.txt").write_text("scene\n")
    for number in range(8, 18):
        (recording / f"{number:06d}.npz").write_bytes(b"PK")
    out = tmp_path / "run"
    mix = ("--data", "synthetic:0.2", f"{recording.parent}:0.8")
    options = ["train", "pairnet", "--out", str(out), "--steps", "10", "--log-steps", "10", *mix, *SIZE]
    assert main(options) == 0
    training = next(entry for entry in entries(out) if "loss" in entry)
    assert training["left_out"] >= 1
    errors = capsys.readouterr().err
    assert "left out 1: gone" in errors
    assert ".npz cannot be read as a training frame" in errors
    assert read_info(out / "pairnet.safetensors").metadata["data"] == ["synthetic:0.2", "recordings:0.8"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "either steps or minutes"),
        (("--steps", "2", "--data", "/no/such/folder"), "is no folder"),
        (("--steps", "2", "--frames", "1"), "at least 2 frames"),
        (("--steps", "2", "--batch-size", "-1"), "batch size must be 1 or more"),
        (("--steps", "2", "--log-steps", "0"), "must be 1 or more"),
        (("--steps", "2", "--workers", "-1"), "workers must be 0 or more"),
        (("--minutes", "1", "--schedule", "published"), "counted in steps"),
        (("--steps", "5", "--schedule", "published"), "more steps than that"),
        (("--steps", "2", "--schedule", "last-stage"), "is for fusionnet"),
        pytest.param(
            ("--steps", "2", "--device", "cuda"),
            "this machine has 0 CUDA devices",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU"),
        ),
    ],
)
def test_what_cannot_be_trained_is_refused_in_one_line(tmp_path, capsys, arguments, message) -> None:
    size = ("--height", "32", "--width", "32")
    assert main(["train", "pairnet", "--out", str(tmp_path / "run"), *size, *arguments]) == 1
    error = capsys.readouterr().err.strip().splitlines()
    beginning, refusal = error
    assert beginning.startswith("training into ")
    assert message in refusal


def test_published_schedule_trains_pairs(tmp_path) -> None:
    out = tmp_path / "run"
    published = ("--schedule", "published", "--steps", "3", "--epoch-steps", "1", "--batch-size", "2")
    size = ("--height", "64", "--width", "64", "--held-out-batches", "1", "--log-steps", "1", *HERE)
    assert main(["train", "pairnet", "--out", str(out), *published, *size]) == 0
    steps = [entry for entry in entries(out) if "loss" in entry]
    assert [entry["stage"] for entry in steps] == ["all but the extractor"] * 2 + ["everything"]
    assert {entry["learning_rate"] for entry in steps} == {1e-4}
    assert read_info(out / "pairnet.safetensors").metadata["mirror"] is True


def test_profile_writes_a_table_and_trains_nothing(tmp_path, capsys) -> None:
    table = tmp_path / "speed.md"
    out = tmp_path / "run"
    command = ["train", "pairnet", "--out", str(out), "--profile", str(table), "--steps", "2", *SIZE, *HERE]
    assert main(command) == 0
    text = table.read_text()
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert [row.split(" | ")[0] for row in rows[2:]] == [
        "| as a run, data live",
        "| as a run, data ready",
        "| plain, data ready",
    ]
    assert "forward ms" in rows[0]
    assert rows[-1].endswith("1.00 |")
    assert not out.exists()
    assert text in capsys.readouterr().out
