# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The player on its own: what a robot would publish, at the rate asked for."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.qos import DurabilityPolicy, QoSProfile
from rosgraph_msgs.msg import Clock
from scipy.stats import theilslopes
from sensor_msgs.msg import CameraInfo, Image
from tf2_msgs.msg import TFMessage

from dvmvs_core.data.bags import bag_messages
from dvmvs_core.data.bags.bag_messages import CAMERA_INFO, IMAGE, TRANSFORMS
from dvmvs_core.data.bags.bag_writer import depth_pixels, new_bag
from dvmvs_core.data.open_sequence import open_sequence
from dvmvs_core.data.poses.quaternion import quaternion_of
from dvmvs_core.data.poses.transforms import TransformTree
from dvmvs_ros.messages.conversions import (
    camera_from_message,
    depth_from_message,
    image_from_message,
    stamp_to_ns,
)

RATE = 0.25


class Listener:
    """Receives everything that the player publishes."""

    def __init__(self, client) -> None:
        self.received: dict[str, list] = {}
        node, qos = client.node, QoSProfile(depth=100)
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        for name, message_type, profile in (
            ("/camera/image_rect", Image, qos),
            ("/camera/camera_info", CameraInfo, qos),
            ("/camera/depth", Image, qos),
            ("/tf", TFMessage, qos),
            ("/tf_static", TFMessage, latched),
            ("/clock", Clock, qos),
        ):
            self.received[name] = []
            node.create_subscription(message_type, name, self.received[name].append, profile)

    def tree(self) -> TransformTree:
        tree = TransformTree()
        for name in ("/tf", "/tf_static"):
            for message in self.received[name]:
                for stamped in message.transforms:
                    t, q = stamped.transform.translation, stamped.transform.rotation
                    tree.set_transform(
                        stamped.header.frame_id,
                        stamped.child_frame_id,
                        stamp_to_ns(stamped.header.stamp),
                        (t.x, t.y, t.z),
                        (q.x, q.y, q.z, q.w),
                        static=name == "/tf_static",
                    )
        return tree


@pytest.fixture(scope="module")
def listener(client) -> Listener:
    return Listener(client)


def test_everything_of_the_scene_arrives_at_the_rate_and_in_order(play, client, listener, scene, tmp_path):
    for messages in listener.received.values():
        messages.clear()
    play(scene, rate=RATE, summary_file=str(tmp_path / "sent.json"))
    received = listener.received
    items = list(open_sequence(scene).items())
    stamps_ns = [item.frame.stamp_ns for item in items]
    client.wait(lambda: all(len(received[f"/camera/{name}"]) >= len(items) for name in ("image_rect", "depth")))
    for name in ("/camera/image_rect", "/camera/camera_info", "/camera/depth"):
        assert [stamp_to_ns(message.header.stamp) for message in received[name]] == stamps_ns, name
        assert {message.header.frame_id for message in received[name]} == {"camera_optical_frame"}
    clock = [stamp_to_ns(message.clock) for message in received["/clock"]]
    assert clock == sorted(clock)
    assert set(clock) > set(stamps_ns), "time goes on between the images too"
    tree = listener.tree()
    for item, image, info, depth in zip(
        items, *(received[f"/camera/{name}"] for name in ("image_rect", "camera_info", "depth")), strict=True
    ):
        np.testing.assert_array_equal(image_from_message(image), item.frame.image)
        np.testing.assert_array_equal(camera_from_message(info).K, item.frame.K)
        np.testing.assert_array_equal(depth_from_message(depth), item.sensor_depth)
        world_T_cam = tree.lookup("odom", "camera_optical_frame", item.frame.stamp_ns)
        np.testing.assert_allclose(world_T_cam, item.frame.world_T_cam, atol=1e-12)
    sent = json.loads((tmp_path / "sent.json").read_text())["sent"]
    # The median over all pairs of images, which a few that a busy machine delays do not move.
    recorded_s = np.array([image["stamp_ns"] for image in sent]) * 1e-9
    played_s = np.array([image["published_ns"] for image in sent]) * 1e-9
    # A machine that is too busy for the rate plays more slowly, and is no fault of the player.
    assert RATE / 3 < theilslopes(recorded_s, played_s).slope < 1.3 * RATE


LENS = (-0.25, 0.06, 0.001, 0.0, 0.0)


@pytest.fixture(scope="module")
def raw_bag(scene, tmp_path_factory):
    """The scene as if a lens had bent it: its images and depth are raw, and camera_info says what rectifies them."""
    bag = tmp_path_factory.mktemp("raw") / "bag"
    with new_bag(bag, "mcap") as log:
        for topic, kind in (
            ("/camera/image_raw", IMAGE),
            ("/camera/camera_info", CAMERA_INFO),
            ("/camera/depth", IMAGE),
            ("/tf", TRANSFORMS),
        ):
            log.open(topic, kind)
        for item in open_sequence(scene).items():
            frame, at = item.frame, (item.frame.stamp_ns, "camera")
            info = bag_messages.camera_info(*at, frame.K, frame.image.shape[:2])
            lens = dataclasses.replace(info, d=np.array(LENS), k=(frame.K + np.diag((3.0, 2.0, 0.0))).reshape(-1))
            rotation = quaternion_of(frame.world_T_cam[:3, :3])
            log.write("/tf", at[0], bag_messages.transform(at[0], "odom", "camera", frame.world_T_cam[:3, 3], rotation))
            log.write("/camera/camera_info", at[0], lens)
            log.write("/camera/depth", at[0], bag_messages.image(*at, *depth_pixels(item.sensor_depth)))
            log.write("/camera/image_raw", at[0], bag_messages.image(*at, frame.image, "rgb8"))
    return bag


