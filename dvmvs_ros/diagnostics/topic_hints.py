# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Why nothing comes on a topic, as far as the ROS graph tells: nobody publishes, another type, another quality."""

from __future__ import annotations

import time

from rclpy.node import Node
from rclpy.subscription import Subscription

from dvmvs_ros.messages.conversions import type_name
from dvmvs_ros.process.endpoints import describe_node_of
from dvmvs_ros.process.qos import deaf_publishers

TOPICS_NAMED = 6
REFRESH_S = 4.0


class TopicHints:
    """Explains silence, asking the graph every few seconds only: with many topics that takes a while.

    Args:
        node: whose view of the graph counts.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._answers: dict[str, tuple[float, str]] = {}

    def explain_silence(self, subscription: Subscription) -> str:
        """Return a sentence that says why a subscription may hear nothing, and what to do."""
        topic, now_s = subscription.topic_name, time.monotonic()
        asked_s, answer = self._answers.get(topic, (float("-inf"), ""))
        if now_s - asked_s > REFRESH_S:
            answer = _explain_silence(self._node, subscription)
            self._answers[topic] = (now_s, answer)
        return answer


def _explain_silence(node: Node, subscription: Subscription) -> str:
    topic = subscription.topic_name
    wanted = type_name(subscription.msg_type)
    publishers = node.get_publishers_info_by_topic(topic)
    if not publishers:
        return f"Nobody publishes it; {_alternatives(node, wanted)}"
    others = sorted({info.topic_type for info in publishers if info.topic_type != wanted})
    if others:
        hint = " (parameter image_transport)" if "Image" in wanted else ""
        return f"It is published as {', '.join(others)}, and {wanted} is needed{hint}"
    deaf = deaf_publishers(node, topic, subscription.qos_profile)
    if deaf:
        return " ".join(deaf)
    return (
        f"{describe_node_of(publishers[0])} announces it, but no message comes: is the sensor running,"
        " and are large messages lost on the way (see config/fastdds.xml)?"
    )


def _alternatives(node: Node, wanted: str) -> str:
    """The topics of a type that somebody publishes."""
    found = sorted(
        topic
        for topic, types in node.get_topic_names_and_types()
        if wanted in types
        and any(info.node_name != node.get_name() for info in node.get_publishers_info_by_topic(topic))
    )
    if not found:
        return f"no topic of the type {wanted} is published at all. Is the driver running, in the same ROS_DOMAIN_ID?"
    more = len(found) - TOPICS_NAMED
    named = ", ".join(found[:TOPICS_NAMED]) + (f" and {more} more" if more > 0 else "")
    return f"topics of the type {wanted}: {named}. Remap to one of them"
