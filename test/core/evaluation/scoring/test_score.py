# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

from __future__ import annotations

import cv2
import numpy as np
import pytest

from dvmvs_core.data.keyframe_index import IndexEntry
from dvmvs_core.data.open_sequence import open_sequence
from dvmvs_core.errors import DataError
from dvmvs_core.evaluation.prediction.predict_sequence import predict_indexed, predict_online, write_predictions
from dvmvs_core.evaluation.prediction.prediction_pixels import resize_truth
from dvmvs_core.evaluation.scoring.boundaries import boundary_f1, compare_steps
from dvmvs_core.evaluation.scoring.metrics import NAMES, evaluate_depth
from dvmvs_core.evaluation.scoring.parallax import parallax_px
from dvmvs_core.evaluation.scoring.score import score_predictions
from dvmvs_core.evaluation.scoring.sure_and_wrong import SureAndWrong, sure_and_wrong
from dvmvs_core.preprocess import Preprocessor


def predicted(engine, sequence, folder):
    write_predictions(predict_online(engine, sequence), folder)
    return folder / "predictions.npz"


def test_scores_are_those_of_nearest_resized_sensor_depth(make_scene, engine, tmp_path):
    scene = make_scene(frames=7)
    sequence = open_sequence(scene)
    score = score_predictions(predicted(engine, sequence, tmp_path / "out"), sequence)
    assert score.frame_index == [2, 4, 6]
    millimetres = cv2.imread(str(scene / "depth" / "00007.png"), cv2.IMREAD_UNCHANGED)
    truth = cv2.resize(millimetres / 1000.0, (64, 32), interpolation=cv2.INTER_NEAREST)
    expected = evaluate_depth(np.full((32, 64), 2.0), truth)
    assert score.metrics[1].abs_error == pytest.approx(expected.abs_error, rel=1e-6)
    assert score.latency_ms == (12.0, 14.0, 16.0)


def test_a_bag_scores_as_its_folder(make_scene, make_bag, engine, tmp_path):
    bag = open_sequence(make_bag(name="recording", frames=8))
    folder = open_sequence(tmp_path / "recording_scene")
    scores = [
        score_predictions(predicted(engine, sequence, tmp_path / sequence.name / "out"), sequence)
        for sequence in (bag, folder)
    ]
    assert scores[0].metrics == scores[1].metrics


def test_keyframes_without_sensor_depth_are_left_out(make_scene, engine, tmp_path):
    scene = make_scene(frames=7)
    (scene / "depth" / "00007.png").unlink()
    sequence = open_sequence(scene)
    score = score_predictions(predicted(engine, sequence, tmp_path / "out"), sequence)
    assert score.frame_index == [2, 6]
    assert len(score.latency_ms) == 3


def test_a_crop_is_followed():
    K = np.array(((400.0, 0, 320), (0, 400.0, 240), (0, 0, 1)))
    depth = np.random.default_rng(0).uniform(1, 5, (480, 640)).astype(np.float32)
    cropped = Preprocessor(K, (480, 640), (64, 64), crop=True)
    stretched = Preprocessor(K, (480, 640), (64, 64))
    assert np.array_equal(resize_truth(depth, K, (64, 64), cropped.K), cropped.depth(depth))
    assert np.array_equal(resize_truth(depth, K, (64, 64), stretched.K), stretched.depth(depth))
    with pytest.raises(DataError, match="belong to another sequence"):
        resize_truth(depth, K, (64, 64), stretched.K * 1.1)


def test_without_sensor_depth_there_is_nothing_to_score(make_scene, engine, tmp_path):
    sequence = open_sequence(make_scene(depth=False))
    with pytest.raises(DataError, match="no sensor depth to score against"):
        score_predictions(predicted(engine, sequence, tmp_path / "out"), sequence)