def test_raw_images_of_a_bag_give_the_same_depth_live_and_offline(start_played_node, play, client, raw_bag, engine):
    from dvmvs_core.evaluation.prediction.predict_sequence import predict_online

    depths, infos = [], []
    subscriptions = [
        client.node.create_subscription(Image, "/depth/image", depths.append, QoSProfile(depth=100)),
        client.node.create_subscription(CameraInfo, "/depth/camera_info", infos.append, QoSProfile(depth=100)),
    ]
    node = start_played_node("image_raw")
    play(raw_bag, rate=0.0, lockstep=True)
    assert node.stop() == 0, node.log()

    sequence = open_sequence(raw_bag)
    offline = list(predict_online(engine, sequence, depth=True))
    client.wait(lambda: min(len(depths), len(infos)) >= len(offline))
    for subscription in subscriptions:
        client.node.destroy_subscription(subscription)
    assert len(depths) == len(infos) == len(offline) > 3
    for message, info, (prediction, item) in zip(depths, infos, offline, strict=True):
        assert stamp_to_ns(message.header.stamp) == prediction.stamp_ns
        np.testing.assert_array_equal(camera_from_message(info).K, prediction.K)
        depth = depth_from_message(message)
        assert 0.8 < (depth > 0).mean() < 1, "there is no depth where the raw image shows nothing"
        np.testing.assert_allclose(depth, prediction.depth, rtol=1e-5)
        assert (item.sensor_depth > 0).mean() > 0.6


def test_statuses_of_somebody_else_are_no_answers(start_node, client, scene):
    """They cost a line, and neither the player nor its count."""
    publisher = client.node.create_publisher(DiagnosticArray, "/somebody/status", QoSProfile(depth=10))
    player = start_node(
        "replay_node",
        {"sequence": str(scene), "rate": 5.0, "start_paused": True, "subscribers": 0},
        remap=("depth_node/frame_status:=/somebody/status",),
    )
    client.wait(lambda: player.lines("playing 14 images"))  # the player asks this client whether it knows it
    values = [KeyValue(key=key, value="x") for key in ("index", "latency_ms", "inference_ms", "detail")]

    def heard() -> bool:
        for status in (
            [],
            [DiagnosticStatus(message="keyframe")],
            [DiagnosticStatus(message="keyframe", values=values)],
        ):
            publisher.publish(DiagnosticArray(status=status))
        return bool(player.lines("it is no status of a frame"))

    client.wait(heard)
    assert player.stop() == 0
    client.node.destroy_publisher(publisher)
    assert "Traceback" not in player.log() and "played 0 images; 0 were answered" in player.log(), player.log()


def test_it_pauses_resumes_and_changes_its_rate_when_asked(start_node, client, listener, make_manager, scene):
    images = listener.received["/camera/image_rect"]
    images.clear()
    player = start_node("replay_node", {"sequence": str(scene), "rate": 10.0, "start_paused": True})
    manager = make_manager("replay_node")

    def call(name: str) -> str:
        answer = manager.trigger(name)
        assert answer.success
        return answer.message

    client.wait(lambda: player.lines("playing 14 images"))  # the player asks this client whether it knows it
    assert call("pause").startswith("paused at")
    assert images == []
    refused = manager.set("rate", 11.0)
    assert not refused.successful and "at most 10" in refused.reason
    assert manager.set("rate", 0.01).successful  # an image every three seconds
    assert call("resume").startswith("playing at")
    client.wait(lambda: images)
    assert call("toggle_paused").startswith("paused at")
    assert manager.set("rate", 10.0).successful
    held = None
    while held != len(images):  # those that were sent before may come after the answer
        held = len(images)
        client.idle(0.5)
    assert held < 14
    assert call("toggle_paused").startswith("playing at")
    client.wait(lambda: len(images) == 14)
    assert player.wait() == 0, player.log()


@pytest.mark.slow
def test_a_loop_starts_again_loses_nothing_and_gives_the_same_depth(start_played_node, play, client, scene):
    depths = []
    subscription = client.node.create_subscription(Image, "/depth/image", depths.append, QoSProfile(depth=100))
    node = start_played_node()
    player = play(scene, rate=0.0, lockstep=True, loops=2)
    assert "played 28 images; 28 were answered" in player.log()
    client.wait(lambda: len(depths) >= 12)
    assert node.stop() == 0, node.log()
    client.node.destroy_subscription(subscription)
    assert len(depths) == 12
    for first, second in zip(depths[:6], depths[6:], strict=True):
        assert first.header == second.header
        assert first.data == second.data
    (summary,) = node.lines("inactive:")
    assert "images received 28, depth images published 12" in summary
    assert "decided first 2" in summary and "dropped" not in summary
