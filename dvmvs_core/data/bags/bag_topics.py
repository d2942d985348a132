# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Which topics of a bag are read: those named, or else those of the one camera that there is, chosen by type and name.

Topics of one robot or camera share the beginning of their names.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

from dvmvs_core.data.bags.bag_files import BagFiles
from dvmvs_core.data.bags.bag_images import COMPRESSED_IMAGE, IMAGE, ImageTopic, base_topic, image_topics
from dvmvs_core.data.encodings.image_message import COLOUR_ENCODINGS
from dvmvs_core.data.lens.camera_view import AUTO, is_rectified_topic
from dvmvs_core.errors import DataError

CAMERA_INFO, POINT_CLOUD = "sensor_msgs/msg/CameraInfo", "sensor_msgs/msg/PointCloud2"


@dataclass(frozen=True)
class BagTopics:
    """Topics and frames of a bag; each that is None is found by type."""

    image_topic: str | None = None
    """Topic of the colour images, uncompressed or compressed."""
    camera_info_topic: str | None = None
    """Topic of their intrinsics."""
    depth_topic: str | None = None
    """Topic of sensor depth, or a PointCloud2 to project into the images, which is never chosen by itself."""
    world_frame: str | None = None
    """Frame that poses are expressed in: `odom` if there is one, else the root of the camera's tree."""
    pose_topic: str | None = None
    """Topic of Odometry, PoseStamped or PoseWithCovarianceStamped; by default only where /tf does not lead to the
    camera."""
    rectify: str = AUTO
    """Whether images of a camera with lens distortion are rectified: `always`, `never`, or `auto` to go by the name of
    their topic, as the node's parameter of that name says."""
    tf_topic: str | None = None
    """Topic of moving transforms: by default /tf, and those named tf in a namespace of the images."""


class ChosenTopics(NamedTuple):
    """What is read of a bag, less its poses.

    Attributes:
        images: what each topic of images holds.
        image: topic of the colour images.
        camera_info: topic of their intrinsics.
        depth: topic of sensor depth, images or points; None if there is none.
        notes: a sentence on intrinsics that may be those of another camera.
    """

    images: dict[str, ImageTopic]
    image: str
    camera_info: str
    depth: str | None
    notes: list[str]


def choose_topics(files: BagFiles, wanted: BagTopics) -> ChosenTopics:
    """Choose the topics of a bag; its images are asked what they are.

    Raises:
        DataError: if one that was named is not there, there are no images or intrinsics, or several to choose from.
    """
    images = _find_images(files, wanted.image_topic)
    image = wanted.image_topic or _choose_image(files, images)
    if image not in images:
        raise DataError(f"{files.path} has no images on {image!r}; it has images on {', '.join(images)}")
    camera_info = _choose_camera_info(files, image, wanted.camera_info_topic)
    notes = []
    if strangers(camera_info, image):
        notes.append(f"{files.path}: the intrinsics of {image} come from {camera_info}, the only camera_info there is")
    depth, clouds = wanted.depth_topic or _choose_depth(files, image, images), files.of_type(POINT_CLOUD)
    if depth is not None and depth not in (*images, *clouds):
        raise DataError(
            f"{files.path} has no depth on {depth!r}; it has images on {', '.join(images)}"
            + (f" and points on {', '.join(clouds)}" if clouds else "")
        )
    return ChosenTopics(images, image, camera_info, depth, notes)


def info_topic(image_topic: str) -> str:
    """Return the topic next to a topic of images on which image_transport puts their intrinsics."""
    return base_topic(image_topic).rpartition("/")[0] + "/camera_info"


def belongs(topic: str, image_topic: str) -> bool:
    """Return whether a topic is of the namespace of some images, or of one around it: /tf and /robot1/tf are for
    /robot1/camera/image, and /robot2/tf is not.
    """
    space = _parts(topic)[:-1]
    return _parts(image_topic)[: len(space)] == space


def nearest(topics: Collection[str], image_topic: str) -> list[str]:
    """Return those of some topics that share the longest beginning with the topic of images."""
    most = max((_shared(topic, image_topic) for topic in topics), default=0)
    return [topic for topic in topics if _shared(topic, image_topic) == most]


