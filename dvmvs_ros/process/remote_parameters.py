# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Parameters of another node."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from rcl_interfaces.srv import GetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import parameter_value_to_python

from dvmvs_ros.process.main_program import spin_until


def remote_parameters(
    node: Node,
    other: str,
    names: Sequence[str],
    executor: SingleThreadedExecutor,
    stop: threading.Event,
    timeout_s: float,
) -> dict[str, object]:
    """Ask a node for parameters, and run callbacks until it answers.

    Its answer also says that it knows of every subscription that was made before: those become known in order.

    Args:
        node: who asks.
        other: full name of who is asked.
        names: of the parameters.
        executor: runs the callbacks of `node`.
        stop: set to wait no longer.
        timeout_s: longest wait, seconds.

    Returns:
        name → value; empty if there was no answer.
    """
    client = node.create_client(GetParameters, f"{other}/get_parameters")
    end_s = time.monotonic() + timeout_s
    if not spin_until(executor, client.service_is_ready, stop, timeout_s):
        return {}
    asked = client.call_async(GetParameters.Request(names=list(names)))
    if not spin_until(executor, asked.done, stop, end_s - time.monotonic()):
        return {}
    values = zip(names, asked.result().values, strict=True)
    return {name: parameter_value_to_python(value) for name, value in values}
