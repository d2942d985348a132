# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What the evaluation listens to: the topics that the depth node itself hears and publishes on."""

from __future__ import annotations

from dataclasses import dataclass

from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped
from nav_msgs.msg import Odometry
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2

from dvmvs_core.data.lens.valid_mask import is_mask_topic
from dvmvs_core.errors import ConfigError
from dvmvs_ros.messages.conversions import type_name
from dvmvs_ros.process.endpoints import node_name_of

IMAGE, COMPRESSED_IMAGE, POINT_CLOUD = type_name(Image), type_name(CompressedImage), type_name(PointCloud2)
CAMERA_INFO = type_name(CameraInfo)
POSES = tuple(map(type_name, (Odometry, PoseStamped, PoseWithCovarianceStamped)))


@dataclass(frozen=True)
class EvaluationTopics:
    """Full names of topics, and the types of those that may be of several.

    Attributes:
        image: the depth node's images.
        info: their intrinsics.
        mask: which of their pixels show the scene; empty if the depth node hears none.
        truth: true depth.
        depth: published depth; its camera_info and confidence are next to it.
        status: what the depth node says of each image.
        points: published clouds.
        poses: topics of poses that the depth node hears.
        types: name → type of image, truth and poses.
    """

    image: str
    info: str
    mask: str
    truth: str
    depth: str
    status: str
    points: str
    poses: tuple[str, ...]
    types: dict[str, str]

    @property
    def depth_info(self) -> str:
        """The camera_info of published depth."""
        return f"{self.depth.rpartition('/')[0]}/camera_info"

    @property
    def confidence(self) -> str:
        """The confidence of published depth."""
        return f"{self.depth.rpartition('/')[0]}/confidence"


def find_topics(node: Node) -> EvaluationTopics | None:
    """Return the topics by the node's parameters; None while the depth node is not there and they do not say enough.

    Raises:
        ConfigError: if it cannot be told which of what the depth node hears are its images.
    """

    def named(parameter: str) -> str:
        name = node.get_parameter(parameter).value
        return node.resolve_topic_name(name) if name else ""

    status = named("status_topic")
    depth_node = status.rpartition("/")[0]
    heard = _heard_by(node, depth_node)
    infos = [name for name, types in heard.items() if CAMERA_INFO in types]
    image, mask = _image_and_mask(node, depth_node, heard, named("image_topic"))
    info = named("camera_info_topic") or next(iter(infos), "")
    if not image or not info:
        return None
    truth = named("truth_topic")
    poses = tuple(name for name, types in heard.items() if types.intersection(POSES))
    kinds = {name: set(types) for name, types in node.get_topic_names_and_types()}
    types = {
        image: _one_of(kinds.get(image), (IMAGE, COMPRESSED_IMAGE), image),
        truth: _one_of(kinds.get(truth), (IMAGE, COMPRESSED_IMAGE, POINT_CLOUD), truth),
        **{name: _one_of(heard[name], POSES, name) for name in poses},
    }
    return EvaluationTopics(image, info, mask, truth, named("depth_topic"), status, named("points_topic"), poses, types)


def _image_and_mask(node: Node, depth_node: str, heard: dict[str, set[str]], image: str) -> tuple[str, str]:
    """Which of the two topics of pictures that a depth node hears are its images and its mask, whatever their names.

    A mask is uncompressed and, as the depth node asks for it, latched. Empty while both are not known.
    """
    pictures = [name for name, types in heard.items() if {IMAGE, COMPRESSED_IMAGE} & types]
    if len(pictures) < 2 and not image:
        return "", ""  # a node that is being activated hears the mask first
    plain = [name for name in pictures if IMAGE in heard[name] and name != image]
    masks = [name for name in plain if is_mask_topic(name)]
    masks = masks or [name for name in plain if _hears_latched(node, depth_node, name)]
    if not masks and (not image or image in pictures):
        masks = plain
    if len(masks) > 1 and not image:
        raise ConfigError(f"the images of {depth_node} may be on {' or '.join(masks)}: say which with image_topic")
    mask = next(iter(masks), "")
    return image or next(name for name in pictures if name != mask), mask


def _hears_latched(node: Node, other: str, topic: str) -> bool:
    """Whether a node subscribes to a topic as to a latched one."""
    return any(
        node_name_of(info) == other and info.qos_profile.durability is DurabilityPolicy.TRANSIENT_LOCAL
        for info in node.get_subscriptions_info_by_topic(topic)
    )


def _heard_by(node: Node, other: str) -> dict[str, set[str]]:
    """What a node subscribes to: topic → types; nothing while there is no such node."""
    namespace, _, name = other.rpartition("/")
    try:
        found = node.get_subscriber_names_and_types_by_node(name, namespace or "/")
    except Exception:  # rclpy's error for a node that is not there yet has changed its name between distributions
        return {}
    return {topic: set(types) for topic, types in found}


def _one_of(found: set[str] | None, wanted: tuple[str, ...], topic: str) -> str:
    """The type of a topic; where nobody publishes it yet, what its name says."""
    for kind in wanted:
        if found and kind in found:
            return kind
    compressed = topic.rpartition("/")[2] in ("compressed", "compressedDepth")
    return COMPRESSED_IMAGE if compressed and COMPRESSED_IMAGE in wanted else wanted[0]
