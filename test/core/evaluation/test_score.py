from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from dvmvs_core.data.sequence import open_sequence
from dvmvs_core.errors import DataError
from dvmvs_core.evaluation.metrics import NAMES, evaluate_depth
from dvmvs_core.evaluation.predict import predict_online, write_predictions
from dvmvs_core.evaluation.score import resize_truth, score_predictions, summary
from dvmvs_core.preprocess import Preprocessor


def predicted(engine, sequence, folder):
    write_predictions(predict_online(engine, sequence), folder)
    return folder / "predictions.npz"


def test_scores_are_those_of_nearest_resized_sensor_depth(make_scene, engine, tmp_path):
    scene = make_scene(frames=7)
    sequence = open_sequence(scene)
    score = score_predictions(predicted(engine, sequence, tmp_path / "out"), sequence)
    assert score.frame_index == (2, 4, 6)
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
    assert score.frame_index == (2, 6)
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


def test_the_overall_mean_is_over_keyframes_not_over_sequences(make_scene, engine, tmp_path):
    scores = []
    for name, frames in (("short", 3), ("long", 12)):
        sequence = open_sequence(make_scene(name, frames=frames))
        scores.append(score_predictions(predicted(engine, sequence, tmp_path / "out" / name), sequence))
    figures = summary(scores, weights="small", preset="small", device="cpu")
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


def test_golden_errors_from_golden_depth(reference, hololens):
    golden = np.load(reference / "goldens" / "fusionnet_golden.npz")
    sequence = open_sequence(hololens)
    truths = list(sequence.sensor_depths(golden["frame_index"][:3].tolist()))
    for depth, truth, errors in zip(golden["depth"], truths, golden["errors"], strict=False):
        preprocessor = Preprocessor(truth.K, truth.sensor_depth.shape, depth.shape)
        resized = resize_truth(truth.sensor_depth, truth.K, depth.shape, preprocessor.K)
        metrics = evaluate_depth(depth, resized).to_dict()
        assert [metrics[name] for name in NAMES[:8]] == pytest.approx(errors, rel=1e-5)