def test_an_index_in_any_order_and_with_repetitions_is_scored_as_the_frames_are(make_scene, engine, tmp_path):
    """Frame 4 twice and frame 2 after it: each must meet its own sensor depth."""
    sequence = open_sequence(make_scene(frames=7))
    names = [pose.name for pose in sequence.poses()]
    entries = [IndexEntry(names[r], (names[m],)) for r, m in ((4, 2), (2, 0), (6, 4), (4, 0))]
    write_predictions(predict_indexed(engine, sequence, entries), tmp_path)
    score = score_predictions(tmp_path / "predictions.npz", sequence)
    assert score.frame_index == [4, 2, 6, 4]
    truths = {item.index: item for item in sequence.sensor_depths([2, 4, 6])}
    for index, metrics in zip(score.frame_index, score.metrics, strict=True):
        truth = cv2.resize(truths[index].sensor_depth, (64, 32), interpolation=cv2.INTER_NEAREST)
        assert metrics == evaluate_depth(np.full((32, 64), 2.0), truth)


def test_the_constant_baseline_is_the_median_of_what_counts(make_scene, engine, tmp_path):
    sequence = open_sequence(make_scene(frames=5))
    score = score_predictions(predicted(engine, sequence, tmp_path), sequence, max_depth_m=3.0)
    item = next(sequence.sensor_depths([score.frame_index[0]]))
    truth = cv2.resize(item.sensor_depth, (64, 32), interpolation=cv2.INTER_NEAREST)
    median = np.median(truth[(truth >= 0.5) & (truth <= 3.0)])
    assert score.constant[0] == evaluate_depth(np.full_like(truth, median), truth, max_depth_m=3.0)
    assert score.constant[0].abs_error <= score.metrics[0].abs_error  # the median is the best constant


def test_parallax_is_that_of_the_measurement_frames_of_each_keyframe(make_scene, engine, tmp_path):
    sequence = open_sequence(make_scene(frames=7))
    score = score_predictions(predicted(engine, sequence, tmp_path), sequence)
    poses = [pose.world_T_cam for pose in sequence.poses()]
    item = next(sequence.sensor_depths([4]))
    truth = cv2.resize(item.sensor_depth, (64, 32), interpolation=cv2.INTER_NEAREST)
    truth[truth < 0.5] = 0
    K = Preprocessor(item.K, item.sensor_depth.shape, (32, 64)).K
    expected = parallax_px(truth, K, poses[4], [poses[2], poses[0]])
    assert score.parallax_px[1] == pytest.approx(np.median(expected[truth > 0]), rel=1e-5)
    by_parallax, by_distance = (sum(p.pixels for p in b.bins()) for b in (score.by_parallax, score.by_distance))
    assert by_parallax == by_distance > 0


def test_boundaries_and_steps_are_those_of_depth_and_resized_truth(make_scene, engine, tmp_path):
    sequence = open_sequence(make_scene(frames=7))
    score = score_predictions(predicted(engine, sequence, tmp_path), sequence)
    item = next(sequence.sensor_depths([4]))
    truth = cv2.resize(item.sensor_depth, (64, 32), interpolation=cv2.INTER_NEAREST)
    truth[truth < 0.5] = 0
    plane = np.full((32, 64), 2.0)
    assert score.boundary_f1[1] == pytest.approx(boundary_f1(plane, truth), nan_ok=True)
    assert score.steps[1] == compare_steps(plane, truth)


def test_sure_pixels_are_counted_where_there_is_confidence(make_scene, engine, tmp_path):
    sequence = open_sequence(make_scene(frames=5))
    score = score_predictions(predicted(engine, sequence, tmp_path / "a"), sequence)
    assert score.sure == [SureAndWrong()] * 2
    engine.confidence = 0.75
    score = score_predictions(predicted(engine, sequence, tmp_path / "b"), sequence)
    truth = cv2.resize(next(sequence.sensor_depths([4])).sensor_depth, (64, 32), interpolation=cv2.INTER_NEAREST)
    valid = truth[truth >= 0.5]
    assert score.sure[1] == sure_and_wrong(np.ones_like(valid), np.full_like(valid, 2.0), valid)


def test_confidence_is_scored_where_it_was_stored(make_scene, engine, tmp_path):
    sequence = open_sequence(make_scene(frames=5))
    assert score_predictions(predicted(engine, sequence, tmp_path / "a"), sequence).confidence.score() is None
    engine.confidence = 0.7
    score = score_predictions(predicted(engine, sequence, tmp_path / "b"), sequence)
    (calibration,) = score.confidence.score().calibration
    assert calibration.confidence == pytest.approx(0.7)
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
