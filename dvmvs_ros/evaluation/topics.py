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
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2

from dvmvs_core.data.lens.valid_mask import is_mask_topic
from dvmvs_ros.messages.conversions import type_name

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
    """Return the topics by the node's parameters; None while the depth node is not there and they do not say enough."""

    def named(parameter: str) -> str:
        name = node.get_parameter(parameter).value
        return node.resolve_topic_name(name) if name else ""

    status = named("status_topic")
    heard = _heard_by(node, status.rpartition("/")[0])
    masks = [name for name in heard if is_mask_topic(name)]
    images = [name for name, types in heard.items() if {IMAGE, COMPRESSED_IMAGE} & types and name not in masks]
    infos = [name for name, types in heard.items() if CAMERA_INFO in types]
    image = named("image_topic") or next(iter(images), "")
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
    mask = next(iter(masks), "")
    return EvaluationTopics(image, info, mask, truth, named("depth_topic"), status, named("points_topic"), poses, types)


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
