# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Runs over sequences and index files, and the figures of all of them."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

import dvmvs_core.evaluation.scoring.figures as figures_module
from dvmvs_core.config import EngineConfig, KeyframeConfig, preset
from dvmvs_core.data.open_sequence import open_sequence
from dvmvs_core.errors import ConfigError, DataError
from dvmvs_core.evaluation.prediction.predict_sequence import write_predictions
from dvmvs_core.evaluation.scoring.boundaries import DepthSteps
from dvmvs_core.evaluation.scoring.confidence_scores import SureAndWrong
from dvmvs_core.evaluation.scoring.evaluation_runs import plan_runs
from dvmvs_core.evaluation.scoring.figures import RunResult, read_figures, summary, write_figures
from dvmvs_core.evaluation.scoring.metrics import NAMES
from dvmvs_core.evaluation.scoring.score import score_predictions

INDEX = "00005.png 00003.png\nTRACKING LOST\n00007.png 00005.png 00003.png\n00008.png 00005.png\n"


@pytest.fixture
def index(tmp_path):
    def write(name: str):
        (tmp_path / name).write_text(INDEX)
        return tmp_path / name

    return write


def test_each_sequence_is_a_run_and_equal_names_get_their_folder_in_front(make_scene):
    sequences = [open_sequence(make_scene(name)) for name in ("a/000", "b/000", "b/001")]
    runs = plan_runs(sequences)
    assert [(run.name, run.dataset) for run in runs] == [("a_000", "a"), ("b_000", "b"), ("001", "b")]
    with pytest.raises(ConfigError, match="two sequences go by the name a_000"):
        plan_runs([sequences[0], sequences[0]])


def test_each_index_file_is_a_run(make_scene, index):
    sequences = [open_sequence(make_scene("000"))]
    files = tuple(index(f"{rule}+set+000+nmeas+2") for rule in ("keyframe", "simple10"))
    runs = plan_runs(sequences, files)
    assert [run.name for run in runs] == ["000_keyframe_2", "000_simple10_2"]
    assert [run.name for run in plan_runs(sequences, files[:1])] == ["000"]


def test_an_index_is_followed_up_to_the_limit_with_its_resets(make_scene, index, engine):
    (run,) = plan_runs([open_sequence(make_scene(frames=8))], (index("mine.txt"),), limit=2)
    list(run.predict(engine, False, lambda _: None))
    assert engine.calls == [("reset",), (2, (0,)), ("reset",), (4, (2, 0))]
    with pytest.raises(ConfigError, match="--limit must be at least 1"):
        plan_runs([run.sequence], limit=0)


@pytest.mark.parametrize(
    ("file", "network", "expected"),
    (
        (None, "fusionnet", "keyframe_mine_96_64_3_dvmvs_fusionnet_online"),
        (None, "pairnet", "keyframe_mine_96_64_3_dvmvs_pairnet_online"),
        ("simple10+7scenes+office+nmeas+2", "pairnet", "simple10_7scenes_96_64_2_dvmvs_pairnet"),
        ("own.txt", "fusionnet", "own_mine_96_64_2_dvmvs_fusionnet"),
    ),
)
def test_systems_have_their_published_names(make_scene, index, file, network, expected):
    files = (index(file),) if file else ()
    (run,) = plan_runs([open_sequence(make_scene("mine/scene"))], files)
    engine = SimpleNamespace(
        model_config=preset("small", network=network, height=64, width=96),
        config=EngineConfig(keyframes=KeyframeConfig(measurement_frames=3)),
    )
    assert run.system(engine) == expected
    assert run.scene == ("office" if file and "office" in file else "scene")


def test_what_was_predicted_can_be_predicted_again_by_another(make_scene, engine, tmp_path):
    (run,) = plan_runs([open_sequence(make_scene(frames=9))])
    write_predictions(run.predict(engine, False, lambda _: None), tmp_path / "out")
    entries = run.entries_of(tmp_path / "out" / "predictions.npz")
    assert [str(entry) for entry in entries[:2]] == ["00005.png 00003.png", "00007.png 00005.png 00003.png"]


@pytest.fixture
def results(make_scene, predict) -> list[RunResult]:
    """A short sequence of 1 keyframe and a long one of 5."""
    found = []
    for name, frames in (("short", 3), ("long", 12)):
        sequence = open_sequence(make_scene(name, frames=frames))
        score = score_predictions(predict(sequence), sequence)
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
