"""Records what a camera, the player and the depth node publish, byte for byte, as an mcap that every viewer opens."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rosbags.rosbag2 import StoragePlugin, Writer
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from tf2_msgs.msg import TFMessage

from dvmvs_core.data.bag_files import typestore
from dvmvs_core.data.bag_writer import BAG_VERSION, offered_qos
from dvmvs_core.errors import ConfigError, DataError, DvmvsError
from dvmvs_ros.process import POLL_S, ros_process

IMAGE = "camera/image_rect"
CAMERA_INFO = "camera/camera_info"
SENSOR_DEPTH = "camera/depth"
DEPTH = "depth/image"
DEPTH_INFO = "depth/camera_info"
POINTS = "points"
STATUS = "depth_node/frame_status"
TF_STATIC = "/tf_static"

TOPICS = {
    IMAGE: Image,
    CAMERA_INFO: CameraInfo,
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
SETTLED_S = 0.5
"""A recording ends when nothing has come for this long after the signal to stop."""


class RecorderNode(Node):
    """Writes serialised messages to an mcap, each with the time of its arrival."""

    def __init__(self, **arguments) -> None:
        super().__init__("recorder_node", **arguments)
        descriptor = ParameterDescriptor(description="Folder of the bag to write; must not exist.", read_only=True)
        self.declare_parameter("out", "", descriptor)
        self.last_arrival_s = time.monotonic()

    def record(self, executor: SingleThreadedExecutor, stop) -> None:
        """Record until stopped, and then until all that was sent before has arrived.

        Raises:
            DvmvsError: if the bag cannot be written.
        """
        out = self.get_parameter("out").value
        if not out:
            raise ConfigError("parameter out must name the folder of the bag to write; got nothing")
        if Path(out).exists():
            raise DataError(f"{out} exists already; remove it or choose another name")
        with Writer(Path(out), version=BAG_VERSION, storage_plugin=StoragePlugin.MCAP) as writer:
            for topic, message_type in TOPICS.items():
                self._subscribe(writer, topic, message_type)
            self.get_logger().info(f"recording to {out}")
            while not stop.is_set() or time.monotonic() - self.last_arrival_s < SETTLED_S:
                executor.spin_once(timeout_sec=POLL_S)

    def _subscribe(self, writer: Writer, topic: str, message_type: type) -> None:
        static = topic == TF_STATIC
        durability = DurabilityPolicy.TRANSIENT_LOCAL if static else DurabilityPolicy.VOLATILE
        qos = QoSProfile(depth=QUEUE, durability=durability)
        connection = writer.add_connection(
            self.resolve_topic_name(topic),
            f"{message_type.__module__.split('.')[0]}/msg/{message_type.__name__}",
            typestore=typestore(),
            offered_qos_profiles=[offered_qos(static)],
        )
        self.create_subscription(message_type, topic, partial(self._write, writer, connection), qos, raw=True)

    def _write(self, writer: Writer, connection: object, data: bytes) -> None:
        writer.write(connection, time.time_ns(), data)
        if connection.msgtype != "diagnostic_msgs/msg/DiagnosticArray":  # diagnostics never end
            self.last_arrival_s = time.monotonic()


def main(args: Sequence[str] | None = None) -> int:
    """Record until Ctrl-C or SIGTERM; returns 0, or 1 for what a user can fix."""
    with ros_process(args) as stop:
        node = RecorderNode()
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        try:
            node.record(executor, stop)
        except DvmvsError as error:
            node.get_logger().error(str(error))
            return 1
        finally:
            executor.shutdown()
            node.destroy_node()
        return 0


if __name__ == "__main__":
    sys.exit(main())
