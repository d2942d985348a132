# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Commands on a machine whose GPU fails: depth all the same, and one line that says why."""

from __future__ import annotations

import json

import numpy as np
import pytest

from dvmvs_core.timing import compare

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
def test_predict(dvmvs, weights, run, make_scene, tmp_path, way):
    scene = make_scene(frames=14)
    common = ("--weights", weights, "--matching", "off", "--pictures", 0)
    assert dvmvs("predict", scene, "--out", tmp_path / "expected", "--device", "cpu", *common)[0] == 0
    run(way, "predict", scene, "--out", tmp_path / "found", "--pictures", 0)
    expected, found = (np.load(tmp_path / name / "predictions.npz") for name in ("expected", "found"))
    assert found["depth"] == pytest.approx(expected["depth"], rel=1e-3)
    assert found["confidence"] == pytest.approx(expected["confidence"], abs=0.02)


def slow_but(shown):
    return [pytest.param(way, marks=[] if way == shown else pytest.mark.slow) for way in WAYS]


@pytest.mark.parametrize("way", slow_but("memory later"))
def test_evaluate(run, make_scene, tmp_path, way):
    run(way, "evaluate", make_scene(frames=14), "--json", tmp_path / "figures.json")
    assert json.loads((tmp_path / "figures.json").read_text())["device"] == "cpu"


@pytest.mark.parametrize("way", slow_but("wrong numbers"))
def test_benchmark(run, tmp_path, way):
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
