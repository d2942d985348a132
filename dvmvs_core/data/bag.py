"""rosbag2 recordings as sequences: the same stamps, lookups and pixels as the node sees.

Topics are found by type, intrinsics come from CameraInfo, and the pose of an image is the transform from its frame_id
to the world frame at its own stamp. An image without a transform is left out and counted, as in the node.
"""

from __future__ import annotations

import logging
import struct
from bisect import bisect_right
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dvmvs_core.data.bag_files import BagFiles, deserialise
from dvmvs_core.data.camera_info import CameraModel, camera_model
from dvmvs_core.data.image_message import COLOUR_ENCODINGS, decode_depth, decode_image, is_depth_encoding
from dvmvs_core.data.sequence import DepthItem, PoseItem, Sequence, SequenceItem
from dvmvs_core.data.transforms import TransformTree
from dvmvs_core.errors import DataError, MessageError, TransformError
from dvmvs_core.types import Frame

logger = logging.getLogger(__name__)

IMAGE, CAMERA_INFO, TRANSFORMS = "sensor_msgs/msg/Image", "sensor_msgs/msg/CameraInfo", "tf2_msgs/msg/TFMessage"

PREFERRED_WORLD_FRAME = "odom"
"""By REP 105 `odom` is continuous and `map` may jump, which would tear keyframes apart."""

DEPTH_TOLERANCE_NS = 5_000_000
"""How far the stamp of a depth image may be from that of its colour image."""

NO_TRANSFORM, OUT_OF_ORDER, DAMAGED = "no transform at its stamp", "not newer than the one before", "damaged message"


@dataclass(frozen=True)
class BagTopics:
    """Topics and frames of a bag; each that is None is found by type."""

    image_topic: str | None = None
    """Topic of the rectified colour images."""
    camera_info_topic: str | None = None
    """Topic of their intrinsics."""
    depth_topic: str | None = None
    """Topic of sensor depth registered to them."""
    world_frame: str | None = None
    """Frame that poses are expressed in: `odom` if there is one, else the root of the camera's tree."""


class _Image(NamedTuple):
    """An image message: its place among the images of its topic, its header and its bytes."""

    index: int
    stamp_ns: int
    frame_id: str
    data: bytes


