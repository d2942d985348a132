# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Two cameras in one process, each with outputs of its own kind, over DDS."""

from __future__ import annotations

import time

import cv2
import numpy as np
import pytest
from camera_poses import fill_pose, pose_at
from geometry_msgs.msg import PoseStamped
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2, Range

from dvmvs_core.data.encodings.compressed_depth import decode_compressed_depth
from dvmvs_core.data.lens.camera_info import CameraModel, Lens
from dvmvs_core.data.lens.rectification import Rectifier
from dvmvs_core.geometry import backproject
from dvmvs_core.keyframes import KeyframeDecision
from dvmvs_core.types import Frame
from dvmvs_ros import depth_nodes
from dvmvs_ros.depth.frame_timeline import DropReason
from dvmvs_ros.messages.conversions import (
    depth_from_message,
    make_header,
    points_from_message,
    stamp_to_ns,
)
from dvmvs_ros.messages.upsampling import upsample_depth

STEP_NS = 33_333_333
LOST_S = 10.0
"""An image of which nothing was heard for so long is lost."""
BASE_T_CAM = np.array(((0.0, 0, 1, 0.2), (-1, 0, 0, 0), (0, -1, 0, 0.5), (0, 0, 0, 1)))


def reliable(*topics: str) -> dict[str, object]:
    """Parameters that let no message of a topic get lost."""
    policies = {"reliability": "reliable", "depth": 50}
    return {
        f"qos_overrides.{topic}.subscription.{policy}": value for topic in topics for policy, value in policies.items()
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("clouds") / "made" / "here"


@pytest.fixture(scope="module")
def nodes(start_node, tiny_weights, folder):
    """Both nodes: front takes TF and gives every image depth of its own size, rear takes pose messages."""
    nodes = start_node(
        "depth_nodes",
        {
            # A network that has learnt nothing is sure of nothing.
            "/**": {
                "weights": str(tiny_weights),
                "device": "cpu",
                "points_min_confidence": 0.0,
                "transform_timeout_s": 60.0,
            },
            "/front/depth_node": {
                "depth_for": "every_image",
                "depth_size": "input",
                "cloud_folder": str(folder),
                **reliable("/front/image", "/front/camera_info"),
            },
            "/rear/depth_node": {
                "depth_encoding": "16UC1",
                "pose_source": "pose",
                "mounting": "0.2 0 0.5 -1.57079632679 0 -1.57079632679",
                **reliable("/rear/image", "/rear/camera_info", "/rear/pose"),
                "qos_overrides./rear/range_image.publisher.depth": 50,
            },
            "/plain/depth_node": {"qos_overrides./plain/image.subscription.depth": 50},
            "/side/depth_node": reliable("/side/image", "/side/camera_info"),
        },
        remap=("/rear/depth/image:=/rear/range_image",),
        arguments=("front", "/rear", "side", "plain"),
    )
    nodes.wait_for("active: images from", 4)
    yield nodes
    nodes.end_well()
    assert len(nodes.lines("inactive:")) == 4, nodes.log()


def pose(i: float, step_m: float = 0.04) -> np.ndarray:
    """A walk to the right: with 4 cm steps every third frame is a keyframe."""
    return pose_at(step_m * i, z=0.005 * i)


class Walk:
    """Frames that go on from test to test, as one camera's life does."""

    def __init__(self, camera) -> None:
        self.camera = camera
        self.frames = 0
        self.steps = 0.0

    def send(self, steps: float = 1.0, waits: bool = True):
        """Send the next frame; returns its stamp and pose, and the node's answer if waited for."""
        self.frames += 1
        self.steps += steps
        stamp_ns, world_T_cam = 5_000_000_000 + self.frames * STEP_NS, pose(self.steps)
        self.camera.send(stamp_ns, world_T_cam)
        return stamp_ns, world_T_cam, self.camera.answer(stamp_ns) if waits else None

    def send_at_once(self, frames: int) -> list:
        """Send frames faster than the engine takes them, from almost one place; returns the node's answers."""
        stamps_ns = [self.send(steps=0.01, waits=False)[0] for _ in range(frames)]
        return [self.camera.answer(stamp_ns) for stamp_ns in stamps_ns]


@pytest.fixture(scope="module")
def front(nodes, make_camera):
    return make_camera("front")


@pytest.fixture(scope="module")
def walk(front) -> Walk:
    """A walk whose first keyframe is there, so that every later image has depth."""
    walk = Walk(front)
    walk.send()
    return walk


@pytest.fixture(scope="module")
def manager(make_manager):
    return make_manager("front/depth_node")


def depths_by_stamp(messages) -> dict[int, np.ndarray]:
    return {stamp_to_ns(m.header.stamp): depth_from_message(m) for m in messages}


def test_the_network_is_in_memory_once(nodes):
    assert len(nodes.lines("loaded and ready in")) == 1
    assert len(nodes.lines("shared with another camera and ready in")) == 3


def test_every_image_has_depth_of_its_size_and_keyframes_are_those_of_the_engine(client, walk, front, manager, engine):
    assert manager.trigger("reset").success
    depths, infos = front.listen(Image, "depth/image"), front.listen(CameraInfo, "depth/camera_info")
    confidences, clouds = front.listen(Image, "depth/confidence"), front.listen(PointCloud2, "points")
    expected, keyframes = {}, 0
    for _ in range(10):
        stamp_ns, world_T_cam, answer = walk.send()
        image = client.picture(stamp_ns)
        frame = Frame(image, client.K, world_T_cam, stamp_ns, answer.index)
        prediction = engine.step(frame)
        assert answer.outcome is engine.last_decision
        keyframes += prediction is not None
        if answer.outcome is KeyframeDecision.TOO_CLOSE:
            prediction = engine.predict_without_update(frame)
        assert answer.has_depth == (prediction is not None)
        if prediction is not None:
            expected[stamp_ns] = upsample_depth(prediction.depth, image)
    assert (keyframes, len(expected)) == (3, 9)
    client.wait(lambda: min(map(len, (depths, infos, confidences, clouds))) >= len(expected))
    got = depths_by_stamp(depths)
    assert got.keys() == expected.keys()
    for stamp_ns, depth in expected.items():
        np.testing.assert_allclose(got[stamp_ns], depth, rtol=1e-4)
    for depth, info, confidence, cloud in zip(depths, infos, confidences, clouds, strict=True):
        assert depth.header == info.header == confidence.header == cloud.header
        assert (depth.height, depth.width) == (info.height, info.width) == (48, 64)
        assert (confidence.height, confidence.width) == (48, 64)
        np.testing.assert_allclose(np.reshape(info.k, (3, 3)), client.K)
        assert cloud.width == 64 * 96, "the cloud has the network's size"


def test_the_newest_image_is_next_where_the_engine_is_too_slow(client, walk, front):
    walk.send()
    answers = walk.send_at_once(25)
    outcomes = {answer.outcome for answer in answers}
    assert outcomes == {KeyframeDecision.TOO_CLOSE, DropReason.WORKER_BUSY}, "what had to wait was left out"
    assert answers[-1].has_depth, "and never the newest"


def test_the_range_is_there_for_who_comes_late_and_changes_live(client, walk, front, manager):
    walk.send()
    ranges = front.listen(Range, "depth/range", durability=DurabilityPolicy.TRANSIENT_LOCAL)
    depths = front.listen(Image, "depth/image")
    client.wait(lambda: ranges)
    assert (ranges[-1].min_range, ranges[-1].max_range) == (0.25, 20.0)
    assert ranges[-1].field_of_view == pytest.approx(2 * np.arctan(32 / 60))
    walk.send()
    client.wait(lambda: depths)
    values = np.frombuffer(depths[-1].data, "<f4")
    assert np.isfinite(values).all()
    middle = float(np.median(values))
    # Random weights may find all of the next image nearer than that, or farther; but nothing as near as 0.26 m.
    for number, greatest in enumerate((middle, 0.26), start=2):
        assert manager.set("max_depth_m", greatest).successful
        stamp_ns, _, _ = walk.send()
        client.wait(
            lambda stamp_ns=stamp_ns, number=number: stamp_ns in depths_by_stamp(depths) and len(ranges) == number
        )
        values = np.frombuffer(depths[-1].data, "<f4")
        assert (values[np.isfinite(values)] <= greatest).all()
        assert ranges[-1].max_range == pytest.approx(greatest)
    assert np.isposinf(values).all()
    refused = manager.set("min_depth_m", 900.0)
    assert not refused.successful and "min_depth_m must be less than max_depth_m" in refused.reason
    assert manager.set("max_depth_m", 1000.0).successful


def test_the_cloud_and_the_depth_are_thinned_live(client, walk, front, manager):
    clouds, depths = front.listen(PointCloud2, "points"), front.listen(Image, "depth/image")
    assert manager.set("points_stride", 4).successful
    assert manager.set("depth_min_confidence", 1.0).successful
    walk.send()
    client.wait(lambda: clouds and depths)
    assert clouds[-1].width == 16 * 24
    assert np.isnan(np.frombuffer(depths[-1].data, "<f4")).mean() > 0.9
    assert manager.set("depth_min_confidence", 0.0).successful
    assert manager.set("points_stride", 1).successful
    rate_hz = 1.0
    assert manager.set("points_max_rate_hz", rate_hz).successful
    begin_s = time.monotonic()
    stamps_ns = {walk.send()[0] for _ in range(6)}
    client.idle(0.5)
    thinned = [cloud for cloud in clouds if stamp_to_ns(cloud.header.stamp) in stamps_ns]
    assert len(thinned) <= 1 + (time.monotonic() - begin_s) * rate_hz
    assert manager.set("points_max_rate_hz", 0.0).successful


def test_a_cloud_is_organized_live(client, walk, front, manager):
    clouds = front.listen(PointCloud2, "points")
    assert manager.set("points_organized", True).successful
    walk.send()
    client.wait(lambda: clouds)
    assert (clouds[-1].height, clouds[-1].width, clouds[-1].is_dense) == (64, 96, False)
    x, y, z = points_from_message(clouds[-1])[0].T.reshape(3, 64, 96)
    # One direction a column and one a row, as in the image.
    np.testing.assert_allclose(x / z, (x / z)[:1].repeat(64, axis=0), atol=1e-5)
    np.testing.assert_allclose(y / z, (y / z)[:, :1].repeat(96, axis=1), atol=1e-5)
    assert manager.set("points_organized", False).successful


def test_measurement_frames_change_live(walk, manager):
    assert manager.set("measurement_frames", 1).successful
    _, _, answer = walk.send()
    assert answer.has_depth and len(answer.measurement_stamps_ns) == 1
    refused = manager.set("measurement_frames", 9)
    assert not refused.successful and "measurement_frames" in refused.reason
    assert manager.set("measurement_frames", 2).successful


def test_confidence_can_be_switched_off(client, walk, front, manager):
    clouds = front.listen(PointCloud2, "points")
    assert manager.set("confidence", False).successful
    assert manager.set("points_min_confidence", 1.0).successful, "every depth passes while there is no confidence"
    walk.send()
    client.wait(lambda: clouds)
    assert [field.name for field in clouds[-1].fields] == ["x", "y", "z", "rgb"] and clouds[-1].width > 0
    assert manager.set("points_min_confidence", 0.0).successful and manager.set("confidence", True).successful


def test_the_cloud_is_saved_and_a_reset_forgets_it(nodes, walk, manager, folder):
    for _ in range(4):
        walk.send()
    saved = manager.trigger("save_cloud")
    assert saved.success, saved.message
    (file,) = folder.iterdir()
    assert str(file) in saved.message and file.suffix == ".ply"
    points = int(saved.message.split()[0])
    keyframes = int(saved.message.split()[3])
    assert points == keyframes * 64 * 96 and f"element vertex {points}".encode() in file.read_bytes()[:200]
    reset = manager.trigger("reset")
    assert reset.success and "are reset" in reset.message
    again = manager.trigger("save_cloud")
    assert not again.success and "no keyframe has depth yet" in again.message
    assert walk.send()[2].outcome is KeyframeDecision.FIRST
    for _ in range(3):
        walk.send()
    elsewhere = manager.set("cloud_folder", "/proc/no/such")
    assert not elsewhere.successful and "cloud_folder can" in elsewhere.reason


def test_diagnostics_tell_the_state(client, walk, diagnostics):
    def of_front() -> dict:
        return {
            status.name.split(": ")[1]: {item.key: item.value for item in status.values}
            for status in diagnostics.statuses()
            if status.name.startswith("/front/depth_node: ")
        }

    walk.send()
    walk.send_at_once(25)
    walk.send()
    diagnostics.arrays.clear()  # what comes from here on knows of all these
    client.wait(lambda: len(of_front()) == 4)
    parts = of_front()
    assert parts.keys() == {"input", "poses", "depth", "engine"}
    assert float(parts["input"]["image rate Hz"]) >= 0.0 and int(parts["input"]["images received"]) >= 27
    assert int(parts["input"]["dropped worker_busy"]) > 0
    assert parts["input"]["camera frame"] == "front_optical"
    assert float(parts["poses"]["newest pose after last image s"]) == 0.0
    for stage in ("decode", "wait for pose", "wait for engine", "engine", "publish", "latency"):
        assert 0.0 <= float(parts["depth"][f"{stage} median ms"]) <= float(parts["depth"][f"{stage} p95 ms"])
    assert parts["depth"]["tracking"] == "good" and parts["depth"]["depth for"] == "every_image"
    assert (parts["depth"]["least depth m"], parts["depth"]["greatest depth m"]) == ("0.25", "20")
    assert parts["engine"]["device"] == "cpu" and parts["engine"]["precision"] == "auto"
    assert parts["engine"]["weights"].endswith("tiny.safetensors") and 50 < float(parts["engine"]["memory MB"]) < 8000


def test_pose_messages_with_a_mounting_and_compressed_depth(client, nodes, make_camera, engine):
    rear = make_camera("rear")
    poses = client.node.create_publisher(PoseStamped, "/rear/pose", QoSProfile(depth=50))
    client.wait(poses.get_subscription_count)
    depths = rear.listen(Image, "/rear/range_image")
    compressed = rear.listen(CompressedImage, "/rear/range_image/compressedDepth")
    expected = {}
    for i in range(6):
        stamp_ns = 9_000_000_000 + i * STEP_NS
        world_T_cam = pose(i, step_m=0.12)
        message = PoseStamped(header=make_header(stamp_ns, "world"))
        fill_pose(message.pose, world_T_cam @ np.linalg.inv(BASE_T_CAM))
        poses.publish(message)
        rear.send(stamp_ns, None)
        answer = rear.answer(stamp_ns)
        prediction = engine.step(Frame(client.picture(stamp_ns), client.K, world_T_cam, stamp_ns, answer.index))
        assert answer.outcome is engine.last_decision
        if prediction is not None:
            expected[stamp_ns] = prediction.depth
    assert len(expected) == 5
    client.wait(lambda: min(len(depths), len(compressed)) >= 5)
    for message, small in zip(depths, compressed, strict=True):
        assert message.header == small.header and message.encoding == "16UC1"
        depth = depth_from_message(message)
        np.testing.assert_allclose(depth, expected[stamp_to_ns(message.header.stamp)], atol=0.0006, rtol=1e-5)
        np.testing.assert_array_equal(decode_compressed_depth(small.format, small.data), depth)


def test_a_cloud_of_the_network_is_where_its_depth_is(client, walk, front):
    clouds = front.listen(PointCloud2, "points")
    walk.send()
    client.wait(lambda: clouds)
    points, _ = points_from_message(clouds[-1])
    assert np.isfinite(points).all() and (points[:, 2] >= 0.25 * 0.999).all()


@pytest.fixture(scope="module")
def side(nodes, make_camera):
    return make_camera("side")


def test_what_the_lens_does_not_show_has_neither_depth_nor_confidence(client, side, begins_ns):
    depths, confidences = side.listen(Image, "depth/image"), side.listen(Image, "depth/confidence")
    clouds = side.listen(PointCloud2, "points")
    lens, begin_ns = (0.3, 0.1), next(begins_ns)
    for i in range(3):
        stamp_ns = begin_ns + i * STEP_NS
        side.send(stamp_ns, pose(i, step_m=0.12), distortion=lens)
        side.answer(stamp_ns)
    client.wait(lambda: min(len(depths), len(confidences), len(clouds)) == 2)
    camera = CameraModel(client.K, 48, 64, Lens("plumb_bob", client.K, np.array((*lens, 0.0, 0.0, 0.0)), np.eye(3)))
    seen = Rectifier(camera, (64, 96)).in_view
    assert 0.02 < (~seen).mean() < 0.3
    for depth, confidence, cloud in zip(depths, confidences, clouds, strict=True):
        values = np.frombuffer(depth.data, "<f4").reshape(64, 96)
        np.testing.assert_array_equal(np.isnan(values), ~seen)
        assert not np.frombuffer(confidence.data, "<f4").reshape(64, 96)[~seen].any()
        assert cloud.width == seen.sum()


def test_what_no_measurement_frame_has_in_view_has_no_confidence(client, side, begins_ns):
    depths, confidences = side.listen(Image, "depth/image"), side.listen(Image, "depth/confidence")
    turned = pose_at(0.15, turned=np.radians(25.0))
    begin_ns = next(begins_ns)
    for i, world_T_cam in enumerate((pose(0), turned)):
        stamp_ns = begin_ns + i * STEP_NS  # another lens than before: nothing from before is used
        side.send(stamp_ns, world_T_cam)
        side.answer(stamp_ns)
    client.wait(lambda: depths and confidences)
    depth = depth_from_message(depths[-1]).astype(float)
    K = np.array(client.K) * ((1.5,), (64 / 48,), (1.0,))
    inside = []
    for factor in (0.7, 1, 1.4):  # planes may have replaced the depth that was looked for in the other view
        points = turned[:3, :3] @ backproject(factor * depth, K).reshape(-1, 3).T + turned[:3, 3:]
        x, y = (K @ points)[:2] / points[2]
        inside.append(((points[2] > 0) & (x >= 0) & (x <= 95) & (y >= 0) & (y <= 63)).reshape(64, 96))
    # Confidence is worked out on a coarser grid, so the border of the view is left out.
    surely_outside = cv2.dilate(np.any(inside, axis=0).astype(np.uint8), np.ones((9, 9))) == 0
    surely_inside = cv2.erode(np.all(inside, axis=0).astype(np.uint8), np.ones((9, 9))) == 1
    assert surely_outside.mean() > 0.1 and surely_inside.mean() > 0.1
    confidence = np.frombuffer(confidences[-1].data, "<f4").reshape(64, 96)
    assert not confidence[surely_outside].any()
    assert (confidence[surely_inside] > 0).all()


def test_nothing_is_lost_of_a_best_effort_camera_at_thirty_hertz(nodes, client, make_camera):
    camera = make_camera("plain")
    image = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    answered = []

    def arrive(count: int, since_ns: int) -> bool:
        """Whether so many images were answered, none of which is on its way for ever."""
        end_s = time.monotonic() + LOST_S
        while (found := sum(status.stamp_ns >= since_ns for status in camera.statuses)) < count:
            if time.monotonic() > end_s:
                answered.append(found)
                return False
            client.idle(0.01)
        return True

    # Without shared memory of enough size nearly all are lost, each time; a busy machine loses some, sometimes.
    for attempt in range(3):
        begin_ns = 5_000_000_000 + 45 * attempt * STEP_NS
        for i in range(45):
            camera.send(begin_ns + i * STEP_NS, pose(45 * attempt + i), image)
            client.idle(1 / 30)
            if not arrive(i, begin_ns):  # a machine too busy for thirty hertz takes fewer
                break
        else:
            if arrive(45, begin_ns):
                return
    pytest.fail(f"of 45 images at 30 Hz arrived {answered}")


@pytest.mark.parametrize(
    ("arguments", "said"), [((), "name at least one camera"), (("front", "/front/"), "/front more than once")]
)
def test_cameras_that_cannot_be_are_refused_before_anything_starts(arguments, said):
    with pytest.raises(SystemExit, match=f"{said}[^$]*usage: depth_nodes"):
        depth_nodes.main(arguments)
