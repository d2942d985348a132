# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The node as one of several robots has it: in a namespace, TF remapped, simulated time, intrinsics published once."""

from __future__ import annotations

from rclpy.qos import DurabilityPolicy, QoSProfile
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image
from tf2_msgs.msg import TFMessage

from dvmvs_core.keyframes import KeyframeDecision
from dvmvs_ros.messages.conversions import (
    camera_info_message,
    make_header,
    ns_to_stamp,
    rgb_message,
    transform_message,
)

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
        self._tf.publish(TFMessage(transforms=[transform_message(stamp_ns, "odom", "camera", self._client.pose(x_m))]))
        self.image.publish(rgb_message(self._client.picture(stamp_ns), make_header(stamp_ns, "camera")))


def test_a_namespace_remapped_tf_simulated_time_and_latched_intrinsics(start_depth_node, client, make_camera):
    answers = make_camera("robot")
    robot = Robot(client)
    latched = {"qos_overrides./robot/camera_info.subscription.durability": "transient_local"}
    topics = "robot/camera/color/image_rect", "robot/camera_info"
    node = start_depth_node(*topics, use_sim_time=True, how={"remap": REMAP}, **latched)
    node.wait_for("active: images from /robot/camera/color/image_rect, intrinsics from /robot/camera_info")
    client.wait(lambda: robot.image.get_subscription_count() and robot.clock.get_subscription_count())
    client.wait(lambda: client.node.count_publishers("/robot/depth_node/frame_status"))
    answers.wait_until_known()

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
    assert node.stop() == 0 and "Traceback" not in node.log(), node.log()
