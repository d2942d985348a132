# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Poses of Odometry and PoseStamped messages: composed with the mounting, interpolated, never extrapolated."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from camera_poses import fill_pose
from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped
from nav_msgs.msg import Odometry

from dvmvs_core.errors import ConfigError, TransformExtrapolationError, TransformLookupError
from dvmvs_ros.messages.conversions import make_header
from dvmvs_ros.poses.pose_messages import PoseMessages, parse_body_T_camera

SECOND = 1_000_000_000
BASE_T_CAM = np.array(((0.0, 0, 1, 0.2), (-1, 0, 0, 0), (0, -1, 0, 0.5), (0, 0, 0, 1)))
"""Optical axis z along the body's x; the image's right x along its right, −y; the image's down y along −z."""


class Topic:
    topic_name = "/odometry"


class FakeNode:
    """Keeps the callback of the only subscription."""

    def create_subscription(self, message_type, topic, callback, **options):
        self.send, self.subscription = callback, Topic()
        return self.subscription

    def destroy_subscription(self, subscription) -> None:
        assert subscription is self.subscription
        self.send = None


class Tf:
    """TF of the camera's place on base_link, and nothing else."""

    cleared = closed = False

    def lookup(self, target: str, source: str, stamp_ns: int) -> np.ndarray:
        if (target, source) != ("base_link", "camera_optical"):
            raise TransformLookupError(f"the frame {target!r} is not known")
        return BASE_T_CAM

    def frames(self) -> list[str]:
        return ["base_link", "camera_optical"]

    def contradiction(self, target: str, source: str) -> str:
        return f"{source} in {target}"

    def clear(self) -> None:
        self.cleared = True

    def close(self) -> None:
        self.closed = True


class Bench:
    def __init__(self, message_type=Odometry, body_frame: str = "", body_T_camera: np.ndarray | None = None) -> None:
        self.node, self.tf, self.changes, self.warnings = FakeNode(), Tf(), [], []
        self.poses = PoseMessages(
            self.node,
            message_type,
            "odometry",
            body_frame,
            10.0,
            body_T_camera,
            self.tf,
            lambda: self.changes.append(1),
            self.warnings.append,
        )

    def odometry(self, stamp_s: float, world_T_body: np.ndarray, child: str = "base_link") -> None:
        self.send(Odometry(child_frame_id=child), "odom", stamp_s, world_T_body)

    def pose(self, stamp_s: float, world_T_body: np.ndarray) -> None:
        self.send(PoseStamped(), "map", stamp_s, world_T_body)

    def send(self, message, frame: str, stamp_s: float, world_T_body: np.ndarray) -> None:
        message.header = make_header(int(stamp_s * SECOND), frame)
        fill_pose(getattr(message.pose, "pose", message.pose), world_T_body)
        self.node.send(message)

    def lookup(self, stamp_s: float) -> np.ndarray:
        return self.poses.lookup("odom", "camera_optical", int(stamp_s * SECOND))


def body(x: float, yaw: float = 0.0) -> np.ndarray:
    world_T_body = np.eye(4)
    world_T_body[:3, :3] = cv2.Rodrigues(np.array((0.0, 0.0, yaw)))[0]
    world_T_body[0, 3] = x
    return world_T_body


@pytest.mark.parametrize(
    ("message", "body_frame", "mounted"),
    [
        (Odometry(child_frame_id="base_link"), "", True),
        (Odometry(child_frame_id="imu"), "base_link", True),
        (Odometry(child_frame_id=""), "", False),
        (Odometry(child_frame_id="camera_optical"), "", False),
        (Odometry(child_frame_id="/camera_optical"), "", False),
        (PoseWithCovarianceStamped(), "base_link", True),
        (PoseStamped(), "base_link", True),
        (PoseStamped(), "", False),
    ],
    ids=(
        *("odometry of the body", "the parameter is stronger than the message", "odometry of no frame"),
        *("odometry of the camera", "odometry of the camera with a slash", "with covariance"),
        *("pose of the frame of the parameter", "pose of the camera"),
    ),
)
def test_a_pose_is_composed_with_the_mounting_unless_it_is_the_cameras(message, body_frame, mounted):
    bench = Bench(type(message), body_frame)
    bench.send(message, "odom", 1.0, body(2.0, 0.5))
    np.testing.assert_allclose(bench.lookup(1.0), body(2.0, 0.5) @ (BASE_T_CAM if mounted else np.eye(4)), atol=1e-12)
    assert bench.changes == [1]


