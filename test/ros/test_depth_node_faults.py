# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""A depth node that is treated badly over DDS: every image gets depth or a named reason, and the node lives."""

from __future__ import annotations

import array
import struct
import zlib
from collections.abc import Sequence

import cv2
import numpy as np
import pytest
from camera_poses import pose_at
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.qos import QoSProfile
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CompressedImage
from tf2_msgs.msg import TFMessage

from dvmvs_core.keyframes import KeyframeDecision
from dvmvs_ros.depth.frame_timeline import DropReason
from dvmvs_ros.messages.conversions import make_header, transform_message

STEP_NS = 100_000_000
HOUR_NS = 3600 * 10**9


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("clouds") / "kept"


@pytest.fixture(scope="module")
def node(start_depth_node, folder):
    node = start_depth_node(
        "image/compressed",
        image_transport="compressed",
        transform_timeout_s=30.0,
        warn_latency_s=0.001,
        error_latency_s=0.002,
        cloud_folder=str(folder),
    )
    node.wait_for("active: images from /image/compressed")
    yield node
    assert node.process.poll() is None, node.log()
    node.end_well()


@pytest.fixture(scope="module")
def manager(make_manager, node):
    return make_manager("depth_node")


class Walk:
    """A camera that goes 12 cm from image to image: each is a keyframe."""

    def __init__(self, client) -> None:
        self.client = client
        self.images = client.node.create_publisher(CompressedImage, "image/compressed", QoSProfile(depth=50))
        self.i = 0
        self.stamp_ns = 10_000_000_000

    def pose(self, stamp_ns: int) -> None:
        self.client.send_pose(stamp_ns, pose_at(0.12 * self.i))

    def send(self, data: bytes | None = None, pose: bool = True, d: Sequence[float] = ()) -> int:
        self.i += 1
        self.stamp_ns += STEP_NS
        if pose:
            self.pose(self.stamp_ns)
        self.client.send_camera_info(self.stamp_ns, d=d)
        whole = cv2.imencode(".png", self.client.picture(self.stamp_ns))[1].tobytes()
        message = CompressedImage(header=make_header(self.stamp_ns, "camera"), format="rgb8; png compressed bgr8")
        message.data = array.array("B", whole if data is None else data)
        self.images.publish(message)
        return self.stamp_ns

    def answered(self, *arguments, **named):
        return self.client.answer(self.send(*arguments, **named))


@pytest.fixture(scope="module")
def walk(client, node):
    walk = Walk(client)
    client.wait(lambda: walk.images.get_subscription_count() and client.camera_info.get_subscription_count())
    client.wait(client.tf.get_subscription_count)
    client.wait_until_known("depth_node")
    while walk.answered().outcome is not KeyframeDecision.KEYFRAME:
        pass
    return walk


def works(walk) -> bool:
    """Whether images get depth, the first of them after a reset perhaps not yet."""
    return any(walk.answered().has_depth for _ in range(5))


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png_of(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "said"),
    (
        (png_of(40000, 40000), "at most 49152 pixels; its header says 40000×40000"),
        (png_of(1000, 1000), "1000×1000"),
        (b"", "JPEG or PNG"),
        (b"\xff\xd8\xff", "header"),
        (np.random.default_rng(0).bytes(5000), "JPEG or PNG"),
    ),
)
def test_an_image_that_is_none_costs_that_image(walk, data, said):
    status = walk.answered(data)
    assert status.outcome is DropReason.BAD_IMAGE and said in status.detail, status
    assert works(walk)


def test_a_camera_info_of_a_lens_that_none_has_is_named_and_resets_nothing(walk, node):
    assert works(walk)
    assert all(walk.answered(d=d).has_depth for d in ((1e300, 0.0, 0.0, 0.0, 0.0), ())), "keyframes are kept"
    node.wait_for("camera_info ignored: camera_info: d must be finite coefficients")


def test_a_message_whose_text_is_no_text_costs_that_message(walk, client):
    message = CompressedImage(header=make_header(1, "abcdefgh"), format="png")
    walk.images.publish(serialize_message(message).replace(b"abcdefgh", b"\xff\xfe\xff\xfe\xff\xfe\xff\xfe"))
    assert works(walk)


