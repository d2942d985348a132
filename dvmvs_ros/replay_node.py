# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Plays a scene folder or a bag onto topics, as a robot would: image, camera_info, mask, sensor depth, TF and /clock.

At a rate that may change while it plays, with pauses; or in lockstep: then each image waits for the depth node's answer
to the one before, so a slow machine loses nothing and the result is that of offline prediction.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import count, islice
from pathlib import Path

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import TransformStamped
from rcl_interfaces.msg import ParameterDescriptor, SetParametersResult
from rclpy.clock import Clock as RosClock
from rclpy.clock import ClockType
from rclpy.duration import Duration
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image
from std_srvs.srv import Trigger
from tf2_msgs.msg import TFMessage

from dvmvs_core.atomic import replacing
from dvmvs_core.data.bags.bag_sequence import BagTopics
from dvmvs_core.data.bags.bag_writer import depth_pixels
from dvmvs_core.data.lens.camera_view import NEVER
from dvmvs_core.data.lens.valid_mask import MaskChanges
from dvmvs_core.data.open_sequence import open_sequence
from dvmvs_core.data.sequence import SequenceItem
from dvmvs_core.errors import ConfigError, MessageError
from dvmvs_core.geometry import inverse_pose, is_finite_pose
from dvmvs_ros.depth.frame_status import FrameStatus
from dvmvs_ros.messages.conversions import (
    camera_info_message,
    make_header,
    mask_message,
    metric_depth_message,
    ns_to_stamp,
    raw_depth_message,
    rgb_message,
    transform_message,
)
from dvmvs_ros.play_clock import PlayClock
from dvmvs_ros.process.endpoints import node_name_of
from dvmvs_ros.process.guard import GuardedNode, guarded_spin
from dvmvs_ros.process.main_program import POLL_S, run_to_its_end, spin_until
from dvmvs_ros.process.node_log import QuietLog
from dvmvs_ros.process.remote_parameters import remote_parameters

BASE_T_OPTICAL = np.array(((0, 0, 1, 0), (-1, 0, 0, 0), (0, -1, 0, 0), (0, 0, 0, 1)), dtype=np.float64)
"""A camera that looks along the base's x axis: optical z is base x, optical x is base −y (REP 103)."""

LAST_ANSWERS_S = 5.0
"""How long the player waits at the end for answers that are still to come, and for subscribers to take a topic."""

SETTLED_S = 0.5
"""After time jumped: until every subscriber knows of it."""

KNOWN_S = 10.0
"""How long a subscriber of images may take to say that it knows the player."""

FASTEST = 10.0

QUEUE = 100
"""Messages of a topic that a slow subscriber may be behind: in lockstep the player waits for the depth node only."""

PARAMETERS = (
    ("sequence", "", "Scene folder or rosbag2 to play."),
    ("image_topic", "", "Topic of the images in a rosbag2; empty: found by type."),
    ("camera_info_topic", "", "Topic of their intrinsics."),
    ("depth_topic", "", "Topic of sensor depth."),
    ("pose_topic", "", "Topic of Odometry or poses, with covariance or not; empty: /tf, if that leads to the camera."),
    ("tf_topic", "", "Topic of moving transforms; empty: /tf, and those named tf in a namespace of the images."),
    ("rate", 1.0, "Speed, up to 10, 1 = as recorded; 0 = as fast as possible, which makes sense in lockstep only."),
    ("start_paused", False, "Wait for ~/resume before the first image."),
    ("clock_hz", 40.0, "How often /clock is published, besides once for each image; 0 = for each image only."),
    ("lockstep", False, "Wait for the depth node's answer to each image before sending the next."),
    ("answer_timeout_s", 30.0, "Longest wait for an answer, seconds."),
    ("loops", 1, "How often to play it; 0 = until stopped. Time jumps back in between."),
    ("limit", 0, "Images to play; 0 = all."),
    ("subscribers", 1, "Wait for this many subscribers of images, intrinsics and TF before starting; 0 = do not wait."),
    ("world_frame", "odom", "Frame of the poses."),
    ("base_frame", "base_link", "Moving frame that carries the camera; empty: the camera hangs below world_frame."),
    ("camera_frame", "camera_optical_frame", "Optical frame of the camera."),
    ("publish_clock", True, "Publish /clock, for nodes with use_sim_time."),
    ("summary_file", "", "Write what was sent, when, and what was answered to this JSON file."),
    ("progress", False, "Print one line of JSON a frame to standard output, for programs."),
)
"""(name, default, description). Only `rate` can change while it plays."""


