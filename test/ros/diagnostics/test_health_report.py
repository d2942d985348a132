# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Nobody faces silence: a node for each thing that can be wrong, and what /diagnostics and the log say of it."""

from __future__ import annotations

from itertools import count

import numpy as np
import pytest
from camera_poses import pose_at
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import TransformStamped
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from tf2_msgs.msg import TFMessage

from dvmvs_core.runtime.devices import cpu_precision
from dvmvs_ros.depth.frame_timeline import DropReason
from dvmvs_ros.messages.conversions import (
    camera_info_message,
    make_header,
    rgb_message,
    transform_message,
)

STEP_NS = 33_333_333
TIMEOUT_S = 1.0
CAMERAS = (
    *("dark", "deaf", "wrong", "blind", "lost", "silent", "giant", "turning"),
    *("crooked", "raw", "coded", "here", "apart", "torn", "good"),
)
ANY_SPEED = {
    "warn_drop_ratio": 1.0,
    "warn_latency_s": 100.0,
    "error_latency_s": 200.0,
    "transform_timeout_s": 100.0,
    "image_queue_size": 200,
    "input_timeout_s": 100.0,
}
"""How fast the tests' computer is says nothing of a camera: these nodes do not warn of it."""
OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR


def reliable(name: str) -> dict[str, object]:
    """Parameters that let nothing of a camera get lost."""
    return {
        f"qos_overrides./{name}/{topic}.subscription.{policy}": value
        for topic in ("image", "camera_info")
        for policy, value in (("reliability", "reliable"), ("depth", 200))
    }


@pytest.fixture(scope="module")
def nodes(start_node, client, tiny_weights):
    # Before the nodes, who are told its name then; of a new one they may only know that it has just started.
    client.node.create_publisher(Image, "/deaf/valid_mask", QoSProfile(depth=1))
    nodes = start_node(
        "depth_nodes",
        {
            "/**": {"weights": str(tiny_weights), "device": "cpu", "input_timeout_s": TIMEOUT_S},
            "/deaf/depth_node": {"qos_overrides./deaf/image.subscription.reliability": "reliable"},
            "/silent/depth_node": {"pose_source": "odometry"},
            "/here/depth_node": {"world_frame": "here_optical"},
            "/crooked/depth_node": {"qos_overrides./crooked/image.subscription.reliability": "sometimes"},
            **{f"/{name}/depth_node": reliable(name) for name in ("giant", "turning")},
            "/good/depth_node": reliable("good") | ANY_SPEED,
        },
        arguments=CAMERAS,
    )
    nodes.wait_for("active: images from", len(CAMERAS) - 1)
    yield nodes
    nodes.end_well()


@pytest.fixture(scope="module")
def walk(nodes, client, make_camera):
    """Let a camera move through frames of 33 ms."""

    def walk(name: str, frames: int, step_m: float, turn_deg: float = 0.0) -> None:
        camera = make_camera(name)
        for i in range(frames):
            world_T_cam = pose_at(step_m * i, turned=np.radians(turn_deg * i))
            camera.send(5_000_000_000 + i * STEP_NS, world_T_cam, np.zeros((48, 64, 3), np.uint8))
            client.idle(0.01)

    return walk


def test_no_image_at_all_names_the_topic_and_those_that_there_are(nodes, client, diagnostics):
    client.node.create_publisher(Image, "/somewhere/image_raw", QoSProfile(depth=1))
    status = diagnostics.wait_for("/dark/depth_node: input", ERROR, "no image on /dark/image for")
    assert "Nobody publishes it" in status.message
    assert {value.key: value.value for value in status.values}["help"] == "docs/troubleshooting.md#no-image"
    diagnostics.wait_for("/dark/depth_node: input", ERROR, "/somewhere/image_raw")
    assert nodes.lines("no image on /dark/image for"), "and the log says so"


def test_a_publisher_that_cannot_be_heard_is_named(nodes, client, diagnostics):
    best_effort = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
    client.node.create_publisher(Image, "/deaf/image", best_effort)
    status = diagnostics.wait_for("/deaf/depth_node: input", ERROR, "/client publishes /deaf/image")
    assert "eliab" in status.message and "qos_overrides./deaf/image.subscription" in status.message
    nodes.wait_for("/client publishes /deaf/image, but nothing of it arrives")


