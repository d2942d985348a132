# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What the middleware refuses, in one line: a topic that security does not allow, say, or a missing enclave."""

from __future__ import annotations

import os

from rclpy.impl.implementation_singleton import rclpy_implementation

RCLError = rclpy_implementation.RCLError
"""What rclpy raises for whatever the layers below it refuse."""


def secured() -> bool:
    """Return whether SROS 2 is switched on for this process."""
    return os.environ.get("ROS_SECURITY_ENABLE") == "true"


def refusal_line(error: Exception) -> str:
    """Return an error of the middleware as one line, with what to do where security is on."""
    said = str(error).split(", at ")[0]  # from there on, the C++ files that it passed through
    line = "ROS refuses: " + " ".join(said.split()).rstrip(".")
    if secured():
        line += (
            ". Security is on (ROS_SECURITY_ENABLE): ROS_SECURITY_KEYSTORE must hold the process's enclave (--enclave),"
            " made for this ROS_DOMAIN_ID, and its policy must allow every topic and service under its remapped name;"
            " docs/security.md shows how"
        )
    return line
