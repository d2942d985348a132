# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

from __future__ import annotations

import json

import numpy as np
import pytest

import dvmvs_core.evaluation.scoring.figures as figures_module
from dvmvs_core.data.open_sequence import open_sequence
from dvmvs_core.errors import DataError
from dvmvs_core.evaluation.prediction.predict_sequence import predict_online, write_predictions
from dvmvs_core.evaluation.scoring.boundaries import DepthSteps
from dvmvs_core.evaluation.scoring.figures import RunResult, read_figures, summary, write_figures
from dvmvs_core.evaluation.scoring.metrics import NAMES
from dvmvs_core.evaluation.scoring.score import score_predictions
from dvmvs_core.evaluation.scoring.sure_and_wrong import SureAndWrong


@pytest.fixture
def results(make_scene, engine, tmp_path) -> list[RunResult]:
    """A short sequence of 1 keyframe and a long one of 5."""
    found = []
    for name, frames in (("short", 3), ("long", 12)):
        sequence = open_sequence(make_scene(name, frames=frames))
        write_predictions(predict_online(engine, sequence), tmp_path / "out" / name)
        score = score_predictions(tmp_path / "out" / name / "predictions.npz", sequence)
        found.append(RunResult(score, sequence.path, [("keyframe", frames)]))
    return found


def test_the_overall_mean_is_over_keyframes_not_over_sequences(results):
    figures = summary(results, weights="small", preset="small", device="cpu")
    counts = [part["keyframes"] for part in figures["sequences"]]
    assert (counts, figures["all"]["keyframes"]) == ([1, 5], 6)
    for name in NAMES:
        means = [part["metrics"][name] for part in figures["sequences"]]
        assert figures["all"]["metrics"][name] == pytest.approx(np.average(means, weights=counts))
        assert figures["sequences"][1]["metrics"][name] == pytest.approx(
            np.mean(figures["sequences"][1]["per_keyframe"][name])
        )
    assert (figures["weights"], figures["preset"], figures["device"]) == ("small", "small", "cpu")
    assert figures["latency_ms"]["median"] == pytest.approx(np.median([12.0, 12, 14, 16, 18, 20]))
    json.dumps(figures, allow_nan=False)


def test_bins_of_all_sequences_add_up_and_each_sequence_keeps_its_own(results):
    figures = summary(results)
    for kind in ("by_distance", "by_parallax"):
        whole = sum(part["pixels"] for part in figures["all"][kind])
        assert whole == sum(part["pixels"] for sequence in figures["sequences"] for part in sequence[kind]) > 0


def test_the_constant_is_always_there_and_the_plane_sweep_where_it_ran(results):
    assert set(summary(results)["all"]["baselines"]) == {"constant_median"}
    results[0].sweep = results[0].score
    figures = summary(results)
    assert set(figures["sequences"][0]["baselines"]) == {"constant_median", "plane_sweep"}
    assert set(figures["sequences"][1]["baselines"]) == {"constant_median"}
    assert figures["sequences"][0]["baselines"]["plane_sweep"]["metrics"] == figures["sequences"][0]["metrics"]
    constant = [m.abs_error for result in results for m in result.score.constant]
    assert figures["all"]["baselines"]["constant_median"]["metrics"]["abs_error"] == pytest.approx(np.mean(constant))


def test_the_ratio_to_the_constant_is_that_of_the_means(results):
    figures = summary(results)
    for part in (*figures["sequences"], figures["all"]):
        constant = part["baselines"]["constant_median"]["metrics"]["abs_relative_error"]
        assert part["ratio_to_constant"] == pytest.approx(part["metrics"]["abs_relative_error"] / constant)
    table = figures["sequences"][1]["per_keyframe"]
    ratios = np.divide(table["abs_relative_error"], table["constant_median"])
    assert table["ratio_to_constant"] == pytest.approx(ratios.tolist())


def test_steps_and_sure_pixels_are_counted_over_all_pixels_and_boundaries_averaged_over_keyframes(results):
    short, long = (result.score for result in results)
    short.steps, long.steps = [DepthSteps(1, 1.0, 0.5, 10, 5)], [DepthSteps(9, 9.0, 0.5, 30, 0)] + [DepthSteps()] * 4
    short.sure, long.sure = [SureAndWrong(10, 10, 1)], [SureAndWrong(90, 10, 9)] + [SureAndWrong()] * 4
    short.boundary_f1, long.boundary_f1 = [0.5], [0.1, 0.3, float("nan"), float("nan"), float("nan")]
    figures = summary(results)
    whole = figures["all"]
    assert (whole["steps"]["pairs"], whole["steps"]["size_ratio"], whole["steps"]["shown"]) == (10, 0.1, 0.125)
    assert whole["sure_and_wrong"] == {"pixels": 100, "coverage": 0.2, "wrong": 0.5}
    assert whole["boundary_f1"] == pytest.approx(0.3)
    assert figures["sequences"][1]["boundary_f1"] == pytest.approx(0.2)
    table = figures["sequences"][1]["per_keyframe"]
    assert table["boundary_f1"] == [0.1, 0.3, None, None, None]
    assert table["steps_shown"] == [0.0, None, None, None, None]
    assert table["sure_and_wrong"] == [0.9, None, None, None, None]
    json.dumps(figures, allow_nan=False)


def test_every_key_of_a_part_is_explained(results):
    figures = summary(results)
    part = figures["sequences"][0]
    kept_for_pages = {"name", "path", "latencies_ms", "timeline", "faults", "dropped"}
    for key in (part.keys() - kept_for_pages) | (part["per_keyframe"].keys() - set(NAMES)):
        assert key in figures_module.__doc__, key


def test_figures_come_back_from_the_file_and_from_its_folder(results, tmp_path):
    figures = summary(results, weights="small")
    write_figures(tmp_path / "report" / "figures.json", figures)
    assert read_figures(tmp_path / "report") == read_figures(tmp_path / "report" / "figures.json") == figures


@pytest.mark.parametrize(
    ("text", "said"),
    (
        (None, "must be the folder of an earlier --report or the file of an earlier --json"),
        ("{", "must be the folder of an earlier"),
        ("[1]", "some other JSON"),
        ('{"sequences": [{"name": "a"}], "all": {}, "weights": "w", "latency_ms": {}}', "an older dvmvs evaluate"),
    ),
)
def test_what_holds_no_figures_is_one_clear_error(tmp_path, text, said):
    path = tmp_path / "run.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(DataError, match=said):
        read_figures(path)
