# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Depth and truth that arrive in any order, and which topics of a depth node are its images and its mask."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import rclpy
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from dvmvs_core.data.lens.camera_info import camera_model
from dvmvs_core.data.lens.raw_depth import rectify_depth
from dvmvs_core.errors import ConfigError, MessageError
from dvmvs_core.evaluation.prediction.prediction_pixels import resize_truth
from dvmvs_core.evaluation.scoring.metrics import evaluate_depth, mean_metrics
from dvmvs_core.preprocess import Preprocessor
from dvmvs_ros.evaluation.live import DEPTHS_HELD, LiveScore
from dvmvs_ros.evaluation.topics import find_topics
from dvmvs_ros.evaluation_node import EvaluationNode

MS = 1_000_000
SIZE, SMALL = (36, 48), (32, 64)
K = np.array(((40.0, 0.0, 23.5), (0.0, 41.0, 17.5), (0.0, 0.0, 1.0)))
P = np.hstack((K, np.zeros((3, 1)))).reshape(-1)
CAMERA = camera_model(*SIZE, K.reshape(-1), P, (0.0,) * 5)
BENT = camera_model(*SIZE, K.reshape(-1), P, (-0.3, 0.1, 0.0, 0.0, 0.0))
SMALL_K = Preprocessor(K, SIZE, SMALL).K.astype(np.float64)
TRUTH = np.random.default_rng(0).uniform(0.3, 5.0, SIZE).astype(np.float32)
DEPTH = np.random.default_rng(1).uniform(0.5, 4.0, SMALL).astype(np.float32)


def live(camera=CAMERA, raw=False) -> LiveScore:
    score = LiveScore(0.5, np.inf, raw)
    score.set_camera(camera)
    score.set_depth_intrinsics(SMALL_K)
    return score


def compared_alone(score: LiveScore, depth: np.ndarray = DEPTH):
    """What comes of the truth and a depth of one time."""
    score.add_truth(0, lambda: TRUTH)
    score.add_depth(0, depth)
    (compared,) = score.compare()
    assert list(score.compare()) == []
    return compared


@pytest.mark.parametrize(
    ("score", "seen"),
    [(live(), TRUTH), (live(BENT, raw=True), rectify_depth(TRUTH, BENT))],
    ids=["rectified", "raw"],
)
def test_it_compares_as_offline_does(score, seen):
    truth = resize_truth(seen, K, SMALL, SMALL_K)
    assert compared_alone(score).metrics == evaluate_depth(DEPTH, truth, 0.5)


def test_pixels_without_depth_do_not_count():
    holes = DEPTH.copy()
    holes[:10] = 0
    compared = compared_alone(live(), holes)
    assert not compared.truth[:10].any() and np.isfinite(compared.metrics.abs_inverse_error)


def test_the_mean_is_that_of_the_report():
    score, found = live(), []
    for i in range(5):
        nothing = np.zeros(SIZE, np.float32)
        score.add_truth(i * 100 * MS, lambda i=i, nothing=nothing: nothing if i == 3 else TRUTH + np.float32(0.1 * i))
        score.add_depth(i * 100 * MS, DEPTH)
        found += [compared.metrics for compared in score.compare()]
    assert score.figures.count == len(found) == 5
    assert score.figures.mean.to_dict() == pytest.approx(mean_metrics(found).to_dict())


def test_truth_may_come_first_or_last_and_the_nearest_within_5_ms_is_taken():
    score = live()
    score.add_depth(100 * MS, DEPTH)
    score.add_depth(200 * MS, DEPTH)
    score.add_depth(300 * MS, DEPTH)
    assert list(score.compare()) == []
    score.add_truth(97 * MS, lambda: TRUTH)
    assert list(score.compare()) == [], "a nearer one may come yet"
    score.add_truth(102 * MS, lambda: TRUTH + 1)
    score.add_truth(190 * MS, lambda: TRUTH)
    score.add_truth(300 * MS, lambda: TRUTH)
    first, last = score.compare()
    assert (first.stamp_ns, last.stamp_ns) == (100 * MS, 300 * MS)
    assert first.metrics.abs_error == pytest.approx(
        evaluate_depth(DEPTH, resize_truth(TRUTH + 1, K, SMALL, SMALL_K), 0.5).abs_error
    )
    assert score.without_truth == 1