class BagSequence(Sequence):
    """A rosbag2 as a sequence.

    Args:
        path: bag folder, or a single .mcap or .db3 file.
        topics: what to read where the choice by type would be wrong.

    Attributes:
        image_topic: topic of the images.
        camera_info_topic: topic of their intrinsics.
        depth_topic: topic of sensor depth, or None.
        world_frame: frame that poses are expressed in.
        camera_frame: frame_id of the images.

    Raises:
        DataError: if there are no images, intrinsics or transforms, or more than one camera to choose from.
    """

    def __init__(self, path: Path, topics: BagTopics) -> None:
        self._files = BagFiles(path)
        firsts = self._first_images()
        self.image_topic = topics.image_topic or _choose_image(path, firsts)
        first = firsts.get(self.image_topic)
        if first is None:
            raise DataError(
                f"{path} has no images on {self.image_topic!r}; it has images on {', '.join(firsts) or 'no topic'}"
            )
        self.camera_frame = first.header.frame_id
        self.camera_info_topic, self._cameras = self._read_cameras(topics.camera_info_topic)
        self.depth_topic = topics.depth_topic or _choose_depth(path, self.image_topic, firsts)
        if self.depth_topic is not None and self.depth_topic not in firsts:
            raise DataError(f"{path} has no images on {self.depth_topic!r}; it has images on {', '.join(firsts)}")
        super().__init__(path, has_depth=self.depth_topic is not None)
        self._transforms = self._read_transforms()
        self.world_frame = self._choose_world_frame(topics.world_frame)
        self.notes.extend(self._files.notes)
        self._check_camera(first)
        for note in self.notes:
            logger.warning(note)

    def __len__(self) -> int:
        """Return the number of images stored."""
        return self._files.topics[self.image_topic].count

    def poses(self) -> Iterator[PoseItem]:
        """Yield the poses; images are read, since their stamps are in them, but not decoded."""
        for image, world_T_cam in self._posed_images():
            yield PoseItem(image.index, _name(image.index), image.stamp_ns, world_T_cam)

    def items(self, depth: bool = True) -> Iterator[SequenceItem]:
        """Yield the frames.

        Raises:
            DataError: if no image at all has a transform, or depth has another size than its image.
        """
        depths = _DepthByStamp(self._images(self.depth_topic)) if depth and self.depth_topic else None
        for image, world_T_cam in self._posed_images():
            try:
                pixels = _pixels(image, decode_image)
                camera = self._camera(image.stamp_ns, pixels)
            except MessageError as error:
                self._drop(DAMAGED, error)
                continue
            frame = Frame(pixels, camera.K, world_T_cam, image.stamp_ns, image.index)
            sensor_depth = depths.near(image.stamp_ns) if depths else None
            if sensor_depth is not None:
                _check_depth(self.depth_topic, sensor_depth, camera)
            yield SequenceItem(frame, _name(image.index), sensor_depth)

    def sensor_depths(self, indices: Collection[int]) -> Iterator[DepthItem]:
        """Yield the sensor depth of the images with these indices, less those that have none."""
        if self.depth_topic is None:
            return
        wanted = set(indices)
        depths = _DepthByStamp(self._images(self.depth_topic))
        for image in self._images(self.image_topic):
            sensor_depth = depths.near(image.stamp_ns) if image.index in wanted else None
            if sensor_depth is not None:
                camera = self._cameras.at(image.stamp_ns)
                _check_depth(self.depth_topic, sensor_depth, camera)
                yield DepthItem(image.index, camera.K, sensor_depth)

    def _first_images(self) -> dict[str, object]:
        """The first whole image of each topic that has any."""
        firsts = {}
        for topic in self._files.of_type(IMAGE):
            for message in self._files.messages({topic}):
                try:
                    firsts[topic] = deserialise(message.data, IMAGE)
                    break
                except MessageError as error:
                    logger.debug("%s, topic %s: %s", self._files.path, topic, error)
        if not firsts:
            found = ", ".join(f"{name} ({topic.message_type})" for name, topic in self._files.topics.items())
            raise DataError(f"{self._files.path} must hold images of type {IMAGE}; found {found}")
        return firsts

    def _read_cameras(self, wanted: str | None) -> tuple[str, _Cameras]:
        path, available = self._files.path, self._files.of_type(CAMERA_INFO)
        if not available:
            raise DataError(f"{path} must hold a {CAMERA_INFO} for {self.image_topic}; it holds none")
        if wanted is not None and wanted not in available:
            raise DataError(f"{path} has no camera_info on {wanted!r}; it has {', '.join(available)}")
        beside = self.image_topic.rpartition("/")[0] + "/camera_info"
        topic = wanted or (beside if beside in available else available[0])
        if wanted is None and topic != beside and len(available) > 1:
            raise DataError(
                f"{path} has no {beside} for {self.image_topic}, but {', '.join(available)}:"
                " name one with --camera-info-topic"
            )
        cameras = _Cameras()
        try:
            for message in self._files.messages({topic}):
                info = deserialise(message.data, CAMERA_INFO)
                cameras.add(_stamp_ns(info.header), camera_model(info.height, info.width, info.k, info.p, info.d))
        except MessageError as error:
            raise DataError(f"{path}, topic {topic}: {error}") from error
        return topic, cameras

    def _read_transforms(self) -> TransformTree:
        """All transforms, before the first image: their order in a bag is not that of their stamps."""
        tree = TransformTree()
        moving, refused = 0, ""
        for message in self._files.messages(self._files.of_type(TRANSFORMS)):
            static = message.topic.endswith("tf_static")
            try:
                transforms = deserialise(message.data, TRANSFORMS).transforms
            except MessageError as error:
                refused = str(error)
                continue
            for stamped in transforms:
                t, q = stamped.transform.translation, stamped.transform.rotation
                edge = (stamped.header.frame_id, stamped.child_frame_id, _stamp_ns(stamped.header))
                try:
                    tree.set_transform(*edge, (t.x, t.y, t.z), (q.x, q.y, q.z, q.w), static)
                    moving += not static
                except TransformError as error:
                    refused = str(error)
        if refused:
            self.notes.append(f"{self._files.path}: some transforms were refused, the last because {refused}")
        if not moving:
            raise DataError(
                f"{self._files.path} must hold moving transforms on /tf for the camera's pose; it holds"
                f" {'only static ones' if tree.frames() else 'no transform'}"
            )
        return tree

    def _choose_world_frame(self, wanted: str | None) -> str:
        frames, camera = self._transforms.frames(), self.camera_frame.removeprefix("/")
        if wanted is not None:
            if wanted.removeprefix("/") not in frames:
                raise DataError(f"{self.path} has no frame {wanted!r}; it has {', '.join(frames)}")
            return wanted
        if camera not in frames:
            raise DataError(
                f"{self.path}: no transform leads to {camera!r}, the frame_id of {self.image_topic};"
                f" transforms join {', '.join(frames)}"
            )
        root = self._transforms.root(camera)
        if PREFERRED_WORLD_FRAME in frames and self._transforms.root(PREFERRED_WORLD_FRAME) == root:
            return PREFERRED_WORLD_FRAME
        if root == camera:
            raise DataError(
                f"{self.path}: {camera!r} is itself the root of its tree, so the world frame is not plain;"
                f" name one of {', '.join(frames)} with --world-frame"
            )
        return root

    def _check_camera(self, first) -> None:
        camera = self._cameras.at(_stamp_ns(first.header))
        if (camera.height, camera.width) != (first.height, first.width):
            raise DataError(
                f"{self.path}: {self.camera_info_topic} must be of the size of {self.image_topic},"
                f" {first.width}×{first.height}; got {camera.width}×{camera.height}"
            )
        if camera.distorted and "rect" not in self.image_topic.rpartition("/")[2]:
            self.notes.append(
                f"{self.path}: {self.camera_info_topic} has lens distortion and {self.image_topic} does not look"
                " rectified: depth will be wrong towards the borders. Record a rectified image (image_proc)"
            )

    def _camera(self, stamp_ns: int, pixels: np.ndarray) -> CameraModel:
        camera = self._cameras.at(stamp_ns)
        if (camera.height, camera.width) != pixels.shape[:2]:
            raise MessageError(
                f"an image of {pixels.shape[1]}×{pixels.shape[0]} came with a camera_info of"
                f" {camera.width}×{camera.height}"
            )
        return camera

    def _images(self, topic: str) -> Iterator[_Image]:
        """The image messages of a topic with whole headers."""
        for index, message in enumerate(self._files.messages({topic})):
            header = _read_header(message.data)
            if header is not None:
                yield _Image(index, *header, message.data)

    def _posed_images(self) -> Iterator[tuple[_Image, np.ndarray]]:
        """Every image that can become a frame, with its pose; counts the others."""
        self.dropped.clear()
        self._last_reason = ""
        newest_ns, posed = None, 0
        for image in self._images(self.image_topic):
            if newest_ns is not None and image.stamp_ns <= newest_ns:
                self._drop(OUT_OF_ORDER, f"image {image.index} goes back in time")
                continue
            newest_ns = image.stamp_ns
            try:
                world_T_cam = self._transforms.lookup(self.world_frame, image.frame_id, image.stamp_ns)
            except TransformError as error:
                self._drop(NO_TRANSFORM, error)
                continue
            posed += 1
            yield image, world_T_cam
        if not posed:
            raise DataError(f"{self.path}: none of {len(self)} images has a pose; {self._last_reason}")
        if self.dropped:
            reasons = ", ".join(f"{count} {reason}" for reason, count in self.dropped.items())
            logger.warning("%s: left out of %d images: %s; the last because %s", self.path, len(self), reasons,
                           self._last_reason)

    def _drop(self, reason: str, detail: object) -> None:
        self.dropped[reason] += 1
        self._last_reason = str(detail)


