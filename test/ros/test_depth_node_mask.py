# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The mask next to the images, over DDS: what it hides, and what a bad one costs."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from camera_poses import pose_at
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.duration import Duration
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import Image

from dvmvs_core.data.bags.bag_files import BagFiles
from dvmvs_core.data.open_sequence import open_sequence
from dvmvs_ros.messages.conversions import (
    depth_from_message,
    image_from_message,
    make_header,
    mask_message,
    stamp_to_ns,
)

STEP_NS = 100_000_000
SIZE = (48, 64)
ARM = np.full(SIZE, 255, np.uint8)
ARM[24:, 16:48] = 0
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


@pytest.fixture(scope="module")
def masks(client):
    """Published before the node starts: latched, as by a robot."""
    publisher = client.node.create_publisher(Image, "valid_mask", LATCHED)
    publisher.publish(mask_message(ARM, make_header(0, "camera")))
    return publisher


@pytest.fixture(scope="module")
def node(start_depth_node, masks):
    node = start_depth_node()
    node.wait_for("depth is hidden where /valid_mask is 0: 25.0 % of the image")
    yield node
    assert node.process.poll() is None, node.log()
    node.end_well()


class Walk:
    """A camera that goes on by 12 cm from image to image, and what the node says of it."""

    def __init__(self, client, masks, diagnostics) -> None:
        self.client, self.masks, self.diagnostics = client, masks, diagnostics
        self.i = 0
        self.confidences: list = []
        client.node.create_subscription(Image, "depth/confidence", self.confidences.append, QoSProfile(depth=50))

    def hidden(self) -> np.ndarray:
        """Where the next depth (64, 96) is missing, after one without a keyframe before it perhaps."""
        for topic in (self.client.depths, self.client.clouds, self.confidences):
            topic.clear()
        for _ in range(3):
            self.i += 1
            if self.client.frame(self.i * STEP_NS, pose_at(0.12 * self.i)).has_depth:
                break
        self.client.wait(lambda: self.client.depths and self.client.clouds and self.confidences)
        hidden = depth_from_message(self.client.depths[-1]) == 0
        assert not depth_from_message(self.confidences[-1])[hidden].any()
        return hidden

    def publish(self, mask: np.ndarray, **changes) -> None:
        message = mask_message(mask, make_header(0, "camera"))
        for name, value in changes.items():
            setattr(message, name, value)
        self.masks.publish(message)
        self.masks.wait_for_all_acked(Duration(seconds=10))

    def input(self, part: str) -> DiagnosticStatus:
        """The node's next status of its input that says something."""
        self.diagnostics.arrays.clear()
        self.client.wait(lambda: self.diagnostics.statuses("depth_node: input", part))
        return self.diagnostics.statuses("depth_node: input", part)[-1]


@pytest.fixture(scope="module")
def walk(client, masks, node, diagnostics):
    walk = Walk(client, masks, diagnostics)
    client.wait_until_connected()
    return walk


def by(mask: np.ndarray) -> np.ndarray:
    return cv2.resize((mask > 0).astype(np.float32), (96, 64)) <= 0.999


def test_a_mask_hides_depth_confidence_and_points_until_another_comes(walk):
    np.testing.assert_array_equal(walk.hidden(), by(ARM))
    assert walk.client.clouds[-1].width <= (~by(ARM)).sum()
    other = np.ascontiguousarray(ARM[::-1])
    walk.publish(other)
    np.testing.assert_array_equal(walk.hidden(), by(other))
    values = {v.key: v.value for v in walk.input("").values}
    assert values["hidden by the mask %"] == "25.0" and values["mask topic"] == "/valid_mask"
    walk.publish(np.full(SIZE, 255, np.uint8))
    assert not walk.hidden().any()