def test_a_mask_that_cannot_be_heard_is_said(nodes):
    nodes.wait_for("/client publishes /deaf/valid_mask, but nothing of it arrives")
    nodes.wait_for("qos_overrides./deaf/valid_mask.subscription.*")


def test_a_subscriber_that_cannot_be_served_is_named(nodes, client):
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    client.node.create_subscription(Image, "/dark/depth/image", lambda _: None, latched)
    nodes.wait_for("subscribes to /dark/depth/image but gets nothing")
    (line,) = nodes.lines("subscribes to /dark/depth/image")
    assert (
        "olatile publisher and transient local subscription" in line
        and "eadline" not in line
        and "qos_overrides./dark/depth/image.publisher" in line
    )


def test_another_type_on_the_topic_is_said(client, diagnostics):
    client.node.create_publisher(CompressedImage, "/wrong/image", QoSProfile(depth=5))
    diagnostics.wait_for("/wrong/depth_node: input", ERROR, "published as sensor_msgs/msg/CompressedImage")


def test_images_without_camera_info_are_said(nodes, diagnostics, make_camera, stamps_ns):
    camera = make_camera("blind")

    def send() -> None:
        header = make_header(next(stamps_ns), camera.frame)
        camera.image.publish(rgb_message(np.zeros((48, 64, 3), np.uint8), header))

    diagnostics.wait_for("/blind/depth_node: input", ERROR, "no camera_info on /blind/camera_info for", send)
    assert nodes.lines("no camera_info on /blind/camera_info for")


@pytest.fixture
def stamps_ns():
    """The stamps of a stream of images, which goes on for as long as it is asked."""
    return count(5_000_000_000, STEP_NS)


@pytest.fixture(scope="module")
def faulty_cameras(nodes, make_camera) -> dict:
    """Cameras that send what cannot be used, by name."""
    return {name: make_camera(name) for name in ("raw", "coded", "apart")}


@pytest.fixture(scope="module")
def send_faulty(client, faulty_cameras):
    """Send the next image of each faulty camera."""
    stamps_ns = count(5_000_000_000, STEP_NS)

    def send() -> None:
        stamp_ns = next(stamps_ns)
        for name, camera in faulty_cameras.items():
            header = make_header(stamp_ns, camera.frame)
            image = rgb_message(np.zeros((48, 64, 3), np.uint8), header)
            info = camera_info_message(client.K, 48, 64, header)
            if name == "raw":
                info = CameraInfo(header=header, height=48, width=64)
            elif name == "coded":
                image.encoding = "h264"
            else:
                other = transform_message(stamp_ns + 1_000_000_000_000, "odom", camera.frame, np.eye(4))
                client.tf.publish(TFMessage(transforms=[other]))
            camera.camera_info.publish(info)
            camera.image.publish(image)

    return send


def test_a_camera_that_is_not_calibrated_is_said(client, diagnostics, faulty_cameras, send_faulty):
    said = "no usable camera_info on /raw/camera_info for"
    status = diagnostics.wait_for("/raw/depth_node: input", ERROR, said, send_faulty)
    assert "K must have positive focal lengths" in status.message and "Calibrate" in status.message
    statuses = faulty_cameras["raw"].statuses
    client.wait(lambda: statuses)
    assert statuses[0].outcome is DropReason.BAD_CAMERA_INFO and "Calibrate" in statuses[0].detail


def test_images_that_cannot_be_read_are_not_blamed_on_poses(nodes, diagnostics, send_faulty):
    diagnostics.wait_for("/coded/depth_node: input", WARN, "bad_image", send_faulty)
    diagnostics.wait_for("/coded/depth_node: poses", OK, "images are dropped for other reasons", send_faulty)
    assert not [line for line in nodes.lines("[coded.depth_node]") if "no transform" in line]


def test_poses_of_another_clock_are_said(diagnostics, send_faulty):
    diagnostics.wait_for("/apart/depth_node: poses", ERROR, "The newest is 1000 s after the last image", send_faulty)