def test_between_two_messages_the_pose_is_between_and_beyond_them_it_must_wait():
    bench = Bench()
    bench.odometry(1.0, body(2.0, 0.0))
    with pytest.raises(TransformExtrapolationError) as caught:
        bench.lookup(1.5)
    assert caught.value.may_come
    bench.odometry(2.0, body(4.0, 0.4))
    np.testing.assert_allclose(bench.lookup(1.5), body(3.0, 0.2) @ BASE_T_CAM, atol=1e-12)
    with pytest.raises(TransformExtrapolationError) as caught:
        bench.lookup(0.5)
    assert not caught.value.may_come


def test_before_the_first_message_the_topic_is_named():
    with pytest.raises(TransformLookupError, match="no pose has come on /odometry"):
        Bench().lookup(1.0)


def test_a_mounting_that_nobody_published_is_said():
    bench = Bench()
    bench.odometry(1.0, body(2.0), child="imu")
    with pytest.raises(TransformLookupError, match="'imu' is not known.*parameter mounting"):
        bench.lookup(1.0)


@pytest.mark.parametrize("frame", ("camera_optical", "camera", "unheard_of"))
def test_a_mounting_by_parameter_asks_no_tf(frame):
    odometry, pose = Bench(body_T_camera=BASE_T_CAM), Bench(PoseStamped, body_T_camera=BASE_T_CAM)
    odometry.odometry(1.0, body(2.0, 0.5), child="imu")
    pose.pose(1.0, body(2.0, 0.5))
    for bench in (odometry, pose):
        world_T_cam = bench.poses.lookup("odom", frame, SECOND)
        np.testing.assert_allclose(world_T_cam, body(2.0, 0.5) @ BASE_T_CAM, atol=1e-12)


def test_what_is_known_is_told():
    bench = Bench()
    assert not bench.poses.heard and bench.poses.newest_ns("odom", "camera_optical") is None
    bench.odometry(1.0, body(2.0))
    bench.odometry(1.5, body(2.1))
    assert bench.poses.heard and bench.poses.newest_ns("odom", "camera_optical") == 1.5 * SECOND
    assert bench.poses.frames() == ["base_link", "camera_optical", "odom"]


def test_a_pose_with_nan_is_ignored_and_said():
    bench = Bench()
    lost = body(np.nan)
    bench.odometry(1.0, lost)
    assert len(bench.warnings) == 1 and "must be finite" in bench.warnings[0]
    bench.odometry(2.0, body(1.0))
    np.testing.assert_allclose(bench.lookup(2.0), body(1.0) @ BASE_T_CAM, atol=1e-12)


def test_clear_forgets_the_poses_and_close_ends_both():
    bench = Bench()
    bench.odometry(1.0, body(2.0))
    bench.poses.clear()
    with pytest.raises(TransformExtrapolationError):
        bench.lookup(1.0)
    bench.poses.close()
    assert bench.tf.cleared and bench.tf.closed and bench.node.send is None


@pytest.mark.parametrize("child", ("base_link", "other/base_link"))
def test_two_publishers_of_one_topic_are_noticed(child):
    bench = Bench()
    for i in range(10):
        bench.odometry(1.0 + i / 30, body(0.01 * i))
        bench.odometry(1.001 + i / 30, body(0.01 * i + (3.0 if child == "base_link" else 0.0)), child=child)
    said = bench.poses.contradiction("odom", "camera_optical")
    assert said.startswith("poses of 'odometry' in 'odom → ") and "contradict each other: " in said
    assert ("3.00 m" in said) if child == "base_link" else ("now below 'odom → " in said)


def test_where_poses_agree_the_transforms_of_the_camera_are_asked():
    bench = Bench()
    assert bench.poses.contradiction("odom", "camera_optical") == ""
    bench.odometry(1.0, body(2.0))
    assert bench.poses.contradiction("odom", "camera_optical") == "camera_optical in base_link"


@pytest.mark.parametrize(
    "text",
    ["0.2 0 0.5 -1.57079632679 0 -1.57079632679", "0.2, 0, 0.5, -0.5, 0.5, -0.5, 0.5", "0.2 0 0.5 -1 1 -1 1"],
)
def test_convention_fixed_axes_and_quaternion_x_y_z_w(text):
    np.testing.assert_allclose(parse_body_T_camera(text), BASE_T_CAM, atol=1e-9)


@pytest.mark.parametrize("text", ["1 2 3", "0 0 0 0 0 north", "0 0 0 0 0 nan", "0 0 0 0 0 0 0", "1 2 3 4 5 6 7 8"])
def test_what_is_no_place_is_refused(text):
    with pytest.raises(ConfigError, match="mounting"):
        parse_body_T_camera(text)