class _Cameras:
    """Intrinsics over time, kept only where they change."""

    def __init__(self) -> None:
        self._stamps: list[int] = []
        self._cameras: list[CameraModel] = []

    def add(self, stamp_ns: int, camera: CameraModel) -> None:
        if self._cameras and _same_camera(self._cameras[-1], camera):
            return
        self._stamps.append(stamp_ns)
        self._cameras.append(camera)

    def at(self, stamp_ns: int) -> CameraModel:
        """The newest intrinsics at a time, or the first of all."""
        return self._cameras[max(0, bisect_right(self._stamps, stamp_ns) - 1)]


class _DepthByStamp:
    """Finds the depth image nearest to a stamp while both streams move forward."""

    def __init__(self, images: Iterator[_Image]) -> None:
        self._images = images
        self._near: list[_Image] = []

    def near(self, stamp_ns: int) -> np.ndarray | None:
        """Return depth (H, W) within the tolerance of a stamp, or None; stamps must not decrease from call to call."""
        self._near = [image for image in self._near if image.stamp_ns >= stamp_ns - DEPTH_TOLERANCE_NS]
        while not self._near or self._near[-1].stamp_ns <= stamp_ns + DEPTH_TOLERANCE_NS:
            image = next(self._images, None)
            if image is None:
                break
            if image.stamp_ns >= stamp_ns - DEPTH_TOLERANCE_NS:
                self._near.append(image)
        nearest = min(self._near, key=lambda image: abs(image.stamp_ns - stamp_ns), default=None)
        if nearest is None or abs(nearest.stamp_ns - stamp_ns) > DEPTH_TOLERANCE_NS:
            return None
        try:
            return _pixels(nearest, decode_depth)
        except MessageError as error:
            logger.warning("depth at %d ns is left out: %s", nearest.stamp_ns, error)
            return None


