# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Which topics of a depth node are its images and its mask, in a real graph of nodes."""

from __future__ import annotations

import itertools

import pytest
import rclpy
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from dvmvs_core.errors import ConfigError
from dvmvs_ros.evaluation.topics import find_topics
from dvmvs_ros.evaluation_node import EvaluationNode

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
