# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Predictions on disk against sensor depth, and the published files of both."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from dvmvs_core.data.open_sequence import open_sequence
from dvmvs_core.errors import DataError
from dvmvs_core.evaluation.prediction.prediction_files import PredictionReader
from dvmvs_core.evaluation.prediction.prediction_pixels import resize_truth
from dvmvs_core.evaluation.scoring.boundaries import boundary_f1, compare_steps
from dvmvs_core.evaluation.scoring.confidence_scores import SureAndWrong, sure_and_wrong
from dvmvs_core.evaluation.scoring.metrics import NAMES, evaluate_depth
from dvmvs_core.evaluation.scoring.parallax import parallax_px
from dvmvs_core.evaluation.scoring.published import write_published
from dvmvs_core.evaluation.scoring.score import score_predictions
from dvmvs_core.preprocess import Preprocessor

PLANE = np.full((32, 64), 2.0)
"""What the engine predicts."""


@pytest.fixture
def sequence(make_scene):
    """Keyframes 2, 4 and 6 of 7 frames."""
    return open_sequence(make_scene(frames=7))


@pytest.fixture
def score_of(predict):
    """A function that predicts and scores a sequence."""
    return lambda sequence, **how: score_predictions(predict(sequence), sequence, **how)


def truth_of(sequence, index: int) -> np.ndarray:
    """Sensor depth at the pixels of the predictions, those that count."""
    item = next(sequence.sensor_depths([index]))
    truth = cv2.resize(item.sensor_depth, (64, 32), interpolation=cv2.INTER_NEAREST)
    return np.where(truth < 0.5, 0, truth)


def test_scores_are_those_of_nearest_resized_sensor_depth(sequence, score_of):
    score = score_of(sequence)
    assert score.frame_index == [2, 4, 6]
    millimetres = cv2.imread(str(sequence.path / "depth" / "00007.png"), cv2.IMREAD_UNCHANGED)
    truth = cv2.resize(millimetres / 1000.0, (64, 32), interpolation=cv2.INTER_NEAREST)
    assert score.metrics[1].abs_error == pytest.approx(evaluate_depth(PLANE, truth).abs_error, rel=1e-6)
    assert score.latency_ms == (12.0, 14.0, 16.0)


def test_a_bag_scores_as_its_folder(make_bag, score_of, tmp_path):
    bag = open_sequence(make_bag(name="recording", frames=8))
    assert score_of(bag).metrics == score_of(open_sequence(tmp_path / "recording_scene")).metrics


def test_a_crop_is_followed():
    K = np.array(((400.0, 0, 320), (0, 400.0, 240), (0, 0, 1)))
    depth = np.random.default_rng(0).uniform(1, 5, (480, 640)).astype(np.float32)
    cropped = Preprocessor(K, (480, 640), (64, 64), crop=True)
    stretched = Preprocessor(K, (480, 640), (64, 64))
    assert np.array_equal(resize_truth(depth, K, (64, 64), cropped.K), cropped.depth(depth))
    assert np.array_equal(resize_truth(depth, K, (64, 64), stretched.K), stretched.depth(depth))
    with pytest.raises(DataError, match="belong to another sequence"):
        resize_truth(depth, K, (64, 64), stretched.K * 1.1)


def test_without_sensor_depth_there_is_nothing_to_score(make_scene, score_of):
    with pytest.raises(DataError, match="no sensor depth to score against"):
        score_of(open_sequence(make_scene(depth=False)))


def test_an_index_in_any_order_and_with_repetitions_is_scored_as_the_frames_are(sequence, predict):
    """Frame 4 twice and frame 2 after it: each must meet its own sensor depth."""
    score = score_predictions(predict(sequence, pairs=((4, 2), (2, 0), (6, 4), (4, 0))), sequence)
    assert score.frame_index == [4, 2, 6, 4]
    for index, metrics in zip(score.frame_index, score.metrics, strict=True):
        assert metrics == evaluate_depth(PLANE, truth_of(sequence, index))


def test_the_constant_baseline_is_the_median_of_what_counts(sequence, score_of):
    score, truth = score_of(sequence, max_depth_m=3.0), truth_of(sequence, 2)
    median = np.median(truth[(truth > 0) & (truth <= 3.0)])
    assert score.constant[0] == evaluate_depth(np.full_like(truth, median), truth, max_depth_m=3.0)
    assert score.constant[0].abs_error <= score.metrics[0].abs_error  # the median is the best constant


def test_parallax_is_that_of_the_measurement_frames_of_each_keyframe(sequence, score_of):
    score, truth = score_of(sequence), truth_of(sequence, 4)
    poses = [pose.world_T_cam for pose in sequence.poses()]
    item = next(sequence.sensor_depths([4]))
    K = Preprocessor(item.K, item.sensor_depth.shape, (32, 64)).K
    expected = parallax_px(truth, K, poses[4], [poses[2], poses[0]])
    assert score.parallax_px[1] == pytest.approx(np.median(expected[truth > 0]), rel=1e-5)
    by_parallax, by_distance = (sum(p.pixels for p in b.bins()) for b in (score.by_parallax, score.by_distance))
    assert by_parallax == by_distance > 0


def test_boundaries_and_steps_are_those_of_depth_and_resized_truth(sequence, score_of):
    score, truth = score_of(sequence), truth_of(sequence, 4)
    assert score.boundary_f1[1] == pytest.approx(boundary_f1(PLANE, truth), nan_ok=True)
    assert score.steps[1] == compare_steps(PLANE, truth)


def test_confidence_is_scored_where_it_was_stored(sequence, engine, score_of):
    without = score_of(sequence)
    assert without.sure == [SureAndWrong()] * 3 and without.confidence.score() is None
    engine.confidence = 0.75
    score, truth = score_of(sequence), truth_of(sequence, 4)
    valid = truth[truth > 0]
    assert score.sure[1] == sure_and_wrong(np.ones_like(valid), np.full_like(valid, 2.0), valid)
    (calibration,) = score.confidence.score().calibration
    assert calibration.confidence == pytest.approx(0.75)
    assert calibration.abs_relative_error == pytest.approx(score.mean.abs_relative_error, rel=0.05)


def test_golden_errors_from_golden_depth(reference, hololens):
    golden = np.load(reference / "goldens" / "fusionnet_golden.npz")
    sequence = open_sequence(hololens)
    truths = list(sequence.sensor_depths(golden["frame_index"][:3].tolist()))
    for depth, truth, errors in zip(golden["depth"], truths, golden["errors"], strict=False):
        preprocessor = Preprocessor(truth.K, truth.sensor_depth.shape, depth.shape)
        resized = resize_truth(truth.sensor_depth, truth.K, depth.shape, preprocessor.K)
        metrics = evaluate_depth(depth, resized).to_dict()
        assert [metrics[name] for name in NAMES[:8]] == pytest.approx(errors, rel=1e-5)


@pytest.fixture
def files(sequence, predict, tmp_path):
    """Predictions of a scene whose second keyframe has no sensor depth, their score, and the published files."""
    (sequence.path / "depth" / "00007.png").unlink()
    sequence = open_sequence(sequence.path)
    path = predict(sequence)
    score = score_predictions(path, sequence)
    return path, score, write_published(path, score, tmp_path / "published", "system", "000")


def test_keyframes_without_sensor_depth_are_left_out(files):
    _, score, _ = files
    assert score.frame_index == [2, 6] and len(score.latency_ms) == 3


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
