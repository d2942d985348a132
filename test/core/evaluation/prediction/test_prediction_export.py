# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.


"""Predictions for other tools: read back by our own readers of those formats, they are the same frames again."""

from __future__ import annotations

import numpy as np
import pytest

from dvmvs_core.cli.main import main
from dvmvs_core.data.open_sequence import open_sequence
from dvmvs_core.errors import DataError
from dvmvs_core.evaluation.prediction.predict_sequence import PREDICTIONS, predict_online, write_predictions
from dvmvs_core.evaluation.prediction.prediction_export import export_predictions
from dvmvs_core.evaluation.prediction.prediction_files import PredictionReader


@pytest.fixture
def predicted(make_scene, engine, tmp_path):
    """A scene of 36×48 and predictions of a plane at 2 m, 32×64, sure of them by 0.6."""
    sequence = open_sequence(make_scene(frames=8))
    engine.confidence = 0.6
    write_predictions(predict_online(engine, sequence), tmp_path / "predicted")
    return sequence, tmp_path / "predicted" / PREDICTIONS


def read_back(tmp_path, *arguments):
    assert main(["import", *map(str, arguments[:2]), str(tmp_path / "back"), *map(str, arguments[2:])]) == 0
    (scene,) = (tmp_path / "back").iterdir()
    return list(open_sequence(scene).items())


@pytest.mark.parametrize("form", ("tum", "transforms.json", "colmap"))
def test_read_back_the_keyframes_are_the_same(predicted, tmp_path, form):
    sequence, predictions = predicted
    reader = PredictionReader(predictions)
    export_predictions(sequence, predictions, tmp_path / form, form)
    fx, fy, cx, cy = (f"{reader.K[at]:.12f}" for at in ((0, 0), (1, 1), (0, 2), (1, 2)))
    how = {
        "tum": ("tum-rgbd", tmp_path / form, "--intrinsics", fx, fy, cx, cy),
        "transforms.json": ("transforms", tmp_path / form),
        "colmap": ("colmap", tmp_path / form, "--scale", 1),
    }
    frames = read_back(tmp_path, *how[form])
    assert len(frames) == len(reader) > 2
    for item, world_T_cam in zip(frames, reader.world_T_cam, strict=True):
        np.testing.assert_allclose(item.frame.world_T_cam, world_T_cam, atol=1e-6)
        np.testing.assert_allclose(item.frame.K, reader.K, atol=1e-6)
        assert item.frame.image.shape[:2] == (32, 64) and item.frame.image.std() > 10
        if form != "colmap":
            np.testing.assert_allclose(item.sensor_depth, 2.0, atol=1e-3)
    if form == "tum":
        assert [item.frame.stamp_ns for item in frames] == reader.stamp_ns.tolist()


def test_points_lie_on_the_plane_that_each_keyframe_saw(predicted, tmp_path):
    sequence, predictions = predicted
    reader = PredictionReader(predictions)
    path = export_predictions(sequence, predictions, tmp_path / "ply", "ply")
    header, data = path.read_bytes().split(b"end_header\n", 1)
    points = np.frombuffer(data, [("position", "<f4", 3), ("colour", "u1", 3)])
    each = 8 * 16
    assert f"element vertex {len(points):012d}\n".encode() in header
    assert len(points) == each * len(reader)
    for i, world_T_cam in enumerate(reader.world_T_cam):
        cam_T_world = np.linalg.inv(world_T_cam)
        in_camera = points["position"][i * each : (i + 1) * each] @ cam_T_world[:3, :3].T + cam_T_world[:3, 3]
        np.testing.assert_allclose(in_camera[:, 2], 2.0, atol=1e-5)
        pixels = in_camera[:, :2] / in_camera[:, 2:] * (reader.K[0, 0], reader.K[1, 1]) + reader.K[:2, 2]
        np.testing.assert_allclose(pixels % 4, 2, atol=1e-3)
    colmap = export_predictions(sequence, predictions, tmp_path / "colmap", "colmap")
    lines = (colmap / "sparse/0/points3D.txt").read_text().splitlines()
    np.testing.assert_allclose([float(word) for word in lines[0].split()[1:4]], points["position"][0], atol=1e-5)
    assert len(lines) == len(points)


def test_depth_that_is_not_sure_enough_is_left_out(predicted, tmp_path):
    sequence, predictions = predicted
    for least, count in ((0.5, 1), (0.7, 0)):
        path = export_predictions(sequence, predictions, tmp_path / str(least), "ply", least)
        header = path.read_bytes().split(b"end_header\n")[0].decode()
        assert bool(int(header.split("vertex ")[1].split()[0])) == bool(count)


def test_nothing_is_replaced_and_nothing_half_written(predicted, make_scene, tmp_path):
    sequence, predictions = predicted
    export_predictions(sequence, predictions, tmp_path / "ply", "ply")
    with pytest.raises(DataError, match="exists already"):
        export_predictions(sequence, predictions, tmp_path / "ply", "ply")
    shorter = open_sequence(make_scene("shorter", frames=3))
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(DataError, match="does not have"):
        export_predictions(shorter, predictions, tmp_path / "other", "tum")
    assert sorted(path.name for path in tmp_path.iterdir()) == before
