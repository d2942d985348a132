# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Compares published depth with true depth as both arrive, and ends with the report of `dvmvs evaluate`.

Publishes running figures (~/metrics) and a picture of the error (~/error_image). What the depth node gets and gives is
recorded meanwhile; at the end, by Ctrl-C or SIGTERM, that is scored by the code that scores offline predictions.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped
from nav_msgs.msg import Odometry
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.clock import Clock, ClockType
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import serialize_message
from rosgraph_msgs.msg import Clock as ClockMessage
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from tf2_msgs.msg import TFMessage

from dvmvs_core.data.bags.bag_files import deserialise
from dvmvs_core.data.bags.bag_images import ImageMessage, base_topic, read_header
from dvmvs_core.data.bags.bag_sequence import BagTopics
from dvmvs_core.data.bags.bag_writer import TF, TF_STATIC, check_new, is_latched
from dvmvs_core.data.lens.camera_view import AUTO, is_raw_topic
from dvmvs_core.data.lens.valid_mask import mask_topic
from dvmvs_core.errors import ConfigError, DataError, DvmvsError
from dvmvs_core.evaluation.prediction.depth_pictures import colourise_error
from dvmvs_core.evaluation.scoring.metrics import words
from dvmvs_core.process import share_cores
from dvmvs_ros.depth.frame_sync import JUMP_NS
from dvmvs_ros.evaluation.live import Compared, LiveScore
from dvmvs_ros.evaluation.recording import RecordedBags, spin_until_settled
from dvmvs_ros.evaluation.topics import CAMERA_INFO, IMAGE, POINT_CLOUD, EvaluationTopics, find_topics
from dvmvs_ros.messages.conversions import (
    camera_from_message,
    depth_from_message,
    make_header,
    rgb_message,
    stamp_to_ns,
    type_name,
)
from dvmvs_ros.messages.sending_order import SendingOrder
from dvmvs_ros.process.guard import GuardedNode, guarded_spin
from dvmvs_ros.process.main_program import POLL_S, run_to_its_end
from dvmvs_ros.process.node_log import QuietLog
from dvmvs_ros.process.remote_parameters import remote_parameters

MESSAGES: dict[str, type] = {
    type_name(message): message
    for message in (
        CameraInfo,
        ClockMessage,
        CompressedImage,
        DiagnosticArray,
        Image,
        Odometry,
        PointCloud2,
        PoseStamped,
        PoseWithCovarianceStamped,
        TFMessage,
    )
}
"""What is listened to, by the names that bags have for it."""

CLOCK, DIAGNOSTICS, TRANSFORMS = type_name(ClockMessage), type_name(DiagnosticArray), type_name(TFMessage)

QUEUE = 100

ANSWER_S = 30.0
"""How long the depth node may take to tell its parameters."""

HOLD, LONGEST_HOLD, FLUSH_PERIOD_S = 5, 100, 0.02
"""Messages wait so many rounds for those that were sent before them, and at most; seconds between rounds."""

NODE_PARAMETERS = (
    *("weights", "network", "device", "precision", "measurement_frames"),
    *("world_frame", "pose_source", "rectify"),
)
"""What the report says of the depth node, and needs to read the recording as that did."""

PARAMETERS = (
    ("depth_topic", "depth/image", "Published depth; its camera_info and confidence are next to it."),
    ("truth_topic", "camera/depth", "True depth, on the pixels of the images: Image or compressedDepth."),
    ("status_topic", "depth_node/frame_status", "What the depth node says of each image."),
    ("image_topic", "", "The depth node's images; empty: what it subscribes to."),
    ("camera_info_topic", "", "Their intrinsics; empty: what it subscribes to."),
    ("points_topic", "points", "Published clouds, for result_bag."),
    ("report_folder", "", "Folder for index.html and figures.json; empty: none."),
    ("result_bag", "", "Record inputs, results and figures into this bag; empty: none is kept."),
    ("min_depth_m", 0.5, "Least true depth that counts, metres."),
    ("max_depth_m", 0.0, "Greatest true depth that counts, metres; 0 = no limit."),
    ("name", "", "What to call the run; empty: after result_bag, or `live`."),
)
"""(name, default, description)."""