def _choose_image(path: Path, firsts: dict) -> str:
    """The topic of the colour images: colour before grey, rectified before raw, and only if one is left."""
    colour = [topic for topic, first in firsts.items() if first.encoding in COLOUR_ENCODINGS]
    if not colour:
        found = ", ".join(f"{topic} ({first.encoding})" for topic, first in firsts.items())
        raise DataError(f"{path} must hold images as {', '.join(COLOUR_ENCODINGS)}; found {found}")
    for better in (lambda topic: firsts[topic].encoding != "mono8", lambda topic: "rect" in topic.rpartition("/")[2]):
        colour = [topic for topic in colour if better(topic)] or colour
    if len(colour) > 1:
        raise DataError(f"{path} holds several colour images, {', '.join(colour)}: name one with --image-topic")
    return colour[0]


def _choose_depth(path: Path, image_topic: str, firsts: dict) -> str | None:
    """The topic of sensor depth: that of the camera's own frame first, and only if one is left."""
    depth = [topic for topic, first in firsts.items() if is_depth_encoding(first.encoding) and topic != image_topic]
    image = firsts[image_topic]
    for better in (
        lambda topic: firsts[topic].header.frame_id == image.header.frame_id,
        lambda topic: (firsts[topic].height, firsts[topic].width) == (image.height, image.width),
    ):
        depth = [topic for topic in depth if better(topic)] or depth
    if len(depth) > 1:
        raise DataError(f"{path} holds several depth images, {', '.join(depth)}: name one with --depth-topic")
    return depth[0] if depth else None


def _check_depth(topic: str, sensor_depth: np.ndarray, camera: CameraModel) -> None:
    if sensor_depth.shape != (camera.height, camera.width):
        raise DataError(
            f"{topic} must have the size of the colour image, {camera.width}×{camera.height}; got"
            f" {sensor_depth.shape[1]}×{sensor_depth.shape[0]}. Record depth registered to the colour camera"
        )


def _same_camera(a: CameraModel, b: CameraModel) -> bool:
    return (a.height, a.width, a.distorted) == (b.height, b.width, b.distorted) and np.array_equal(a.K, b.K)


def _pixels(image: _Image, decode) -> np.ndarray:
    message = deserialise(image.data, IMAGE)
    return decode(
        message.encoding, message.height, message.width, message.step, message.is_bigendian, message.data
    )


def _read_header(data: bytes) -> tuple[int, str] | None:
    """The stamp and frame_id that a CDR message starts with, without touching the rest; None if it is too short."""
    order = "<" if data[1:2] == b"\x01" else ">"
    try:
        seconds, nanoseconds, length = struct.unpack_from(f"{order}iII", data, 4)
        return seconds * 10**9 + nanoseconds, bytes(data[16 : 16 + length - 1]).decode()
    except (struct.error, UnicodeDecodeError):
        return None


def _stamp_ns(header) -> int:
    return header.stamp.sec * 10**9 + header.stamp.nanosec


def _name(index: int) -> str:
    return f"{index:05d}.png"
