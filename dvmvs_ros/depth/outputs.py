# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Everything that one prediction becomes: depth, its camera_info and range, confidence, preview and cloud.

A topic costs something only while somebody subscribes to it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace

import cv2
import numpy as np
from rclpy.lifecycle import LifecycleNode, LifecyclePublisher
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2, Range
from std_msgs.msg import Header

from dvmvs_core.data.encodings.pictures import colour_depth
from dvmvs_core.data.lens.valid_mask import apply_valid_mask
from dvmvs_core.types import DepthPrediction, Frame
from dvmvs_ros.depth.config import LiveConfig, NodeConfig
from dvmvs_ros.depth.estimation import RateLimit
from dvmvs_ros.depth.settings import INPUT_SIZE, MILLIMETRES
from dvmvs_ros.messages.compressed_depth import compressed_depth_message
from dvmvs_ros.messages.conversions import (
    camera_info_message,
    cloud_message,
    confidence_message,
    metric_depth_message,
    range_message,
    raw_depth_message,
    rgb_message,
)
from dvmvs_ros.messages.upsampling import upsample_depth
from dvmvs_ros.process.qos import output_qos


class Outputs:
    """The publishers of one configured node.

    Args:
        node: the node to publish with.
        config: its configuration.
        depth_range_m: nearest and farthest depth that the network can measure.
        warn: told of subscribers whose quality of service does not fit.
    """

    def __init__(
        self,
        node: LifecycleNode,
        config: NodeConfig,
        depth_range_m: tuple[float, float],
        warn: Callable[[str], None],
    ) -> None:
        self._node = node
        self._encoding = config.depth_encoding
        self._input_size = config.depth_size == INPUT_SIZE
        self._depth_range_m = depth_range_m
        self._warn = warn
        self._publishers: list[LifecyclePublisher] = []
        with ExitStack() as undo:  # one topic may be refused, by a policy say
            undo.callback(self.destroy)
            self._depth = self._publisher(Image, "depth/image")
            # As image_transport does it: the name is remapped first, then lengthened.
            self._compressed_depth = self._publisher(CompressedImage, f"{self._depth.topic_name}/compressedDepth")
            self._camera_info = self._publisher(CameraInfo, "depth/camera_info")
            # The same under the names that image_pipeline subscribes to: depth registered to the colour image.
            self._registered_depth = self._publisher(Image, "depth_registered/image_rect")
            self._registered_info = self._publisher(CameraInfo, "depth_registered/camera_info")
            self._range = self._publisher(Range, "depth/range", depth=1, latched=True)
            self._confidence = self._publisher(Image, "depth/confidence")
            self._preview = self._publisher(Image, "depth/preview")
            self._points = self._publisher(PointCloud2, "points")
            undo.pop_all()
        self._published_range: tuple | None = None
        self._points_rate, self._preview_rate = RateLimit(), RateLimit()

    @property
    def depth_topic(self) -> str:
        """The topic of the depth image, with namespace and remapping."""
        return self._depth.topic_name

    def wants_depth(self) -> bool:
        """Return whether anybody subscribes to anything."""
        return any(_wanted(publisher) for publisher in self._publishers if publisher is not self._range)

    def wants_confidence(self, config: LiveConfig) -> bool:
        """Return whether anything that somebody subscribes to needs confidence."""
        if _wanted(self._confidence) or _wanted(self._points):
            return True
        return config.depth_min_confidence > 0 and self.wants_depth()

    def range_m(self, config: LiveConfig) -> tuple[float, float]:
        """Return nearest and farthest depth that can be published now."""
        low, high = self._depth_range_m
        return max(low, config.min_depth_m), min(high, config.max_depth_m)

    def publish(
        self,
        prediction: DepthPrediction,
        frame: Frame,
        valid_mask: np.ndarray | None,
        header: Header,
        config: LiveConfig,
    ) -> None:
        """Publish a prediction on every topic that is subscribed to.

        Args:
            prediction: depth of the frame, at the network's size, as `apply_valid_mask` left it.
            frame: what it was made from.
            valid_mask: which pixels of the frame's image the camera shows; None for all.
            header: the image's stamp and the camera's frame.
            config: what holds now.
        """
        if self._input_size and self._wants_images():
            self._publish_images(apply_valid_mask(_enlarged(prediction, frame), valid_mask), header, config)
        else:
            self._publish_images(prediction, header, config)
        points = config.points_kept
        # A first subscriber may have come while the network ran without confidence; it gets the next one.
        ready = prediction.confidence is not None or not config.confidence
        if ready and _wanted(self._points) and self._points_rate.allows(frame.stamp_ns, config.points_max_rate_hz):
            self._points.publish(cloud_message(prediction, header, points, config.points_organized))

    def destroy(self) -> None:
        """Remove every publisher."""
        for publisher in self._publishers:
            self._node.destroy_lifecycle_publisher(publisher)

    def _publisher(self, message_type: type, topic: str, **qos) -> LifecyclePublisher:
        publisher = self._node.create_lifecycle_publisher(
            message_type, topic, **output_qos(self._node, topic, self._warn, **qos)
        )
        self._publishers.append(publisher)
        return publisher

    def _wants_images(self) -> bool:
        return any(_wanted(publisher) for publisher in self._publishers if publisher not in (self._range, self._points))

    def _publish_images(self, prediction: DepthPrediction, header: Header, config: LiveConfig) -> None:
        height, width = prediction.depth.shape
        _publish_wanted(
            (self._camera_info, self._registered_info), lambda: camera_info_message(prediction.K, height, width, header)
        )
        self._publish_range(prediction, header, config)
        if any(map(_wanted, (self._depth, self._registered_depth, self._compressed_depth))):
            depth = _limited(prediction, config)
            depth_message = raw_depth_message if self._encoding == MILLIMETRES else metric_depth_message
            _publish_wanted((self._depth, self._registered_depth), lambda: depth_message(depth, header))
            if _wanted(self._compressed_depth):
                farthest_m = self.range_m(config)[1]
                self._compressed_depth.publish(compressed_depth_message(depth, self._encoding, farthest_m, header))
        if prediction.confidence is not None and _wanted(self._confidence):
            self._confidence.publish(confidence_message(prediction.confidence, header))
        if _wanted(self._preview) and self._preview_rate.allows(prediction.stamp_ns, config.preview_max_rate_hz):
            preview = colour_depth(prediction.depth, config.preview_min_depth_m, config.preview_max_depth_m)
            self._preview.publish(rgb_message(preview, header))

    def _publish_range(self, prediction: DepthPrediction, header: Header, config: LiveConfig) -> None:
        """Publish the range of depth, latched: once, and again when it or the camera changes."""
        limits = (*self.range_m(config), prediction.K[0, 0], prediction.depth.shape[1], header.frame_id)
        if limits != self._published_range:
            low, high, focal, width, _ = limits
            self._range.publish(range_message(low, high, 2.0 * np.arctan(0.5 * width / focal), header))
            self._published_range = limits


