"""The player on its own: what a robot would publish, at the rate asked for."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("rclpy")

from rclpy.qos import DurabilityPolicy, QoSProfile  # noqa: E402
from rosgraph_msgs.msg import Clock  # noqa: E402
from sensor_msgs.msg import CameraInfo, Image  # noqa: E402
from tf2_msgs.msg import TFMessage  # noqa: E402

from dvmvs_core.data.open_sequence import open_sequence  # noqa: E402
from dvmvs_core.data.transforms import TransformTree  # noqa: E402
from dvmvs_ros.conversions import (  # noqa: E402
    camera_from_message,
    depth_from_message,
    image_from_message,
    stamp_to_ns,
)


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


def test_everything_of_the_scene_arrives_at_the_rate_and_in_order(start_node, client, listener, scene, tmp_path):
    player = start_node(
        "replay_node", {"sequence": str(scene), "rate": 2.0, "summary_file": str(tmp_path / "sent.json")}
    )
    client.wait(lambda: player.process.poll() is not None, 60.0)
    client.idle(0.3)
    assert player.process.returncode == 0, player.log()
    received = listener.received
    items = list(open_sequence(scene).items())
    stamps_ns = [item.frame.stamp_ns for item in items]
    for name in ("/camera/image_rect", "/camera/camera_info", "/camera/depth"):
        assert [stamp_to_ns(message.header.stamp) for message in received[name]] == stamps_ns, name
        assert {message.header.frame_id for message in received[name]} == {"camera_optical_frame"}
    assert [stamp_to_ns(message.clock) for message in received["/clock"]] == stamps_ns
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
    took_s = (sent[-1]["published_ns"] - sent[0]["published_ns"]) * 1e-9
    recorded_s = (stamps_ns[-1] - stamps_ns[0]) * 1e-9
    assert took_s == pytest.approx(recorded_s / 2.0, rel=0.3)


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"sequence": "/no/such/scene"}, "/no/such/scene does not exist"),
        ({}, "parameter sequence must name"),
        ({"sequence": "x", "rate": 0.0}, "rate must be positive"),
    ],
)
def test_what_cannot_be_played_is_one_line_and_exit_code_1(start_node, parameters, said):
    player = start_node("replay_node", parameters)
    assert player.wait() == 1
    assert said in player.log() and "Traceback" not in player.log(), player.log()


def test_a_loop_starts_anew_and_loses_nothing(start_node, client, scene, tiny_weights):
    node = start_node(
        "depth_node",
        {"weights": str(tiny_weights), "device": "cpu", "use_sim_time": True},
        remap=("image:=camera/image_rect", "camera_info:=camera/camera_info"),
    )
    player = start_node("replay_node", {"sequence": str(scene), "rate": 0.0, "lockstep": True, "loops": 2})
    assert player.wait() == 0, player.log()
    assert "played 28 images; 28 were answered" in player.log()
    assert node.stop() == 0, node.log()
    (summary,) = node.lines("inactive:")
    assert "images received 28, depth images published 12" in summary
    assert "decided first 2" in summary and "dropped" not in summary
