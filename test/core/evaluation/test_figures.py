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

from dvmvs_core.data.open_sequence import open_sequence
from dvmvs_core.errors import DataError
from dvmvs_core.evaluation.figures import RunResult, read_figures, summary, write_figures
from dvmvs_core.evaluation.metrics import NAMES
from dvmvs_core.evaluation.predict import predict_online, write_predictions
from dvmvs_core.evaluation.score import score_predictions


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


def test_baselines_are_there_only_on_request(results):
    assert "baselines" not in summary(results)["all"]
    results[0].sweep = results[0].score
    figures = summary(results, baselines=True)
    assert set(figures["sequences"][0]["baselines"]) == {"constant_median", "plane_sweep"}
    assert set(figures["sequences"][1]["baselines"]) == {"constant_median"}
    assert figures["sequences"][0]["baselines"]["plane_sweep"]["metrics"] == figures["sequences"][0]["metrics"]
    constant = [m.abs_error for result in results for m in result.score.constant]
    assert figures["all"]["baselines"]["constant_median"]["metrics"]["abs_error"] == pytest.approx(np.mean(constant))


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
