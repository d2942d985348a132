# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Predictions as a bag: what lies in it, and that the inputs in it give the same predictions again."""

from __future__ import annotations

import numpy as np
import pytest

from dvmvs_core.data.bags.bag_depth import POINT_CLOUD
from dvmvs_core.data.bags.bag_files import BagFiles, deserialise
from dvmvs_core.data.encodings.image_message import decode_depth, decode_image
from dvmvs_core.data.keyframe_index import IndexEntry
from dvmvs_core.data.open_sequence import open_sequence
from dvmvs_core.data.point_clouds import cloud_points
from dvmvs_core.errors import DataError
from dvmvs_core.evaluation.prediction.predict_sequence import predict_indexed, predict_online, write_predictions
from dvmvs_core.evaluation.prediction.prediction_files import PredictionReader
from dvmvs_core.evaluation.report.result_bag import write_result_bag
from dvmvs_core.evaluation.scoring.metrics import NAMES, mean_metrics
from dvmvs_core.evaluation.scoring.score import score_predictions


def messages(bag, topic):
    files = BagFiles(bag)
    kind = files.topics[topic].message_type
    return [deserialise(message.data, kind) for message in files.messages({topic})]


def pixels(message):
    return message.encoding, message.height, message.width, message.step, message.is_bigendian, message.data


@pytest.fixture
def result(engine, make_scene, tmp_path):
    """A scene of 7 frames, its predictions and their bag."""
    engine.confidence = 0.75
    sequence = open_sequence(make_scene(frames=7))
    write_predictions(predict_online(engine, sequence), tmp_path)
    write_result_bag(sequence, tmp_path / "predictions.npz", tmp_path / "result")
    return sequence, tmp_path / "predictions.npz", tmp_path / "result"


def test_every_frame_is_in_it_and_beside_keyframes_what_was_predicted(result):
    sequence, predictions, bag = result
    reader = PredictionReader(predictions)
    topics = BagFiles(bag).topics
    for topic in ("/camera/image_rect", "/camera/camera_info", "/camera/depth", "/tf"):
        assert topics[topic].count == 7, topic
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
        np.testing.assert_array_equal(decode_depth(*pixels(confidence)), 0.75)
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


def test_its_figures_end_at_the_mean_of_the_score(result):
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


def test_its_inputs_are_a_sequence_again(result, engine, tmp_path):
    sequence, predictions, bag = result
    again = open_sequence(bag)
    assert (again.image_topic, again.depth_topic) == ("/camera/image_rect", "/camera/depth")
    write_predictions(predict_online(engine, again), tmp_path / "again")
    ours, theirs = PredictionReader(tmp_path / "again" / "predictions.npz"), PredictionReader(predictions)
    np.testing.assert_array_equal(ours.frame_index, theirs.frame_index)
    np.testing.assert_array_equal(ours.stamp_ns, theirs.stamp_ns)


def test_predictions_in_any_order_find_their_frames(engine, make_scene, tmp_path):
    sequence = open_sequence(make_scene(frames=6, depth=False))
    names = [pose.name for pose in sequence.poses()]
    entries = [IndexEntry(names[5], (names[0],)), IndexEntry(names[2], (names[1],))]
    write_predictions(predict_indexed(engine, sequence, entries), tmp_path)
    write_result_bag(sequence, tmp_path / "predictions.npz", tmp_path / "result", "sqlite3")
    topics = BagFiles(tmp_path / "result").topics
    assert topics["/depth/image"].count == topics["/points"].count == 2
    assert topics["/points"].message_type == POINT_CLOUD
    assert "/evaluation_node/metrics" not in topics and "/depth/confidence" not in topics


def test_it_replaces_nothing_and_is_whole_or_not_there(result, engine, make_scene, tmp_path):
    sequence, predictions, bag = result
    with pytest.raises(DataError, match="exists already"):
        write_result_bag(sequence, predictions, bag)
    other = open_sequence(make_scene("other", frames=7, size=(30, 48)))
    with pytest.raises(DataError, match="belong to another sequence"):
        write_result_bag(other, predictions, tmp_path / "wrong")
    assert not (tmp_path / "wrong").exists()
