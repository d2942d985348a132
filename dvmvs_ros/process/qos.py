# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Quality of service of every topic: a default that fits, each policy a parameter, and a warning naming who differs.

The parameters are `qos_overrides./TOPIC.subscription.POLICY` and `qos_overrides./TOPIC.publisher.POLICY`.
"""

from __future__ import annotations

from collections.abc import Callable

from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import (
    DurabilityPolicy,
    QoSCompatibility,
    QoSPolicyKind,
    QoSProfile,
    ReliabilityPolicy,
    qos_check_compatible,
)
from rclpy.qos_overriding_options import QoSOverridingOptions

from dvmvs_ros.process.endpoints import describe_node_of, node_name_of

Warn = Callable[[str], None]


def sensor_qos(node: Node, topic: str, warn: Warn) -> dict[str, object]:
    """Return what `create_subscription` needs for a sensor's topic: best effort, which listens to every publisher.

    A new profile each time: rclpy writes the overrides of one topic into the profile that it is given.

    Args:
        node: the node that subscribes.
        topic: the topic, without remapping.
        warn: told when a publisher turns up that cannot be heard.
    """
    profile = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
    return subscription_qos(node, topic, profile, warn)


def subscription_qos(node: Node, topic: str, profile: QoSProfile, warn: Warn) -> dict[str, object]:
    """Return what `create_subscription` needs for a topic of another profile (see `sensor_qos`)."""

    def differs(_) -> None:
        for peer in deaf_publishers(node, node.resolve_topic_name(topic), profile):
            warn(peer)

    return {
        "qos_profile": profile,
        "qos_overriding_options": _overridable(),
        "event_callbacks": SubscriptionEventCallbacks(incompatible_qos=differs),
    }


def output_qos(node: Node, topic: str, warn: Warn, depth: int = 5, latched: bool = False) -> dict[str, object]:
    """Return what `create_publisher` needs: reliable, which suits subscribers of either kind.

    Args:
        node: the node that publishes.
        topic: the topic, without remapping.
        warn: told when a subscriber turns up that cannot hear.
        depth: messages kept for slow subscribers.
        latched: whether who comes late gets the last message.
    """
    durability = DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE
    profile = QoSProfile(depth=depth, durability=durability)

    def differs(_) -> None:
        name = node.resolve_topic_name(topic)
        # The profile as the graph has it: an unset deadline of our own object would pass for one of no time at all.
        full_name = node.get_fully_qualified_name()
        own = [i.qos_profile for i in node.get_publishers_info_by_topic(name) if node_name_of(i) == full_name]
        for info in node.get_subscriptions_info_by_topic(name):
            misfit = next(filter(None, (_misfit(profile, info.qos_profile) for profile in own)), "")
            if misfit:
                advice = _advice(name, "publisher")
                warn(f"{describe_node_of(info)} subscribes to {name} but gets nothing: {misfit}. {advice}")

    return {
        "qos_profile": profile,
        "qos_overriding_options": _overridable(),
        "event_callbacks": PublisherEventCallbacks(incompatible_qos=differs),
    }


def deaf_publishers(node: Node, topic: str, profile: QoSProfile) -> list[str]:
    """Return a sentence for each publisher of a topic that a subscription of this profile hears nothing of."""
    sentences = []
    for info in node.get_publishers_info_by_topic(topic):
        misfit = _misfit(info.qos_profile, profile)
        if misfit:
            advice = _advice(topic, "subscription")
            sentences.append(
                f"{describe_node_of(info)} publishes {topic}, but nothing of it arrives: {misfit}. {advice}"
            )
    return sentences


def _overridable() -> QoSOverridingOptions:
    """ROS's own choice, and durability: what is published once, before the node starts, is heard with it only."""
    kinds = QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH, QoSPolicyKind.RELIABILITY, QoSPolicyKind.DURABILITY
    return QoSOverridingOptions(kinds)


def _misfit(publisher: QoSProfile, subscription: QoSProfile) -> str:
    """Why nothing of a publisher reaches a subscription; empty if it does."""
    fits, reason = qos_check_compatible(publisher, subscription)
    return reason.removeprefix("ERROR: ").rstrip(".; ") if fits == QoSCompatibility.ERROR else ""


def _advice(topic: str, side: str) -> str:
    return f"Change it there, or here by the parameters qos_overrides.{topic}.{side}.*"