def test_a_transform_an_hour_ahead_is_refused_and_named(walk, client, diagnostics):
    ahead = transform_message(walk.stamp_ns + HOUR_NS, "odom", "camera", np.eye(4))
    client.tf.publish(TFMessage(transforms=[ahead]))
    assert works(walk), "those that come after it are still believed"
    status = diagnostics.wait_for(": poses", DiagnosticStatus.WARN, "poses refused")
    assert "after the last image" in status.message


def test_a_quaternion_of_any_length_is_refused(walk, client):
    wrong = transform_message(walk.stamp_ns + STEP_NS // 2, "odom", "camera", np.eye(4))
    wrong.transform.rotation.x = wrong.transform.rotation.w = 1e200
    client.tf.publish(TFMessage(transforms=[wrong]))
    assert works(walk)


def test_a_chain_of_thousands_of_frames_and_a_loop_cost_no_image(walk, client):
    links = [transform_message(walk.stamp_ns, f"link{i}", f"link{i + 1}", np.eye(4)) for i in range(3000)]
    for start in range(0, len(links), 500):
        client.tf_static.publish(TFMessage(transforms=links[start : start + 500]))
    loop = [transform_message(walk.stamp_ns, a, b, np.eye(4)) for a, b in (("x", "y"), ("y", "x"))]
    client.tf_static.publish(TFMessage(transforms=loop))
    assert works(walk)


def test_reset_forgets_transforms_too(walk, client, manager):
    assert works(walk)
    walk.i += 1
    known_ns = walk.stamp_ns + STEP_NS
    walk.pose(known_ns)
    walk.stamp_ns = known_ns + STEP_NS
    walk.pose(walk.stamp_ns)
    answer = manager.trigger("reset")
    assert answer.success and "poses" in answer.message
    message = CompressedImage(header=make_header(known_ns, "camera"), format="png")
    message.data = array.array("B", cv2.imencode(".png", client.picture(1))[1].tobytes())
    walk.images.publish(message)
    walk.pose(walk.stamp_ns + STEP_NS // 2)
    assert client.answer(known_ns).outcome is DropReason.NO_TRANSFORM
    assert works(walk)


def test_clouds_stay_below_the_folder_of_the_start(walk, manager, folder):
    for value in ("~nouser/x", "/proc/x", "/etc", str(folder / ".." / ".."), "a\0b"):
        refused = manager.set("cloud_folder", value)
        assert not refused.successful and refused.reason, value
    assert works(walk)
    saved = manager.trigger("save_cloud")
    assert saved.success, saved.message
    assert [path.parent for path in folder.iterdir()] == [folder]
    (file,) = folder.iterdir()
    file.unlink()
    folder.rmdir()
    folder.write_text("in the way")
    refused = manager.trigger("save_cloud")
    folder.unlink()
    assert not refused.success and "cannot be written" in refused.message
    assert works(walk)


def test_old_depth_is_no_good_health(walk, diagnostics, manager):
    """The limits of this node are far below what any machine can keep."""
    old = ": depth", DiagnosticStatus.ERROR, "s old when it is published"
    diagnostics.wait_for(*old, lambda: works(walk))
    assert not manager.set("warn_latency_s", 1.0).successful, "it must be less than error_latency_s"
    assert manager.set("error_latency_s", 3600.0).successful
    diagnostics.arrays.clear()
    diagnostics.wait_for(old[0], DiagnosticStatus.WARN, old[2], lambda: works(walk))
    levels = {status.level for status in diagnostics.statuses(old[0], old[2])}
    assert DiagnosticStatus.ERROR not in levels or len(diagnostics.arrays) < 3


def test_a_second_node_of_the_same_name_is_said(walk, diagnostics):
    import rclpy

    assert not diagnostics.statuses(part="nodes are named")
    other = rclpy.create_node("depth_node")
    try:
        diagnostics.wait_for("", DiagnosticStatus.ERROR, "2 nodes are named /depth_node")
    finally:
        other.destroy_node()


def test_every_image_is_accounted_for(walk, client, diagnostics):
    diagnostics.arrays.clear()
    assert works(walk)

    def accounted(status) -> bool:
        values = {pair.key: pair.value for pair in status.values}
        ended = sum(int(n) for key, n in values.items() if key.startswith(("decided ", "dropped ")))
        return int(values["images received"]) == ended > 20

    client.wait(lambda: any(map(accounted, diagnostics.statuses(": input"))))
