# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What a bag knows of the true depth of its images: a depth image of the same camera or of another, or a lidar.

Depth of another camera and points of a lidar are moved by the transforms of both stamps through the world, so that the
motion between them is taken out, and become the depth image that the colour camera would have seen.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import numpy as np

from dvmvs_core.data.bags.bag_cameras import BagCamera
from dvmvs_core.data.bags.bag_files import BagFiles, deserialise
from dvmvs_core.data.bags.bag_images import ImageMessage, image_messages
from dvmvs_core.data.bags.bag_poses import PoseStream
from dvmvs_core.data.bags.bag_topics import CAMERA_INFO, POINT_CLOUD, ChosenTopics, info_topic
from dvmvs_core.data.lens.camera_info import CameraModel
from dvmvs_core.data.lens.camera_view import is_raw_topic
from dvmvs_core.data.lens.raw_depth import raw_depth_points, rectify_depth
from dvmvs_core.data.point_clouds import cloud_points, depth_points, project_points
from dvmvs_core.errors import DataError, MessageError, TransformError, TransformExtrapolationError

logger = logging.getLogger(__name__)

DEPTH_TOLERANCE_NS = 5_000_000
"""How far the stamp of a depth image may be from that of its colour image."""

CLOUD_TOLERANCE_NS = 50_000_000
"""The same of a scan: half a turn of a lidar at 10 Hz."""

SAME_INTRINSICS = 0.005
"""Relative difference of intrinsics up to which depth of the colour image's frame and size lies on its pixels."""


class BagDepth:
    """The sensor depth of a bag.

    Args:
        files: the bag.
        chosen: the topics of the bag, with one of depth.
        colour_camera: intrinsics of the images that depth is for.
        colour_is_raw: whether they are rectified, with the intrinsics that depth gets.
        rectify: which topics of depth are raw, as in `Rectification`.
    """

    def __init__(
        self,
        files: BagFiles,
        chosen: ChosenTopics,
        colour_camera: BagCamera,
        colour_is_raw: bool,
        rectify: str,
    ) -> None:
        topic = self.topic = chosen.depth
        self._files = files
        self._colour = chosen.images[chosen.image]
        self._depth = chosen.images.get(topic)
        self._camera: BagCamera | None = None
        own = info_topic(topic)
        if self._depth and own != colour_camera.topic and own in files.of_type(CAMERA_INFO):
            self._camera = self._own_camera(own)
        # Depth that says nothing of its camera lies on the pixels of the colour image as that was recorded.
        self._is_raw = is_raw_topic(rectify, topic) and (self._camera is not None or colour_is_raw)
        self._is_registered = self._depth is not None and self._lies_on(colour_camera)

    def _own_camera(self, topic: str) -> BagCamera | None:
        try:
            return BagCamera(self._files, topic)
        except DataError as error:
            if not self._looks_registered:
                raise
            logger.warning("%s; %s is taken as depth of the colour camera", error, self.topic)
            return None

    @property
    def _looks_registered(self) -> bool:
        return self._depth.frame_id == self._colour.frame_id and self._depth.size == self._colour.size

    def _lies_on(self, colour_camera: BagCamera) -> bool:
        """Whether depth has the colour camera's pixels, once both are rectified."""
        if self._camera is None or not self._looks_registered:
            return self._looks_registered
        own, colour = self._camera.at(self._depth.stamp_ns), colour_camera.at(self._colour.stamp_ns)
        return np.allclose(own.K, colour.K, rtol=SAME_INTRINSICS)

    def stream(self, transforms: PoseStream, world_frame: str) -> DepthStream:
        """Return depth for one pass through the images.

        Raises:
            DataError: if depth of another camera comes without what moving it takes.
        """
        messages = image_messages(self._files, self.topic)
        if self._depth is None:
            return DepthStream(messages, CLOUD_TOLERANCE_NS, self._moved(_cloud, transforms, world_frame))
        if self._is_registered:
            return DepthStream(messages, DEPTH_TOLERANCE_NS, self._registered)
        if self._camera is None:
            raise DataError(
                f"{self.topic} must have the size of the colour image, {_size(self._colour.size)}; got"
                f" {_size(self._depth.size)} in the frame {self._depth.frame_id!r}. Record depth registered to the"
                f" colour camera, or its own intrinsics on {info_topic(self.topic)}"
            )
        return DepthStream(messages, DEPTH_TOLERANCE_NS, self._moved(self._points, transforms, world_frame))

    def _registered(self, message: ImageMessage, stamp_ns: int, camera: CameraModel) -> np.ndarray:
        depth = message.depth()
        if depth.shape != (camera.height, camera.width):
            raise MessageError(
                f"{self.topic} must have the size of the colour image, {camera.width}×{camera.height}; got"
                f" {_size(depth.shape)} at {message.stamp_ns} ns"
            )
        camera = self._camera.at(message.stamp_ns) if self._camera else camera
        if depth.shape != (camera.height, camera.width):
            raise MessageError(
                f"{self._camera.topic} is of {camera.width}×{camera.height} for depth of {_size(depth.shape)}"
            )
        return rectify_depth(depth, camera) if self._is_raw and camera.lens else depth

    def _points(self, message: ImageMessage) -> np.ndarray:
        depth, camera = message.depth(), self._camera.at(message.stamp_ns)
        if depth.shape != (camera.height, camera.width):
            odd = depth.shape != self._depth.size  # it alone, and not its topic
            raise (MessageError if odd else DataError)(
                f"{self._camera.topic} must be of the size of {self.topic}, {_size(depth.shape)};"
                f" got {camera.width}×{camera.height}"
            )
        return raw_depth_points(depth, camera) if self._is_raw and camera.lens else depth_points(depth, camera.K)

    def _moved(self, points: Callable[[ImageMessage], np.ndarray], transforms: PoseStream, world_frame: str):
        """A reader that moves points of a message into the camera."""

        def read(message: ImageMessage, stamp_ns: int, camera: CameraModel) -> np.ndarray | None:
            try:
                world_T_cam = transforms.lookup(world_frame, self._colour.frame_id, stamp_ns)
                world_T_sensor = transforms.lookup(world_frame, message.frame_id, message.stamp_ns)
            except TransformExtrapolationError:
                return None
            except TransformError as error:
                raise DataError(f"{self.topic} cannot be moved to the colour camera: {error}") from error
            cam_T_sensor = np.linalg.inv(world_T_cam) @ world_T_sensor
            moved = points(message) @ cam_T_sensor[:3, :3].T + cam_T_sensor[:3, 3]
            return project_points(moved, camera.K, (camera.height, camera.width))

        return read