@pytest.mark.parametrize(
    ("camera", "motion", "said"),
    [
        ("here", (10, 0.03), "are both 'here_optical', so the camera seems never to move"),
        ("giant", (12, 2.3), "poses look unscaled: median baseline 2.3 m between frames"),
        ("turning", (110, 0.0001, 0.5), "pure rotation"),
    ],
    ids=["own frame", "another unit", "pure rotation"],
)
def test_what_poses_look_like_is_said(nodes, walk, diagnostics, camera, motion, said):
    walk(camera, *motion)
    diagnostics.wait_for(f"/{camera}/depth_node: poses", WARN, said)
    nodes.wait_for(said)


def test_a_missing_transform_names_both_frames_and_those_known(nodes, client, diagnostics, make_camera, stamps_ns):
    camera = make_camera("lost")
    stray = TransformStamped(header=make_header(1, "map"), child_frame_id="robot")
    stray.transform.rotation.w = 1.0
    client.tf.publish(TFMessage(transforms=[stray]))

    def send() -> None:
        camera.send(next(stamps_ns), None)

    said = "no transform from 'lost_optical' to 'odom' for"
    status = diagnostics.wait_for("/lost/depth_node: poses", ERROR, said, send)
    assert "frames known: " in status.message and "map" in status.message and "robot" in status.message
    diagnostics.wait_for("/lost/depth_node: input", WARN, "no_transform", send)
    assert nodes.lines(said)


def test_a_pose_topic_that_is_silent_is_named(diagnostics, make_camera, stamps_ns):
    camera = make_camera("silent")

    def send() -> None:
        camera.send(next(stamps_ns), None)

    status = diagnostics.wait_for("/silent/depth_node: poses", ERROR, "no pose on /silent/odometry for", send)
    assert "Nobody publishes it" in status.message and "nav_msgs/msg/Odometry" in status.message


def test_a_quality_that_does_not_exist_is_one_clear_line_and_harms_nobody_else(nodes):
    (line,) = nodes.lines("[crooked.depth_node]: cannot")
    assert "Unexpected QoS override for policy `reliability`: `sometimes`" in line and "qos_overrides" in line


def test_two_publishers_of_one_transform_are_said(client, make_camera, diagnostics):
    """Two robots, 47 m apart, whose frames have the same names."""
    camera = make_camera("torn")
    for i in range(20):
        stamp_ns = 5_000_000_000 + i * STEP_NS
        for robot in range(2):
            at = pose_at(0.03 * i + 47.0 * robot)
            transform = transform_message(stamp_ns + 3_000_000 * robot, "odom", camera.frame, at)
            client.tf.publish(TFMessage(transforms=[transform]))
        camera.send(stamp_ns, None, np.zeros((48, 64, 3), np.uint8))
        client.idle(0.01)
    what = "transforms of 'torn_optical' in 'odom' contradict each other: 4"
    status = diagnostics.wait_for("/torn/depth_node: poses", WARN, what)
    assert "Do two publishers send it?" in status.message
    help_section = {value.key: value.value for value in status.values}["help"]
    assert help_section == "docs/troubleshooting.md#poses-contradict"


def test_what_is_well_is_not_complained_about(nodes, client, walk, diagnostics):
    walk("good", 40, step_m=0.03)
    diagnostics.wait_for("/good/depth_node: poses", OK, "every image gets its pose")

    def rate_hz() -> float:
        return max(
            float(status.message.split()[0])
            for status in diagnostics.statuses("/good/depth_node: depth")
            if status.level == OK
        )

    client.wait(lambda: rate_hz() > 0.0)
    said = nodes.lines("[good.depth_node]: ")
    assert [line for line in said if "[WARN]" in line or "[ERROR]" in line] == []


def test_the_mode_is_told_together_with_what_it_came_to(nodes, diagnostics):
    engine = diagnostics.wait_for("/good/depth_node: engine", OK, "fusionnet")
    (mode,) = (pair.value for pair in engine.values if pair.key == "mode")
    assert mode == f"auto: OpenVINO on CPU, {cpu_precision('auto')}; compiled plane sweep; matching fast"