def strangers(topic: str, image_topic: str) -> bool:
    """Return whether two topics share no beginning at all, though both are in a namespace."""
    return len(_parts(topic)) > 1 and len(_parts(image_topic)) > 1 and not _shared(topic, image_topic)


def _find_images(files: BagFiles, wanted: str | None) -> dict[str, ImageTopic]:
    found, unreadable = image_topics(files)
    if wanted in unreadable:
        raise DataError(f"{files.path}: no image on {wanted} can be read; the first: {unreadable[wanted]}")
    if wanted is None and unreadable and not any(image.is_colour for image in found.values()):
        reasons = "; ".join(f"{topic}: {why}" for topic, why in unreadable.items())
        raise DataError(f"{files.path}: none of its colour images can be read; {reasons}. Decode them first")
    if not found:
        held = ", ".join(f"{name} ({topic.message_type})" for name, topic in files.topics.items())
        raise DataError(f"{files.path} must hold images of type {IMAGE} or {COMPRESSED_IMAGE}; found {held}")
    return found


def _choose_image(files: BagFiles, found: dict[str, ImageTopic]) -> str:
    """The topic of the colour images: colour before grey, rectified before raw, and only if one is left."""
    colour = [topic for topic, image in found.items() if image.is_colour]
    if not colour:
        held = ", ".join(f"{topic} ({image.encoding})" for topic, image in found.items())
        raise DataError(f"{files.path} must hold images as {', '.join(COLOUR_ENCODINGS)}; found {held}")
    for better in (
        lambda topic: not found[topic].is_depth,
        lambda topic: not found[topic].is_grey,
        is_rectified_topic,
        lambda topic: not found[topic].compressed,
    ):
        colour = [topic for topic in colour if better(topic)] or colour
    if len({base_topic(topic) for topic in colour}) > 1:
        raise DataError(f"{files.path} holds several colour images, {', '.join(colour)}: name one with --image-topic")
    return colour[0]


def _choose_depth(files: BagFiles, image_topic: str, found: dict[str, ImageTopic]) -> str | None:
    """The topic of sensor depth: that of the camera's own frame first, and only if one is left."""
    depth = [topic for topic, image in found.items() if image.is_depth and topic != image_topic]
    # Images of mono16 may be of a camera: only a name makes them depth.
    depth = [topic for topic in depth if not found[topic].is_colour or "depth" in topic]
    colour, near = found[image_topic], nearest(depth, image_topic)
    for better in (
        lambda topic: found[topic].frame_id == colour.frame_id,
        lambda topic: found[topic].size == colour.size,
        lambda topic: topic in near,
        lambda topic: not found[topic].compressed,
    ):
        depth = [topic for topic in depth if better(topic)] or depth
    if len({base_topic(topic) for topic in depth}) > 1:
        raise DataError(f"{files.path} holds several depth images, {', '.join(depth)}: name one with --depth-topic")
    return depth[0] if depth else None


def _choose_camera_info(files: BagFiles, image_topic: str, wanted: str | None) -> str:
    path, available = files.path, files.of_type(CAMERA_INFO)
    if not available:
        raise DataError(f"{path} must hold a {CAMERA_INFO} for {image_topic}; it holds none")
    if wanted is not None and wanted not in available:
        raise DataError(f"{path} has no camera_info on {wanted!r}; it has {', '.join(available)}")
    next_to_it = info_topic(image_topic)
    around = nearest([topic for topic in available if belongs(topic, image_topic)], image_topic)
    topic = wanted or (next_to_it if next_to_it in available else (around or available)[0])
    if topic not in (wanted, next_to_it) and len(around) != 1 and len(available) > 1:
        raise DataError(
            f"{path} has no {next_to_it} for {image_topic}, but {', '.join(available)}:"
            " name one with --camera-info-topic"
        )
    return topic


def _shared(topic: str, other: str) -> int:
    pairs = zip(_parts(topic)[:-1], _parts(other)[:-1], strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(_parts(topic)), len(_parts(other))) - 1)


def _parts(topic: str) -> list[str]:
    return topic.strip("/").split("/")