def test_without_truth_it_holds_so_many_and_counts_the_others():
    score = live()
    for i in range(DEPTHS_HELD + 7):
        score.add_depth(i, DEPTH)
        assert list(score.compare()) == []
    assert score.without_truth == 7


def test_damaged_truth_and_truth_of_another_size_are_said_once_each():
    def broken():
        raise MessageError("cut off")

    score = live()
    for stamp_ns, read in ((0, broken), (100 * MS, lambda: TRUTH[:8]), (200 * MS, lambda: TRUTH)):
        score.add_truth(stamp_ns, read)
        score.add_depth(stamp_ns, DEPTH)
    with pytest.raises(MessageError, match="cut off"):
        list(score.compare())
    with pytest.raises(MessageError, match="must have the size of the colour image, 48×36; got 48×8"):
        list(score.compare())
    assert len(list(score.compare())) == 1


INFO, VIEW, MASK, ARM = "/robot/camera_info", "/robot/view", "/robot/valid_mask", "/robot/arm"
VOLATILE = QoSProfile(depth=1)
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
NUMBERS = itertools.count()


@pytest.fixture
def found(client):
    """A function that asks for the topics of a node with some subscriptions, in the order of their making."""
    nodes = []

    def find(*subscriptions, **parameters):
        name = f"heard_{next(NUMBERS)}"
        nodes.append(rclpy.create_node(name, namespace="/robot"))
        for topic, kind, qos in subscriptions:
            nodes[-1].create_subscription(kind, topic, lambda message: None, qos)
        parameters["status_topic"] = f"/robot/{name}/frame_status"
        overrides = [Parameter(key, value=value) for key, value in parameters.items()]
        nodes.append(EvaluationNode(parameter_overrides=overrides))
        topics = {topic for topic, _, _ in subscriptions}

        def known() -> bool:
            heard = nodes[-1].get_subscriber_names_and_types_by_node(name, "/robot")
            return topics <= {topic for topic, _ in heard}

        client.wait(known)
        return find_topics(nodes[-1])

    yield find
    for node in nodes:
        node.destroy_node()


@pytest.mark.parametrize(
    ("image", "mask"),
    (
        ((VIEW, Image, VOLATILE), (MASK, Image, LATCHED)),
        ((VIEW, Image, VOLATILE), (ARM, Image, LATCHED)),
        ((VIEW, Image, LATCHED), (MASK, Image, LATCHED)),
        ((VIEW, Image, LATCHED), (MASK, Image, VOLATILE)),
        ((f"{VIEW}/compressed", CompressedImage, VOLATILE), (ARM, Image, VOLATILE)),
    ),
    ids=("by its name", "remapped", "both latched", "the other latched", "remapped, compressed images"),
)
def test_a_mask_is_never_taken_for_the_images(found, image, mask):
    topics = found(mask, (INFO, CameraInfo, VOLATILE), image)
    assert (topics.image, topics.mask, topics.info) == (image[0], mask[0], INFO)


@pytest.mark.parametrize("qos", (VOLATILE, LATCHED), ids=("neither latched", "both latched"))
def test_what_cannot_be_told_apart_must_be_named(found, qos):
    heard = (ARM, Image, qos), (INFO, CameraInfo, VOLATILE), (VIEW, Image, qos)
    with pytest.raises(ConfigError, match="may be on /robot/(arm or /robot/view|view or /robot/arm): say which"):
        found(*heard)
    topics = found(*heard, image_topic=VIEW)
    assert (topics.image, topics.mask) == (VIEW, ARM)


@pytest.mark.parametrize("mask", (MASK, ARM))
def test_a_node_that_is_being_activated_hears_the_mask_first(found, mask):
    assert found((mask, Image, LATCHED), (INFO, CameraInfo, VOLATILE)) is None


def test_images_that_are_named_are_not_doubted(found):
    topics = found((VIEW, Image, VOLATILE), (INFO, CameraInfo, VOLATILE), image_topic="/other")
    assert (topics.image, topics.mask) == ("/other", "")
