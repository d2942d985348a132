# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Compressed raw images and odometry in, every output out, over DDS: the depth is that of the engine offline.

The last test has the node as one of several robots: in a namespace, TF remapped, simulated time, intrinsics once.
"""

from __future__ import annotations

import array

import cv2
import numpy as np
import pytest
from camera_poses import fill_pose, pose_at
from nav_msgs.msg import Odometry
from rclpy.qos import DurabilityPolicy, QoSProfile
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from tf2_msgs.msg import TFMessage

from dvmvs_core.data.encodings.pictures import colour_depth
from dvmvs_core.data.lens.rectification import Rectifier
from dvmvs_core.keyframes import KeyframeDecision
from dvmvs_core.types import Frame
from dvmvs_ros.messages.conversions import (
    CloudFilter,
    camera_from_message,
    camera_info_message,
    cloud_message,
    depth_from_message,
    image_from_message,
    make_header,
    ns_to_stamp,
    points_from_message,
    rgb_message,
    stamp_to_ns,
    transform_message,
)

STEP_NS = 33_333_333
COEFFICIENTS = (-0.05, 0.02, 0.0, 0.0)
MIN_CONFIDENCE = 0.1
FRAMES = 7
BASE_T_CAM = np.array(((0.0, 0, 1, 0.2), (-1, 0, 0, 0), (0, -1, 0, 0.5), (0, 0, 0, 1)))


@pytest.fixture(scope="module")
def node(start_depth_node):
    """An active node that takes compressed images of a remapped topic."""
    node = start_depth_node(
        "cam/image_raw/compressed",
        image_transport="compressed",
        pose_source="odometry",
        depth_encoding="16UC1",
        points_min_confidence=MIN_CONFIDENCE,
        preview_max_depth_m=5.0,
        how={"remap": ("image:=cam/image_raw",)},
    )
    node.wait_for("active: images from /cam/image_raw/compressed")
    yield node
    node.end_well()


@pytest.fixture(scope="module")
def camera_message(client):
    """The camera_info of a fisheye camera at a time."""

    def message(stamp_ns: int):
        info = camera_info_message(client.K, 48, 64, make_header(stamp_ns, "camera"))
        info.distortion_model, info.d = "equidistant", COEFFICIENTS
        return info

    return message


def pose(i: int) -> np.ndarray:
    """A walk of 12 cm steps: every frame is a keyframe."""
    return pose_at(0.12 * i, 0.01 * np.sin(i))


@pytest.fixture(scope="module")
def send_pose(client, node):
    """Publish the pose of base_link at a time, so that the camera on it has a given one."""
    odometry = client.node.create_publisher(Odometry, "odometry", QoSProfile(depth=50))
    client.tf_static.publish(TFMessage(transforms=[transform_message(1, "base_link", "camera", BASE_T_CAM)]))
    client.wait(odometry.get_subscription_count, 60.0)
    client.wait_until_known("depth_node")

    def send(stamp_ns: int, world_T_cam: np.ndarray) -> None:
        message = Odometry(header=make_header(stamp_ns, "odom"), child_frame_id="base_link")
        fill_pose(message.pose.pose, world_T_cam @ np.linalg.inv(BASE_T_CAM))
        odometry.publish(message)

    return send


def compressed(stamp_ns: int, data: bytes) -> CompressedImage:
    message = CompressedImage(header=make_header(stamp_ns, "camera"), format="rgb8; png compressed bgr8")
    message.data = array.array("B", data)
    return message


@pytest.fixture(scope="module")
def images(client, node):
    """Publisher of the node's images, connected."""
    publisher = client.node.create_publisher(CompressedImage, "cam/image_raw/compressed", QoSProfile(depth=50))
    client.wait(publisher.get_subscription_count, 60.0)
    client.wait(client.tf_static.get_subscription_count, 60.0)
    client.wait(lambda: client.node.count_publishers("/depth_node/frame_status"))
    client.wait_until_known("depth_node")
    return publisher