BAD = {
    "all 0": (np.zeros(SIZE, np.uint8), {}, "it is 0 everywhere"),
    "encoding": (np.full(SIZE, 255, np.uint8), {"encoding": "32FC1"}, "its encoding must be mono8; got '32FC1'"),
    "cut off": (np.full(SIZE, 255, np.uint8), {"height": 49}, "the message was cut off"),
    "bomb": (np.full(SIZE, 255, np.uint8), {"height": 2**32 - 1, "width": 2**32 - 1, "step": 2**32 - 1}, "cut off"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_mask_is_refused_and_the_one_before_it_stays(walk, node, kind):
    pixels, changes, said = BAD[kind]
    walk.publish(ARM)
    walk.publish(pixels, **changes)
    np.testing.assert_array_equal(walk.hidden(), by(ARM))
    status = walk.input("a mask on /valid_mask is not used: ")
    assert said in status.message and status.level == DiagnosticStatus.WARN
    assert int({v.key: v.value for v in status.values}["masks refused"]) >= 1
    walk.publish(ARM)
    walk.input("images and camera_info come")


def test_a_mask_of_another_size_hides_nothing_and_is_said(walk, node):
    walk.publish(np.ascontiguousarray(np.vstack((ARM, ARM))))
    assert not walk.hidden().any()
    status = walk.input("a mask on /valid_mask is not used: it must have the size of the images, 64×48; got 64×96")
    assert status.level == DiagnosticStatus.WARN
    assert {v.key: v.value for v in status.values}["hidden by the mask %"] == "0.0"
    node.wait_for("it must have the size of the images, 64×48; got 64×96")
    walk.publish(ARM)
    np.testing.assert_array_equal(walk.hidden(), by(ARM))


def test_masks_in_quick_succession_are_said_once(walk, node):
    for i in range(20):
        walk.publish(np.zeros((48, 64 + i), np.uint8))
    walk.publish(ARM)
    np.testing.assert_array_equal(walk.hidden(), by(ARM))
    assert len(node.lines("a mask on /valid_mask is not used: it is 0 everywhere")) <= 4


def test_each_of_two_cameras_has_its_own_mask_and_hides_to_the_pixel_at_the_images_size(
    start_node, client, make_camera, tiny_weights
):
    remapped = client.node.create_publisher(Image, "left_arm", LATCHED)
    remapped.publish(mask_message(ARM, make_header(0, "left_optical")))
    parameters = {"weights": str(tiny_weights), "device": "cpu", "depth_size": "input", "transform_timeout_s": 60.0}
    for side in ("left", "right"):
        for topic in ("image", "camera_info"):
            parameters[f"qos_overrides./{side}/{topic}.subscription.reliability"] = "reliable"
    remap = ("/left/valid_mask:=/left_arm",)
    nodes = start_node("depth_nodes", parameters, remap=remap, arguments=("left", "right"))
    nodes.wait_for("depth is hidden where /left_arm is 0: 25.0 % of the image")
    for side, hidden in (("left", ARM == 0), ("right", np.zeros(SIZE, bool))):
        camera = make_camera(side)
        depths, confidences = (camera.listen(Image, topic) for topic in ("depth/image", "depth/confidence"))
        for i in range(1, 3):
            camera.send(i * STEP_NS, pose_at(0.12 * i))
            answer = camera.answer(i * STEP_NS)
        assert answer.has_depth
        client.wait(lambda: depths and confidences)  # noqa: B023
        np.testing.assert_array_equal(depth_from_message(depths[-1]) == 0, hidden)
        assert not depth_from_message(confidences[-1])[hidden].any()
    nodes.end_well()
    client.node.destroy_publisher(remapped)


@pytest.mark.slow
def test_a_recording_is_played_with_its_mask_and_recorded_with_it(start_node, play, client, masked_scene, tmp_path):
    recorder = start_node("recorder_node", {"out": str(tmp_path / "recorded")})
    recorder.wait_for("recording to")
    play(masked_scene, rate=2.0, limit=4)
    assert recorder.stop() == 0, recorder.log()
    assert BagFiles(tmp_path / "recorded").topics["/camera/valid_mask"].count == 1
    recorded = list(open_sequence(tmp_path / "recorded").items(depth=False))
    assert len(recorded) == 4
    for item in recorded:
        np.testing.assert_array_equal(item.valid_mask, ARM > 0)
    # The bag is played as the folder was, to who comes late too.
    heard: list = []
    player = start_node("replay_node", {"sequence": str(tmp_path / "recorded"), "rate": 0.1})
    client.wait(lambda: client.node.count_publishers("/camera/valid_mask"), 100.0)
    client.node.create_subscription(Image, "/camera/valid_mask", heard.append, LATCHED)
    client.wait(lambda: heard)
    np.testing.assert_array_equal(image_from_message(heard[0])[..., 0], ARM)
    assert stamp_to_ns(heard[0].header.stamp) == recorded[0].frame.stamp_ns
    player.stop()
