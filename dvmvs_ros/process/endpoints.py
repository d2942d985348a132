# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Whose publisher or subscription it is that the graph of ROS tells of."""

from __future__ import annotations

from rclpy.topic_endpoint_info import TopicEndpointInfo


def node_name_of(endpoint: TopicEndpointInfo) -> str:
    """Return the full name of an endpoint's node; empty while it is unknown.

    DDS tells of an endpoint a moment before it tells of its node; rcl has names with UNKNOWN for it until then.
    """
    if "UNKNOWN" in endpoint.node_name:
        return ""
    return f"{endpoint.node_namespace.rstrip('/')}/{endpoint.node_name}"


def describe_node_of(endpoint: TopicEndpointInfo) -> str:
    """Return what to call an endpoint's node in a sentence."""
    return node_name_of(endpoint) or "a node that has just started"