class DepthStream:
    """Finds the message nearest to a stamp while both streams move forward.

    Args:
        messages: in the order of their stamps.
        tolerance_ns: how far their stamp may be from the one asked for.
        read: makes depth of a message for an image's stamp and camera.
    """

    def __init__(
        self,
        messages: Iterator[ImageMessage],
        tolerance_ns: int,
        read: Callable[[ImageMessage, int, CameraModel], np.ndarray | None],
    ) -> None:
        self._messages = messages
        self._tolerance_ns = tolerance_ns
        self._read = read
        self._near: list[ImageMessage] = []
        self._said = False

    def near(self, stamp_ns: int, camera: CameraModel | None) -> np.ndarray | None:
        """Return depth (H, W) near a stamp, or None; stamps must not decrease from call to call.

        Args:
            stamp_ns: the image's.
            camera: its intrinsics and size; None to go on without reading.

        Raises:
            DataError: if depth has another size than its camera.
        """
        tolerance_ns = self._tolerance_ns
        self._near = [message for message in self._near if message.stamp_ns >= stamp_ns - tolerance_ns]
        while not self._near or self._near[-1].stamp_ns <= stamp_ns + tolerance_ns:
            message = next(self._messages, None)
            if message is None:
                break
            if message.stamp_ns >= stamp_ns - tolerance_ns:
                self._near.append(message)
        nearest = min(self._near, key=lambda message: abs(message.stamp_ns - stamp_ns), default=None)
        if camera is None or nearest is None or abs(nearest.stamp_ns - stamp_ns) > tolerance_ns:
            return None
        try:
            return self._read(nearest, stamp_ns, camera)
        except MessageError as error:
            # Once: what is wrong with one message of a topic is wrong with all of them, as a rule.
            level, self._said = (logging.DEBUG if self._said else logging.WARNING), True
            logger.log(level, "depth at %d ns is left out: %s", nearest.stamp_ns, error)
            return None


def _cloud(message: ImageMessage) -> np.ndarray:
    return cloud_points(deserialise(message.data, POINT_CLOUD))


def _size(size: tuple[int, ...]) -> str:
    return f"{size[1]}×{size[0]}"
