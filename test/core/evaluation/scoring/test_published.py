# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

from __future__ import annotations

import numpy as np
import pytest

from dvmvs_core.data.open_sequence import open_sequence
from dvmvs_core.evaluation.prediction.predict_sequence import predict_online, write_predictions
from dvmvs_core.evaluation.prediction.prediction_files import PredictionReader
from dvmvs_core.evaluation.scoring.metrics import NAMES
from dvmvs_core.evaluation.scoring.published import write_published
from dvmvs_core.evaluation.scoring.score import score_predictions


@pytest.fixture
def files(make_scene, engine, tmp_path):
    """Predictions of a scene whose second keyframe has no sensor depth, their score, and the published files."""
    scene = make_scene(frames=7)
    (scene / "depth" / "00007.png").unlink()
    sequence = open_sequence(scene)
    write_predictions(predict_online(engine, sequence), tmp_path / "out")
    path = tmp_path / "out" / "predictions.npz"
    score = score_predictions(path, sequence)
    return path, score, write_published(path, score, tmp_path / "published", "system", "000")


def test_names_and_arrays_are_the_published_ones(files):
    path, score, (predictions, errors) = files
    assert (predictions.name, errors.name) == ("system_predictions_000.npz", "system_errors_000.npz")
    with np.load(predictions) as arrays:
        assert arrays.files == ["arr_0"]
        assert (arrays["arr_0"].dtype, arrays["arr_0"].shape) == (np.float32, (3, 32, 64))
        assert np.array_equal(arrays["arr_0"], np.stack(list(PredictionReader(path).depths())))
    with np.load(errors) as arrays:
        assert arrays.files == ["arr_0"]
        table = arrays["arr_0"]
    assert table.shape == (3, 8)
    assert np.isnan(table[1]).all()
    for row, metrics in ((0, score.metrics[0]), (2, score.metrics[1])):
        assert table[row].tolist() == [getattr(metrics, name) for name in NAMES[:8]]
    assert np.nanmean(table, axis=0)[1] == pytest.approx(score.mean.abs_relative_error)


def test_without_a_score_there_are_predictions_only(files, tmp_path):
    path, _, _ = files
    assert [f.name for f in write_published(path, None, tmp_path / "p", "s", "1")] == ["s_predictions_1.npz"]
    assert [f.name for f in (tmp_path / "p").iterdir()] == ["s_predictions_1.npz"]
