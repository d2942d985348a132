# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Recordings that are damaged in part, full disks, GPUs that fail: what the commands make of them."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from dvmvs_core.timing import compare

PARTS = ("images/00007.png", "depth/00010.png", "poses.txt, line 11")


@pytest.fixture
def damaged(make_scene):
    """A scene of 15 frames: one image, one depth image and one pose cannot be used, one depth image is missing."""
    scene = make_scene(frames=15)
    for part in PARTS[:2]:
        (scene / part).write_bytes((scene / part).read_bytes()[:80])
    (scene / "depth" / "00005.png").unlink()
    lines = (scene / "poses.txt").read_text().splitlines()
    lines[10] = " ".join(["nan"] * 16)
    (scene / "poses.txt").write_text("\n".join(lines))
    return scene


def files_in(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_evaluate_leaves_out_what_it_cannot_read_and_names_it_everywhere(evaluated, damaged, tmp_path):
    report = tmp_path / "report"
    figures, out = evaluated(damaged, "--report", report)
    assert "scene: 4 parts of it left out, the rest used" in out
    (part,) = figures["sequences"]
    assert part["dropped"] == {"cannot be read": 1}
    assert set(part["faults"]) == {*PARTS, "depth/00005.png"}
    assert ["unreadable", 1] in part["timeline"]
    page = (report / "index.html").read_text()
    for what in part["faults"]:
        assert what in out
        assert what in page
    keyframes = part["per_keyframe"]["frame_index"]
    assert 4 not in keyframes  # its image
    assert 10 not in keyframes  # its pose
    assert 7 not in keyframes  # its depth: predicted, but there is nothing to compare with
    assert part["keyframes"] == len(keyframes) >= 3


def test_predict_names_what_it_leaves_out_and_fewer_than_all_of_many(ran, damaged, weights, tmp_path):
    command = ("predict", damaged, "--weights", weights, "--out", tmp_path / "o")
    out = ran(*command)
    assert all(what in out for what in PARTS)
    for number in range(12, 16):
        (damaged / "depth" / f"{number:05d}.png").write_bytes(b"")
    out = ran(*command)
    assert "scene: 8 parts of it left out" in out
    assert "… and 3 more, as far as depth/00015.png" in out


def test_keyframes_say_which_poses_are_lost(ran, damaged, tmp_path):
    assert "poses.txt, line 11" in ran("keyframes", damaged, "--out", tmp_path / "index")
    assert "00013.png" not in (tmp_path / "index").read_text()


@pytest.mark.parametrize(
    ("name", "left", "said"),
    (
        ("images", "images/00003.png", "none of 4 images can be read"),
        ("depth", "depth/00003.png", "has sensor depth, but at none of the"),
    ),
)
def test_a_scene_without_anything_readable_is_an_error(refused, make_scene, weights, tmp_path, name, left, said):
    scene = make_scene(frames=4)
    for path in (scene / name).iterdir():
        path.write_bytes(b"")
    line = refused("evaluate", scene, "--weights", weights, "--json", tmp_path / "j")[-1]
    assert said in line and "ends early" in line
    assert not (tmp_path / "j").exists()


@pytest.mark.parametrize(
    "arguments",
    (
        ("predict", "--out", "place", "--pictures", 1),
        ("predict", "--published", "--out", "place"),
        ("evaluate", "--report", "place", "--json", "place/figures"),
        ("evaluate", "--out", "place"),
    ),
)
def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(
    refused, files_end_at, make_scene, weights, tmp_path, arguments
):
    scene = make_scene(frames=9)
    command, *rest = (str(tmp_path / one) if str(one).startswith("place") else one for one in arguments)
    with files_end_at(20_000):
        last = refused(command, scene, "--weights", weights, *rest)[-1]
    assert last.startswith(f"dvmvs {command}: /"), "it names the file"
    assert "unfinished" not in last
    assert "File too large. Free some space" in last
    assert not (tmp_path / "place").exists() or files_in(tmp_path / "place") == []


def test_a_full_disk_leaves_the_files_of_the_run_before(ran, refused, files_end_at, make_scene, weights, tmp_path):
    arguments = ("predict", make_scene(frames=9), "--weights", weights, "--out", tmp_path / "o")
    ran(*arguments)
    before = {name: (tmp_path / "o" / name).read_bytes() for name in files_in(tmp_path / "o")}
    with files_end_at(20_000):
        refused(*arguments)
    assert {name: (tmp_path / "o" / name).read_bytes() for name in files_in(tmp_path / "o")} == before


@pytest.mark.parametrize(("kind", "more"), (("scene", ("--baselines",)), ("bag", ())), ids=("scene", "bag"))
def test_the_same_command_gives_the_same_figures_but_for_times(evaluated, make_scene, make_bag, kind, more):
    recording, runs = {"scene": make_scene, "bag": make_bag}[kind](frames=9), []
    for _ in range(2):
        figures, _ = evaluated(recording, *more)
        assert figures.pop("latency_ms")["median"] > 0
        assert figures.pop("made")
        for part in figures["sequences"]:
            assert np.isfinite(part.pop("latencies_ms")).all()
            assert np.isfinite(part["per_keyframe"].pop("latency_ms")).all()
        runs.append(json.dumps(figures))
    assert runs[0] == runs[1] and "abs_relative_error" in runs[0]


@pytest.mark.parametrize(
    ("spoil", "said"),
    (
        (lambda scene: (scene / "K.txt").unlink(), "K.txt must be a text file of numbers"),
        (lambda scene: (scene / "poses.txt").unlink(), "poses.txt must be a text file of numbers"),
        (lambda scene: (scene / "stamps.txt").write_text("1\n2\n1.5\n4\n"), "line 3: stamps must increase"),
        (lambda scene: (scene / "images").rename(scene / "rgb"), "must hold the images as png or jpg"),
        (lambda scene: [(scene / name).unlink() for name in ("K.txt", "poses.txt")], "poses.txt must be|K.txt must be"),
    ),
)
def test_what_concerns_the_whole_scene_is_one_line_and_writes_nothing(
    refused, make_scene, weights, tmp_path, spoil, said
):
    scene = make_scene(frames=4)
    spoil(scene)
    for arguments in (
        ("predict", scene, "--out", tmp_path / "o", "--weights", weights),
        ("evaluate", scene, "--json", tmp_path / "j", "--report", tmp_path / "r", "--weights", weights),
        ("keyframes", scene, "--out", tmp_path / "k"),
        ("bag", scene, tmp_path / "b"),
    ):
        (line,) = refused(*arguments)
        assert re.search(said, line)
    assert [path.name for path in tmp_path.iterdir()] == ["scene"]


MEASURE = compare.Timing.measure
WAYS = ("no driver", "capture", "memory at start", "memory later", "wrong numbers")


@pytest.fixture
def run(dvmvs, weights, failing_gpu, monkeypatch):
    """Function of a way to fail and a command: its output, once it has said the one line, so many times."""
    assert set(WAYS) == set(failing_gpu.WARNINGS)

    def with_failing_gpu(way, *command, engines=1):
        failing_gpu.fail(way, monkeypatch.setattr)
        monkeypatch.setattr(failing_gpu, "CALLS_BEFORE", 12)
        code, out, err = dvmvs(*command, "--weights", weights, "--matching", "off")
        assert code == 0, err
        warnings = [line for line in err.splitlines() if "warning" in line]
        assert len(warnings) == engines, err
        assert all(line.startswith(f"dvmvs: warning: {failing_gpu.WARNINGS[way]}") for line in warnings)
        assert "Traceback" not in err
        return out

    return with_failing_gpu


@pytest.mark.parametrize("way", WAYS)
def test_predict_on_a_gpu_that_fails(dvmvs, weights, run, make_scene, tmp_path, way):
    scene = make_scene(frames=14)
    common = ("--precision", "float32", "--pictures", 0)
    on_cpu = ("--device", "cpu", "--weights", weights, "--matching", "off")
    assert dvmvs("predict", scene, "--out", tmp_path / "expected", *on_cpu, *common)[0] == 0
    run(way, "predict", scene, "--out", tmp_path / "found", *common)
    expected, found = (np.load(tmp_path / name / "predictions.npz") for name in ("expected", "found"))
    assert found["depth"] == pytest.approx(expected["depth"], rel=1e-3)
    assert found["confidence"] == pytest.approx(expected["confidence"], abs=0.02)


def slow_but(shown):
    return [pytest.param(way, marks=[] if way == shown else pytest.mark.slow) for way in WAYS]


@pytest.mark.parametrize("way", slow_but("memory later"))
def test_evaluate_on_a_gpu_that_fails(run, make_scene, tmp_path, way):
    run(way, "evaluate", make_scene(frames=14), "--json", tmp_path / "figures.json")
    assert json.loads((tmp_path / "figures.json").read_text())["device"] == "cpu"


@pytest.mark.parametrize("way", slow_but("wrong numbers"))
def test_benchmark_on_a_gpu_that_fails(run, tmp_path, way):
    """Two engines: one is measured, one tells the time of each stage."""
    engines = 2 + 2 * (way == "no driver")  # and the reference path twice
    run(way, "benchmark", "--keyframes", 2, "--json", tmp_path / "figures.json", engines=engines)
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["device"] == "cpu" and figures["mean_relative_difference"] < 1e-3
    assert figures["runs_as"].startswith("OpenVINO" if way == "no driver" else "plain network on CUDA")


def test_a_benchmark_whose_gpu_fails_while_it_is_measured_has_figures_of_what_ran_to_the_end(
    dvmvs, weights, failing_gpu, monkeypatch, tmp_path
):
    failing_gpu.fail("memory later", monkeypatch.setattr)
    monkeypatch.setattr(failing_gpu, "CALLS_BEFORE", 30)
    measured = []
    monkeypatch.setattr(compare.Timing, "measure", lambda *args: measured.append(args[1].runs_as) or MEASURE(*args))
    command = ("benchmark", "--keyframes", 8, "--matching", "off", "--reference", "no", "--weights", weights)
    code, _, err = dvmvs(*command, "--json", tmp_path / "figures.json")
    assert code == 0 and "too little free memory" in err
    assert measured[0] != measured[-1] and len(measured) == 16
    assert measured[-8:] == ["plain network on CUDA"] * 8
    assert json.loads((tmp_path / "figures.json").read_text())["runs_as"] == "plain network on CUDA"


def test_a_gpu_that_was_asked_for_and_is_not_there_is_one_line(refused, weights, failing_gpu, monkeypatch, make_scene):
    failing_gpu.fail("no driver", monkeypatch.setattr)
    scene = make_scene(frames=7)
    for command in (("predict", scene, "--out", scene / "out"), ("evaluate", scene)):
        assert "nvidia-smi, or choose device cpu" in refused(*command, "--weights", weights, "--device", "cuda")[-1]