class EvaluationNode(GuardedNode):
    """Scores a depth node from outside, by what it publishes."""

    def __init__(self, **arguments) -> None:
        super().__init__("evaluation_node", **arguments)
        for name, default, description in PARAMETERS:
            self.declare_parameter(name, default, ParameterDescriptor(description=description, read_only=True))
        self._warn = QuietLog(self.get_logger().warning)
        self._metrics = self.create_publisher(DiagnosticArray, "~/metrics", QoSProfile(depth=10))
        self._error_image = self.create_publisher(Image, "~/error_image", QoSProfile(depth=10))
        self._newest_image_ns: int | None = None
        self._newest_clock_ns: int | None = None
        self._in_order = SendingOrder(HOLD, LONGEST_HOLD)
        self.create_timer(FLUSH_PERIOD_S, self._in_order.flush, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._camera_frame = ""
        self._last_arrival_s = time.monotonic()

    def evaluate(self, executor: SingleThreadedExecutor, stop: threading.Event) -> None:
        """Compare until stopped, then write the report.

        Raises:
            DvmvsError: if parameters contradict each other, or there is nothing to compare.
        """
        depth_range_m = self._depth_range_m()
        if self["result_bag"]:
            check_new(Path(self["result_bag"]))
        topics = self._wait_for_topics(executor, stop)
        self._recording = self._record()
        try:
            truth_is_raw = is_raw_topic(AUTO, topics.image) and is_raw_topic(AUTO, topics.truth)
            self._score = LiveScore(*depth_range_m, truth_is_raw)
            self._subscribe(topics)
            node = topics.status.rpartition("/")[0]
            parameters = remote_parameters(self, node, NODE_PARAMETERS, executor, stop, ANSWER_S)
            # Last, since a player waits for those who listen to images, and the first image must find all ears open.
            self._listen(topics.image, topics.types[topics.image], before=self._on_image)
            self.get_logger().info(f"comparing {topics.depth} with {topics.truth}, for the images of {topics.image}")
            spin_until_settled(executor, stop, lambda: self._last_arrival_s)
            self._in_order.flush_all()
            self._recording.close()
            self._say()
            if self["report_folder"]:
                self._report(topics, depth_range_m, parameters)
        finally:
            self._recording.remove()

    def _depth_range_m(self) -> tuple[float, float]:
        low, high = self["min_depth_m"], self["max_depth_m"] or np.inf
        if not 0 <= low < high:
            raise ConfigError(
                f"the range of depth must satisfy 0 <= min_depth_m < max_depth_m; got {low:g} and {high:g}"
            )
        return low, high

    def _record(self) -> RecordedBags:
        if self["result_bag"]:
            return RecordedBags(Path(self["result_bag"]), True, self._warn)
        folder = Path(self["report_folder"]) / ".recording" if self["report_folder"] else None
        return RecordedBags(folder, False, self._warn)

    def _wait_for_topics(self, executor: SingleThreadedExecutor, stop: threading.Event) -> EvaluationTopics:
        while (topics := find_topics(self)) is None:
            if stop.is_set():
                raise DataError(
                    f"no depth node was heard that publishes {self.resolve_topic_name(self['status_topic'])} and"
                    " subscribes to images; is it active? Else name image_topic and camera_info_topic"
                )
            self.get_logger().info("waiting for the depth node", throttle_duration_sec=5.0)
            guarded_spin(executor, POLL_S)
        return topics

    def _subscribe(self, topics: EvaluationTopics) -> None:
        """Listen to everything but the images."""
        truth_type = topics.types[topics.truth]
        self._listen(topics.truth, truth_type, then=partial(self._on_truth, topics.truth, truth_type))
        self._listen(topics.depth, IMAGE, then=self._on_depth)
        self._listen(topics.depth_info, CAMERA_INFO, then=self._on_depth_info)
        self._listen(topics.confidence, IMAGE)
        self._listen(topics.status, DIAGNOSTICS)
        if self["result_bag"]:
            self._listen(topics.points, POINT_CLOUD)
            for publisher in (self._metrics, self._error_image):
                self._recording.open(publisher.topic_name, type_name(publisher.msg_type))
        self._listen("/clock", CLOCK, before=self._on_clock)
        self._listen(TF, TRANSFORMS)
        self._listen(TF_STATIC, TRANSFORMS)
        for topic in topics.poses:
            self._listen(topic, topics.types[topic])
        if topics.mask:  # by the name that readers look for, whatever the depth node's was remapped to
            self._listen(topics.mask, IMAGE, recorded=mask_topic(base_topic(topics.image)))
        self._listen(topics.info, CAMERA_INFO, then=self._on_info)

    def _listen(
        self,
        topic: str,
        kind: str,
        before: Callable[[bytes], None] = lambda data: None,
        then: Callable[[bytes], None] = lambda data: None,
        recorded: str = "",
    ) -> None:
        """Record a topic, and hand each message on.

        Args:
            topic: its full name.
            kind: its message type.
            before: called with each message before it is recorded.
            then: called with each message after that.
            recorded: its name in the recording, if another.
        """
        recorded = recorded or topic
        self._recording.open(recorded, kind)

        def receive(data: bytes) -> None:
            try:
                before(data)
                self._recording.write(recorded, data)
                then(data)
            except DvmvsError as error:
                self._warn(f"{topic}: {error}")

        def came() -> None:
            if kind != CLOCK:  # which never ends
                self._last_arrival_s = time.monotonic()

        callback = self._in_order.callback(receive, came)
        self.create_subscription(MESSAGES[kind], topic, callback, self._qos(topic, is_latched(recorded)), raw=True)

    def _qos(self, topic: str, latched: bool) -> QoSProfile:
        """Reliable where all publishers are, since best effort may lose what they would send again."""
        publishers = self.get_publishers_info_by_topic(topic)
        reliable = all(info.qos_profile.reliability is ReliabilityPolicy.RELIABLE for info in publishers)
        return QoSProfile(
            depth=QUEUE,
            durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
            reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        )

    # What comes

    def _on_image(self, data: bytes) -> None:
        header = read_header(data)
        if header is None:
            return
        newest_ns, self._newest_image_ns = self._newest_image_ns, header[0]
        if newest_ns is not None and header[0] < newest_ns - JUMP_NS:
            self._start_again("the images' stamps")

    def _on_clock(self, data: bytes) -> None:
        """Notice a jump before the first transforms of another round come: those come before their images."""
        now_ns = stamp_to_ns(deserialise(data, CLOCK).clock)
        newest_ns, self._newest_clock_ns = self._newest_clock_ns, now_ns
        if newest_ns is not None and now_ns < newest_ns - JUMP_NS:
            self._newest_image_ns = None
            self._start_again("/clock")

    def _start_again(self, what: str) -> None:
        self.get_logger().warning(f"{what} went back: what follows is a round of its own")
        self._score.clear()
        self._recording.start_again()

    def _on_info(self, data: bytes) -> None:
        self._score.set_camera(camera_from_message(deserialise(data, CAMERA_INFO)))

    def _on_depth_info(self, data: bytes) -> None:
        self._score.set_depth_intrinsics(camera_from_message(deserialise(data, CAMERA_INFO)).K)
        self._compare()

    def _on_truth(self, topic: str, kind: str, data: bytes) -> None:
        header = read_header(data)
        if kind == POINT_CLOUD:
            self._warn(f"{topic} is a point cloud: it is compared at the end, where its transforms are known")
        elif header is not None:
            self._score.add_truth(header[0], ImageMessage(-1, 0, *header, kind, data).depth)
            self._compare()

    def _on_depth(self, data: bytes) -> None:
        message = deserialise(data, IMAGE)
        self._camera_frame = message.header.frame_id
        self._score.add_depth(stamp_to_ns(message.header.stamp), depth_from_message(message))
        self._compare()

    def _compare(self) -> None:
        for compared in self._score.compare():
            self._publish(compared)

    # What goes out

    def _publish(self, compared: Compared) -> None:
        header = make_header(compared.stamp_ns, self._camera_frame)
        figures = DiagnosticArray(header=header)
        for name, (said, values) in self._score.figures.statuses(compared.metrics).items():
            pairs = [KeyValue(key=key, value=value) for key, value in values.items()]
            figures.status.append(DiagnosticStatus(name=name, message=said, values=pairs))
        picture = rgb_message(colourise_error(compared.depth, compared.truth), header)
        for publisher, message in ((self._metrics, figures), (self._error_image, picture)):
            publisher.publish(message)
            if self["result_bag"]:
                self._recording.write(publisher.topic_name, serialize_message(message))

    def _say(self) -> None:
        figures = self._score.figures
        if figures.count:
            self.get_logger().info(
                f"{figures.count} depth images compared: {words(figures.mean)}, {figures.mean.abs_error:.3f} m"
            )
        if self._score.without_truth:
            self.get_logger().warning(f"{self._score.without_truth} depth images had no truth at their stamp")

    def _report(self, topics: EvaluationTopics, depth_range_m: tuple[float, float], node: dict[str, object]) -> None:
        # Imported here: torch takes seconds, and the first images would wait for them.
        from dvmvs_ros.evaluation.evaluation_report import report_recordings, run_facts

        self.get_logger().info("writing the report")
        from_tf = node.get("pose_source", "tf") == "tf" or not topics.poses
        inputs = BagTopics(
            image_topic=topics.image,
            camera_info_topic=topics.info,
            depth_topic=topics.truth,
            world_frame=node.get("world_frame") if from_tf else None,
            pose_topic=None if from_tf else topics.poses[0],
            rectify=node.get("rectify", AUTO),
        )
        name = self["name"] or (Path(self["result_bag"]).stem if self["result_bag"] else "live")
        page, figures, failures = report_recordings(
            self._recording.bags,
            topics,
            inputs,
            name,
            Path(self["report_folder"]),
            depth_range_m,
            run_facts(node, depth_range_m),
        )
        for failure in failures:
            self.get_logger().warning(failure)
        for part in figures["live"]:
            dropped = ", ".join(f"{count} {reason}" for reason, count in part["dropped"].items()) or "none"
            self.get_logger().info(f"{part['name']}: {part['images']} images, dropped: {dropped}")
        self.get_logger().info(f"report: {page}")


def main(args: Sequence[str] | None = None) -> int:
    """Evaluate until Ctrl-C or SIGTERM; returns 0, or 1 for what a user can fix."""
    share_cores()
    return run_to_its_end(EvaluationNode, EvaluationNode.evaluate, args)


if __name__ == "__main__":
    sys.exit(main())