class ReplayNode(GuardedNode):
    """Publishes a recording.

    Publishers are reliable, which suits subscribers of either kind. Images that still have the distortion of their lens
    go to camera/image_raw, with a camera_info that says so.
    """

    def __init__(self, **arguments) -> None:
        super().__init__("replay_node", **arguments)
        for name, default, description in PARAMETERS:
            descriptor = ParameterDescriptor(description=description, read_only=name != "rate")
            self.declare_parameter(name, default, descriptor)
        self.add_on_set_parameters_callback(self._on_parameters)
        self._time = PlayClock(self["rate"])
        for name, act in (("pause", self._pause), ("resume", self._resume), ("toggle_paused", self._toggle)):
            self.create_service(Trigger, f"~/{name}", act)
        self._camera_info = self.create_publisher(CameraInfo, "camera/camera_info", QoSProfile(depth=QUEUE))
        self._sensor_depth = self.create_publisher(Image, "camera/depth", QoSProfile(depth=QUEUE))
        self._tf = self.create_publisher(TFMessage, "/tf", QoSProfile(depth=QUEUE))
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._tf_static = self.create_publisher(TFMessage, "/tf_static", latched)
        self._mask: Publisher | None = None
        self._masks = MaskChanges()
        self._clock_publisher = self.create_publisher(Clock, "/clock", QoSProfile(depth=10))
        if self["publish_clock"] and self["clock_hz"] > 0:
            steady = RosClock(clock_type=ClockType.STEADY_TIME)
            self._ticking = self.create_timer(1.0 / self["clock_hz"], self._tick, clock=steady)
        self._started = False
        self._warn = QuietLog(self.get_logger().warning)
        self._status = self.create_subscription(
            DiagnosticArray, "depth_node/frame_status", self._on_status, QoSProfile(depth=100)
        )
        self._answers: deque[int] = deque(maxlen=QUEUE)
        self._answered = self._sent = 0
        self._sent_times: list[tuple[int, int]] = []

    def play(self, executor: SingleThreadedExecutor, stop: threading.Event) -> None:
        """Play until the end or until stopped.

        Raises:
            DvmvsError: if the sequence cannot be read, or the parameters contradict each other.
        """
        if not self["sequence"]:
            raise ConfigError("parameter sequence must name a scene folder or a rosbag2; got nothing")
        if problem := self._rate_problem(self["rate"]):
            raise ConfigError(problem)
        sequence = open_sequence(self["sequence"], self._topics())
        total = min(self["limit"] or len(sequence), len(sequence))
        self._executor, self._stop = executor, stop
        first = next(sequence.items(depth=False))
        self._image = self.create_publisher(Image, _image_topic(first), QoSProfile(depth=QUEUE))
        self._publish_base_T_camera()
        self._publish_mask(first)
        self._wait_for_subscribers()
        if self._mask is not None:
            self._mask.wait_for_all_acked(Duration(seconds=LAST_ANSWERS_S))
        self.get_logger().info(f"playing {total} images of {sequence.name}")
        if self["start_paused"]:
            self._time.pause()
        for loop in count():
            if stop.is_set() or (self["loops"] and loop >= self["loops"]):
                break
            self._answers.clear()
            self._start_at(first.frame.stamp_ns)
            self._play_once(islice(sequence.items(), total), total)
        if self.count_publishers(self._status.topic_name):
            self._wait(lambda: self._answered >= self._sent, LAST_ANSWERS_S)
        # What is still on its way is lost when the process ends.
        for publisher in filter(None, (self._image, self._camera_info, self._mask, self._sensor_depth, self._tf)):
            publisher.wait_for_all_acked(Duration(seconds=LAST_ANSWERS_S))
        for note in sequence.notes:
            self.get_logger().warning(note)
        self.get_logger().info(f"played {self._sent} images; {self._answered} were answered")
        self._write_summary(sequence.name)

    def _play_once(self, items: Iterable[SequenceItem], total: int) -> None:
        for item in items:
            stamp_ns = item.frame.stamp_ns
            self._time.run_to(stamp_ns)
            while (left_s := self._time.left_s) > 0 and not self._stop.is_set():
                guarded_spin(self._executor, min(left_s, POLL_S))
            if self._stop.is_set():
                return
            self._publish(item)
            if self["lockstep"] and not self._wait(lambda ns=stamp_ns: ns in self._answers, self["answer_timeout_s"]):
                if self._stop.is_set():
                    return
                self.get_logger().warning(
                    f"no answer to the image at {stamp_ns} ns within {self['answer_timeout_s']:g} s; going on"
                )
            if self["lockstep"]:
                self._time.forgive()
            if self["progress"]:
                print(json.dumps({"sent": self._sent, "of": total, "answered": self._answered}), flush=True)

    def _publish(self, item: SequenceItem) -> None:
        frame = item.frame
        header = make_header(frame.stamp_ns, self["camera_frame"])
        height, width = frame.image.shape[:2]
        self._publish_clock(frame.stamp_ns)
        if is_finite_pose(frame.world_T_cam):  # while tracking is lost, a robot publishes no transform either
            self._tf.publish(TFMessage(transforms=[self._pose_message(frame.stamp_ns, frame.world_T_cam)]))
        self._publish_mask(item)
        info = camera_info_message(frame.K, height, width, header)
        if item.lens is not None:
            info.distortion_model, info.d = item.lens.model, item.lens.coefficients.tolist()
            info.k, info.r = item.lens.K.reshape(-1).tolist(), item.lens.R.reshape(-1).tolist()
        self._camera_info.publish(info)
        if item.sensor_depth is not None:
            _, encoding = depth_pixels(item.sensor_depth)
            depth_message = raw_depth_message if encoding == "16UC1" else metric_depth_message
            self._sensor_depth.publish(depth_message(item.sensor_depth, header))
        message = rgb_message(frame.image, header)
        self._sent += 1
        if self["summary_file"]:  # else a recording that is played for ever would fill the memory with them
            self._sent_times.append((frame.stamp_ns, time.time_ns()))
        self._image.publish(message)

    def _publish_mask(self, item: SequenceItem) -> None:
        """Publish what the camera shows, if that has changed; a recording without masks gets no topic for them."""
        mask = self._masks.changed(item.valid_mask, item.frame.image.shape[:2])
        if mask is None:
            return
        if self._mask is None:
            latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
            self._mask = self.create_publisher(Image, "camera/valid_mask", latched)
        self._mask.publish(mask_message(mask, make_header(item.frame.stamp_ns, self["camera_frame"])))

    def _pose_message(self, stamp_ns: int, world_T_cam: np.ndarray) -> TransformStamped:
        if not self["base_frame"]:
            return transform_message(stamp_ns, self["world_frame"], self["camera_frame"], world_T_cam)
        world_T_base = world_T_cam @ inverse_pose(BASE_T_OPTICAL)
        return transform_message(stamp_ns, self["world_frame"], self["base_frame"], world_T_base)

    def _publish_base_T_camera(self) -> None:
        if self["base_frame"]:
            base_T_camera = transform_message(0, self["base_frame"], self["camera_frame"], BASE_T_OPTICAL)
            self._tf_static.publish(TFMessage(transforms=[base_T_camera]))

    def _start_at(self, stamp_ns: int) -> None:
        """Set the time, and let everyone notice before anything else comes: it may be a jump back."""
        self._time.start(stamp_ns)
        again, self._started = self._started, True
        self._publish_clock(stamp_ns)
        if again:
            self._wait(lambda: False, SETTLED_S)

    def _tick(self) -> None:
        if self._started:
            self._publish_clock(self._time.now_ns)

    def _publish_clock(self, now_ns: int) -> None:
        if self["publish_clock"]:
            self._clock_publisher.publish(Clock(clock=ns_to_stamp(now_ns)))

    def _pause(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._time.pause()
        return self._said(response)

    def _resume(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._time.resume()
        return self._said(response)

    def _toggle(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        return (self._resume if self._time.paused else self._pause)(request, response)

    def _said(self, response: Trigger.Response) -> Trigger.Response:
        response.success = True
        response.message = f"{'paused' if self._time.paused else 'playing'} at {self._time.now_ns * 1e-9:.3f} s"
        self.get_logger().info(response.message)
        return response

    def _on_parameters(self, changes: Sequence[Parameter]) -> SetParametersResult:
        for change in changes:
            if change.name == "rate":
                if problem := self._rate_problem(change.value):
                    return SetParametersResult(successful=False, reason=problem)
                self._time.set_rate(change.value)
        return SetParametersResult(successful=True)

    def _rate_problem(self, rate: float) -> str | None:
        if 0 < rate <= FASTEST or (rate == 0 and self["lockstep"]):
            return None
        return f"rate must be positive and at most {FASTEST:g}, or 0 in lockstep; got {rate:g}"

    def _topics(self) -> BagTopics:
        """What to read of a bag; images as they were recorded, for the depth node to rectify."""
        names = ("image_topic", "camera_info_topic", "depth_topic", "pose_topic", "tf_topic")
        return BagTopics(**{name: self[name] or None for name in names}, rectify=NEVER)

    def _wait_for_subscribers(self) -> None:
        wanted = self["subscribers"]
        publishers: list[Publisher] = [self._image, self._camera_info, self._tf]

        def missing() -> str | None:
            for publisher in publishers:
                if publisher.get_subscription_count() < wanted:
                    return f"waiting for {wanted} subscribers of {publisher.topic_name}"
            if self["lockstep"] and not self.count_publishers(self._status.topic_name):
                return f"waiting for a publisher of {self._status.topic_name}"
            return None

        while wanted and not self._stop.is_set() and (reason := missing()):
            self.get_logger().info(reason, throttle_duration_sec=5.0)
            guarded_spin(self._executor, POLL_S)
        # Who has no name yet cannot be asked.
        self._wait(lambda: all(self._listeners()), KNOWN_S)
        # Both sides of each connection must know of each other; this side being ready says nothing of the other.
        for listener in filter(None, self._listeners()):
            remote_parameters(self, listener, (), self._executor, self._stop, KNOWN_S)

    def _listeners(self) -> list[str]:
        """The names of the nodes that listen to the images; empty where unknown."""
        return [node_name_of(endpoint) for endpoint in self.get_subscriptions_info_by_topic(self._image.topic_name)]

    def _wait(self, until: Callable[[], bool], timeout_s: float) -> bool:
        return spin_until(self._executor, until, self._stop, timeout_s)

    def _on_status(self, message: DiagnosticArray) -> None:
        try:
            status = FrameStatus.from_message(message)
        except MessageError as error:
            self._warn(f"{self._status.topic_name}: {error}")
            return
        self._answers.append(status.stamp_ns)
        self._answered += 1

    def _write_summary(self, name: str) -> None:
        if not self["summary_file"]:
            return
        summary = {
            "sequence": name,
            "sent": [{"stamp_ns": stamp_ns, "published_ns": wall_ns} for stamp_ns, wall_ns in self._sent_times],
            "answered": self._answered,
        }
        with replacing(Path(self["summary_file"])) as unfinished:
            unfinished.write_text(json.dumps(summary, indent=1))


def _image_topic(item: SequenceItem) -> str:
    return "camera/image_rect" if item.lens is None else "camera/image_raw"


def main(args: Sequence[str] | None = None) -> int:
    """Play a recording until its end or Ctrl-C; returns 0, or 1 for what a user can fix."""
    return run_to_its_end(ReplayNode, ReplayNode.play, args)


if __name__ == "__main__":
    sys.exit(main())
