# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Records what a camera, the player and the depth node publish, byte for byte, as an mcap that every viewer opens."""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from tf2_msgs.msg import TFMessage

from dvmvs_core.data.bags.bag_writer import TF_STATIC
from dvmvs_core.errors import ConfigError, DataError
from dvmvs_ros.evaluation.recording import RecordedBags, spin_until_settled
from dvmvs_ros.messages.conversions import type_name
from dvmvs_ros.process.guard import GuardedNode
from dvmvs_ros.process.main_program import run_to_its_end
from dvmvs_ros.process.remote_parameters import remote_parameters

IMAGE = "camera/image_rect"
CAMERA_INFO = "camera/camera_info"
VALID_MASK = "camera/valid_mask"
SENSOR_DEPTH = "camera/depth"
DEPTH = "depth/image"
DEPTH_INFO = "depth/camera_info"
POINTS = "points"
STATUS = "depth_node/frame_status"

TOPICS = {
    IMAGE: Image,
    CAMERA_INFO: CameraInfo,
    VALID_MASK: Image,
    SENSOR_DEPTH: Image,
    DEPTH: Image,
    DEPTH_INFO: CameraInfo,
    POINTS: PointCloud2,
    STATUS: DiagnosticArray,
    "/diagnostics": DiagnosticArray,
    "/tf": TFMessage,
    TF_STATIC: TFMessage,
    "/clock": Clock,
}
"""What is recorded, under the names that the nodes of this package give it; remap as theirs."""

QUEUE = 100


class RecorderNode(GuardedNode):
    """Writes serialised messages to an mcap, each with the time of its arrival."""

    def __init__(self, **arguments) -> None:
        super().__init__("recorder_node", **arguments)
        for name, description in (
            ("out", "Folder of the bag to write; must not exist."),
            ("known_to", "Node that must know of this one before it subscribes to images; empty: none."),
        ):
            self.declare_parameter(name, "", ParameterDescriptor(description=description, read_only=True))
        self._last_arrival_s = time.monotonic()

    def record(self, executor: SingleThreadedExecutor, stop: threading.Event) -> None:
        """Record until stopped, and then until all that was sent before has arrived.

        Raises:
            DvmvsError: if the bag cannot be written.
        """
        out, failures = self["out"], []
        if not out:
            raise ConfigError("parameter out must name the folder of the bag to write; got nothing")

        def end(why: str) -> None:  # no space: a recording with holes is none
            failures.append(why)
            stop.set()

        with closing(RecordedBags(Path(out), True, end)) as recording:
            for topic, message_type in TOPICS.items():
                if topic != IMAGE:
                    self._subscribe(recording, topic, message_type)
            if known_to := self["known_to"]:
                remote_parameters(self, known_to, (), executor, stop, math.inf)
            # Last, since a player waits for those who listen to images.
            self._subscribe(recording, IMAGE, Image)
            self.get_logger().info(f"recording to {out}")
            spin_until_settled(executor, stop, lambda: self._last_arrival_s)
        for failure in failures:
            raise DataError(failure)

    def _subscribe(self, recording: RecordedBags, topic: str, message_type: type) -> None:
        name = self.resolve_topic_name(topic)
        recording.open(name, type_name(message_type))
        latched = topic in (TF_STATIC, VALID_MASK)
        durability = DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE

        def write(data: bytes) -> None:
            recording.write(name, data)
            if message_type is not DiagnosticArray:  # diagnostics never end
                self._last_arrival_s = time.monotonic()

        self.create_subscription(message_type, topic, write, QoSProfile(depth=QUEUE, durability=durability), raw=True)


def main(args: Sequence[str] | None = None) -> int:
    """Record until Ctrl-C or SIGTERM; returns 0, or 1 for what a user can fix."""
    return run_to_its_end(RecorderNode, RecorderNode.record, args)


if __name__ == "__main__":
    sys.exit(main())