def _enlarged(prediction: DepthPrediction, frame: Frame) -> DepthPrediction:
    """The prediction at the size of the frame's image."""
    depth, confidence, size = prediction.depth, prediction.confidence, frame.image.shape[1::-1]
    # Unseen pixels are hidden again afterwards; until then they must not count as near.
    filled = np.where(depth > 0, depth, np.float32(depth.max(initial=1.0)))
    return replace(
        prediction,
        depth=upsample_depth(filled, frame.image),
        confidence=None if confidence is None else cv2.resize(confidence, size),
        image=frame.image,
        K=frame.K,
    )


def _limited(prediction: DepthPrediction, config: LiveConfig) -> np.ndarray:
    """The depth of the depth image: -Inf too near, +Inf too far, 0 invalid or not confident enough."""
    depth = prediction.depth
    near, far = (depth > 0) & (depth < config.min_depth_m), depth > config.max_depth_m
    unsure = np.zeros(depth.shape, bool)
    if config.depth_min_confidence > 0 and prediction.confidence is not None:
        unsure = prediction.confidence < config.depth_min_confidence
    if not (near.any() or far.any() or unsure.any()):
        return depth
    limited = np.where(near, -np.inf, np.where(far, np.inf, depth))
    limited[unsure] = 0.0
    return limited.astype(np.float32)


def _publish_wanted(publishers: tuple[LifecyclePublisher, ...], make: Callable[[], object]) -> None:
    """Publish one message on those topics that somebody subscribes to; it is made only if there is one."""
    if wanted := list(filter(_wanted, publishers)):
        message = make()
        for publisher in wanted:
            publisher.publish(message)


def _wanted(publisher: LifecyclePublisher) -> bool:
    return publisher.get_subscription_count() > 0
