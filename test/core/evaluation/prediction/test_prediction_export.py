# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Predictions for other tools, read back by our own readers of those formats: the same frames again."""

from __future__ import annotations

import numpy as np
import pytest

from dvmvs_core.cli.main import main
from dvmvs_core.data.bags.bag_depth import POINT_CLOUD
from dvmvs_core.data.bags.bag_files import BagFiles, deserialise
from dvmvs_core.data.encodings.image_message import decode_depth, decode_image
from dvmvs_core.data.open_sequence import open_sequence
from dvmvs_core.data.point_clouds import cloud_points
from dvmvs_core.errors import DataError
from dvmvs_core.evaluation.prediction.prediction_export import export_predictions
from dvmvs_core.evaluation.prediction.prediction_files import PredictionReader
from dvmvs_core.evaluation.report.result_bag import write_result_bag
from dvmvs_core.evaluation.scoring.metrics import NAMES, mean_metrics
from dvmvs_core.evaluation.scoring.score import score_predictions


@pytest.fixture
def predicted(make_scene, engine, predict):
    """A scene of 8 frames of 36×48 and predictions of a plane at 2 m, 32×64, sure of them by 0.6."""
    sequence = open_sequence(make_scene(frames=8))
    engine.confidence = 0.6
    return sequence, predict(sequence)


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


def messages(bag, topic):
    files = BagFiles(bag)
    kind = files.topics[topic].message_type
    return [deserialise(message.data, kind) for message in files.messages({topic})]


def pixels(message):
    return message.encoding, message.height, message.width, message.step, message.is_bigendian, message.data


@pytest.fixture
def result(predicted, tmp_path):
    """The scene, its predictions and their bag."""
    write_result_bag(*predicted, tmp_path / "result")
    return *predicted, tmp_path / "result"


def test_every_frame_is_in_a_result_bag_and_beside_keyframes_what_was_predicted(result):
    sequence, predictions, bag = result
    reader = PredictionReader(predictions)
    topics = BagFiles(bag).topics
    for topic in ("/camera/image_rect", "/camera/camera_info", "/camera/depth", "/tf"):
        assert topics[topic].count == 8, topic
    for topic in ("image", "camera_info", "confidence"):
        assert topics[f"/depth/{topic}"].count == len(reader), topic
    stamps = []
    for depth, info, confidence, cloud, expected in zip(
        *(messages(bag, t) for t in ("/depth/image", "/depth/camera_info", "/depth/confidence", "/points")),
        reader.depths(),
        strict=True,
    ):
        np.testing.assert_array_equal(decode_depth(*pixels(depth)), expected)
        np.testing.assert_array_equal(info.k.reshape(3, 3), reader.K)
        np.testing.assert_array_equal(decode_depth(*pixels(confidence)), np.float32(0.6))
        points = cloud_points(cloud)
        assert len(points) == expected.size
        np.testing.assert_allclose(points[:, 2], 2.0)
        at = reader.K @ points[70]
        np.testing.assert_allclose(at[:2] / at[2], (70 % 64, 70 // 64), atol=1e-4)
        assert [field.name for field in cloud.fields] == ["x", "y", "z", "rgb", "confidence"]
        headers = [depth.header, info.header, confidence.header, cloud.header]
        assert {header.frame_id for header in headers} == {"camera_optical_frame"}
        stamps.append({header.stamp.sec * 10**9 + header.stamp.nanosec for header in headers})
    assert stamps == [{stamp_ns} for stamp_ns in reader.stamp_ns.tolist()]


def test_figures_of_a_result_bag_end_at_the_mean_of_the_score(result):
    sequence, predictions, bag = result
    metrics = score_predictions(predictions, sequence).metrics
    told = messages(bag, "/evaluation_node/metrics")
    assert len(told) == len(metrics)
    expected = mean_metrics(metrics)
    for status, figures in ((told[-1].status[0], metrics[-1]), (told[-1].status[1], expected)):
        values = {pair.key: float(pair.value) for pair in status.values}
        assert {name: values[name] for name in NAMES} == pytest.approx(
            {name: getattr(figures, name) for name in NAMES}, rel=1e-5
        )
    assert told[-1].status[1].name == "depth: mean"
    picture = decode_image(*pixels(messages(bag, "/evaluation_node/error_image")[0]))
    assert picture.shape == (32, 64, 3) and len(np.unique(picture)) > 5


def test_inputs_of_a_result_bag_are_a_sequence_again(result, predict):
    sequence, predictions, bag = result
    again = open_sequence(bag)
    assert (again.image_topic, again.depth_topic) == ("/camera/image_rect", "/camera/depth")
    ours, theirs = PredictionReader(predict(again, "again")), PredictionReader(predictions)
    np.testing.assert_array_equal(ours.frame_index, theirs.frame_index)
    np.testing.assert_array_equal(ours.stamp_ns, theirs.stamp_ns)


def test_predictions_in_any_order_find_their_frames_in_a_result_bag(make_scene, predict, tmp_path):
    sequence = open_sequence(make_scene(frames=6, depth=False))
    write_result_bag(sequence, predict(sequence, pairs=((5, 0), (2, 1))), tmp_path / "result", "sqlite3")
    topics = BagFiles(tmp_path / "result").topics
    assert topics["/depth/image"].count == topics["/points"].count == 2
    assert topics["/points"].message_type == POINT_CLOUD
    assert "/evaluation_node/metrics" not in topics and "/depth/confidence" not in topics


def test_a_result_bag_replaces_nothing_and_is_whole_or_not_there(result, make_scene, tmp_path):
    sequence, predictions, bag = result
    with pytest.raises(DataError, match="exists already"):
        write_result_bag(sequence, predictions, bag)
    other = open_sequence(make_scene("other", frames=7, size=(30, 48)))
    with pytest.raises(DataError, match="belong to another sequence"):
        write_result_bag(other, predictions, tmp_path / "wrong")
    assert not (tmp_path / "wrong").exists()
