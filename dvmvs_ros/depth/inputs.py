# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What an active node listens to: images, their intrinsics and poses, and when each was last heard of."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped
from nav_msgs.msg import Odometry
from rclpy.node import Node
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from dvmvs_core.data.lens.camera_view import Rectification
from dvmvs_core.types import Frame
from dvmvs_ros.depth.config import NodeConfig
from dvmvs_ros.depth.frame_timeline import FrameTimeline
from dvmvs_ros.depth.input_watch import Input, InputWatch
from dvmvs_ros.depth.mask_input import MaskInput
from dvmvs_ros.depth.motion_watch import MotionWatch
from dvmvs_ros.depth.settings import (
    COMPRESSED,
    FROM_ODOMETRY,
    FROM_POSE,
    FROM_POSE_WITH_COVARIANCE,
    FROM_TF,
    NETWORK_SIZE,
)
from dvmvs_ros.poses.pose_admission import PoseAdmission
from dvmvs_ros.poses.pose_messages import PoseMessages
from dvmvs_ros.poses.transform_listener import TransformListener
from dvmvs_ros.process.qos import sensor_qos

POSE_TYPES = {FROM_ODOMETRY: Odometry, FROM_POSE: PoseStamped, FROM_POSE_WITH_COVARIANCE: PoseWithCovarianceStamped}


class Inputs:
    """The subscriptions of an active node.

    Args:
        node: the node to subscribe with.
        config: its configuration.
        network_size: (h, w) of the network's input.
        on_image: takes each image message.
        on_camera_info: takes each camera_info.
        on_poses: called when poses may have come.
        warn: told of what had to be refused.

    Attributes:
        transforms: where poses come from.
        admission: which of them are believed.
        rectification: makes frames' images of the messages'.
        mask: what they show.
        watch: when each input was last heard of.
        motion: how the camera moved.
        camera_frame: optical frame of the last image; empty before the first.
        stamp_ns: its time.
        age_s: how old it was when it arrived, by the node's clock.
        camera_info_fault: why the last camera_info cannot be used; empty if it can.
    """

    def __init__(
        self,
        node: Node,
        config: NodeConfig,
        network_size: tuple[int, int],
        *,
        on_image: Callable[[Image | CompressedImage], None],
        on_camera_info: Callable[[CameraInfo], None],
        on_poses: Callable[[], None],
        warn: Callable[[str], None],
    ) -> None:
        self.admission = PoseAdmission(config.transform_cache_s, lambda: node.get_clock().now().nanoseconds)
        with ExitStack() as undo:
            poses_changed = node.create_guard_condition(on_poses)
            undo.callback(node.destroy_guard_condition, poses_changed)
            self.transforms = _open_poses(node, config, poses_changed.trigger, warn, self.admission)
            undo.callback(self.transforms.close)
            self.rectification = Rectification(
                config.rectify,
                node.resolve_topic_name("image"),
                network_size if config.depth_size == NETWORK_SIZE else None,
                config.engine.crop,
                node.get_logger().info,
            )
            # The executor serves subscriptions in this order: first what an image needs, which may come with it.
            self.mask = MaskInput(node, self.rectification, config.max_image_pixels, warn)
            undo.callback(node.destroy_subscription, self.mask.subscription)
            self.camera_info = node.create_subscription(
                CameraInfo, "camera_info", on_camera_info, **sensor_qos(node, "camera_info", warn)
            )
            undo.callback(node.destroy_subscription, self.camera_info)
            self.image = _subscribe_to_images(node, config.image_transport, on_image, warn)
            undo.callback(node.destroy_subscription, self.image)
            self._open = undo.pop_all()
        self.watch = InputWatch()
        self.motion = MotionWatch()
        self.camera_frame = ""
        self.stamp_ns = 0
        self.age_s = 0.0
        self.camera_info_fault = ""
        from_tf = config.pose_source == FROM_TF
        self._poses = f"in {config.world_frame!r} from /tf" if from_tf else f"from {self.transforms.topic}"

    def describe(self) -> str:
        """Return where everything comes from, for a person."""
        return (
            f"images from {self.image.topic_name}, intrinsics from {self.camera_info.topic_name}, poses {self._poses}"
        )

    def note_image(self, timeline: FrameTimeline) -> None:
        """Take note of an image that can be read: its optical frame, its time, and how old it was on arrival."""
        self.camera_frame, self.stamp_ns = timeline.camera_frame_id, timeline.stamp_ns
        self.age_s = (timeline.received_ns - timeline.stamp_ns) * 1e-9
        if self.admission.note_image(timeline.stamp_ns):
            self.transforms.forget_after(timeline.stamp_ns + self.admission.limit_ns)

    def note_frame(self, frame: Frame) -> None:
        """Take note of a frame that got its pose."""
        self.watch.hear(Input.POSE)
        self.motion.add(frame.stamp_ns, frame.world_T_cam)

    def clear_poses(self) -> None:
        """Forget all moving transforms and what time it is."""
        self.transforms.clear()
        self.admission.clear()

    def follow_jump(self) -> None:
        """Forget all moving transforms but those that jumped back with the last image."""
        self.transforms.clear()
        self.admission.follow_jump()

    def close(self) -> None:
        """Stop listening."""
        self._open.close()


def _subscribe_to_images(
    node: Node, transport: str, on_image: Callable[[Image | CompressedImage], None], warn: Callable[[str], None]
) -> Subscription:
    message_type, topic = Image, "image"
    if transport == COMPRESSED:
        # As image_transport does it: the name is remapped first, then lengthened.
        message_type, topic = CompressedImage, f"{node.resolve_topic_name('image')}/compressed"
    return node.create_subscription(message_type, topic, on_image, **sensor_qos(node, topic, warn))


def _open_poses(
    node: Node,
    config: NodeConfig,
    on_change: Callable[[], None],
    warn: Callable[[str], None],
    admission: PoseAdmission,
) -> TransformListener | PoseMessages:
    transforms = TransformListener(node, config.transform_cache_s, on_change, warn, admission)
    if config.pose_source == FROM_TF:
        return transforms
    return PoseMessages(
        node,
        POSE_TYPES[config.pose_source],
        config.pose_source,
        config.pose_frame,
        config.transform_cache_s,
        config.body_T_camera,
        transforms,
        on_change,
        warn,
        admission,
    )