def test_compressed_raw_images_give_the_depth_of_rectified_ones_and_every_output(
    node, client, images, camera_message, send_pose, begins_ns, engine
):
    confidences, previews = [], []
    client.node.create_subscription(Image, "depth/confidence", confidences.append, QoSProfile(depth=50))
    client.node.create_subscription(Image, "depth/preview", previews.append, QoSProfile(depth=50))
    client.wait_until_known("depth_node")
    rectifier = Rectifier(camera_from_message(camera_message(1)), (64, 96))
    expected, begin_ns = {}, next(begins_ns)
    for i in range(FRAMES):
        stamp_ns = begin_ns + i * STEP_NS
        picture = client.picture(stamp_ns)
        send_pose(stamp_ns, pose(i))
        client.camera_info.publish(camera_message(stamp_ns))
        images.publish(compressed(stamp_ns, cv2.imencode(".png", picture[..., ::-1])[1].tobytes()))
        answer = client.answer(stamp_ns)
        prediction = engine.step(Frame(rectifier.image(picture), rectifier.K, pose(i), stamp_ns, i))
        assert answer.outcome is engine.last_decision, answer
        if prediction is not None:
            expected[stamp_ns] = prediction
    assert len(expected) == FRAMES - 1
    outputs = (client.depths, client.depth_infos, client.clouds, confidences, previews)
    client.wait(lambda: all(len(messages) >= len(expected) for messages in outputs))
    assert node.lines("poses from /odometry")
    (line,) = node.lines("are rectified by camera_info (equidistant")
    assert "/cam/image_raw" in line
    for depth, info, cloud, confidence, preview in zip(*outputs, strict=True):
        prediction = expected[stamp_to_ns(depth.header.stamp)]
        assert depth.header == info.header == cloud.header == confidence.header == preview.header
        assert depth.encoding == "16UC1"
        np.testing.assert_allclose(depth_from_message(depth), prediction.depth, rtol=1e-5, atol=0.00051)
        np.testing.assert_allclose(np.reshape(info.k, (3, 3)), prediction.K)
        seen = np.frombuffer(confidence.data, "<f4").reshape(64, 96)
        np.testing.assert_allclose(seen, prediction.confidence, atol=1e-4)
        expected_preview = colour_depth(prediction.depth, 0.5, 5.0).astype(int)
        assert np.abs(image_from_message(preview) - expected_preview).mean() < 0.5
        points, _ = points_from_message(cloud)
        kept, _ = points_from_message(cloud_message(prediction, cloud.header, CloudFilter(MIN_CONFIDENCE)))
        assert 0 < len(points) < 64 * 96 and abs(len(points) - len(kept)) <= 3


def test_bytes_that_are_no_image_are_one_clear_line(node, client, images, begins_ns):
    begin_ns = next(begins_ns)
    for i in range(3):
        stamp_ns = begin_ns + i * STEP_NS
        images.publish(compressed(stamp_ns, b"no image"))
        answer = client.answer(stamp_ns)
        assert answer.outcome.value == "bad_image" and "must be a whole JPEG or PNG" in answer.detail
    assert len(node.lines("must be a whole JPEG or PNG")) == 1


def test_a_lens_that_nobody_knows_is_one_clear_line(node, client, images, camera_message, send_pose, begins_ns):
    stamp_ns = next(begins_ns)
    info = camera_message(stamp_ns)
    info.distortion_model = "omnidirectional"
    client.camera_info.publish(info)
    send_pose(stamp_ns, pose(50))
    images.publish(compressed(stamp_ns, cv2.imencode(".png", client.picture(stamp_ns))[1].tobytes()))
    answer = client.answer(stamp_ns)
    assert answer.outcome.value == "bad_camera_info", answer
    assert "got 'omnidirectional'" in answer.detail


SECOND = 1_000_000_000
REMAP = ("__ns:=/robot", "/tf:=tf", "/tf_static:=tf_static", "image:=camera/color/image_rect")


class Robot:
    """Publishes in the namespace /robot what its camera, odometry and simulation do."""

    def __init__(self, client) -> None:
        self._client = client
        create = client.node.create_publisher
        qos = QoSProfile(depth=50)
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.clock = create(Clock, "/clock", qos)
        self._tf = create(TFMessage, "/robot/tf", qos)
        self.image = create(Image, "/robot/camera/color/image_rect", qos)
        create(CameraInfo, "/robot/camera_info", latched).publish(
            camera_info_message(client.K, 48, 64, make_header(1, "camera"))
        )

    def send(self, stamp_ns: int, x_m: float) -> None:
        """Send clock, pose and image of a time."""
        self.clock.publish(Clock(clock=ns_to_stamp(stamp_ns)))
        self._tf.publish(TFMessage(transforms=[transform_message(stamp_ns, "odom", "camera", pose_at(x_m))]))
        self.image.publish(rgb_message(self._client.picture(stamp_ns), make_header(stamp_ns, "camera")))


def test_a_namespace_remapped_tf_simulated_time_and_latched_intrinsics(start_depth_node, client, make_camera):
    answers = make_camera("robot", connected=False)
    robot = Robot(client)
    latched = {"qos_overrides./robot/camera_info.subscription.durability": "transient_local"}
    topics = "robot/camera/color/image_rect", "robot/camera_info"
    node = start_depth_node(*topics, use_sim_time=True, how={"remap": REMAP}, **latched)
    node.wait_for("active: images from /robot/camera/color/image_rect, intrinsics from /robot/camera_info")
    client.wait(lambda: robot.image.get_subscription_count() and robot.clock.get_subscription_count())
    client.wait(lambda: client.node.count_publishers("/robot/depth_node/frame_status"))
    client.wait_until_known("robot/depth_node")

    def outcomes(first_ns: int) -> list[KeyframeDecision]:
        decisions = []
        for i in range(3):
            robot.send(first_ns + i * SECOND, 0.2 * i)
            decisions.append(answers.answer(first_ns + i * SECOND).outcome)
        return decisions

    walk = [KeyframeDecision.FIRST, KeyframeDecision.KEYFRAME, KeyframeDecision.KEYFRAME]
    assert outcomes(100 * SECOND) == walk
    assert outcomes(20 * SECOND) == walk, "the simulation was started again"
    assert "time went back" in node.log()
    node.end_well()
