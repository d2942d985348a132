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
from rclpy.task import Future

from dvmvs_ros.process.main_program import spin_until

AGAIN_S = 2.0
"""A server answers only a caller that it knows: one that it does not know yet asks again after this long."""


def remote_parameters(
    node: Node,
    other: str,
    names: Sequence[str],
    executor: SingleThreadedExecutor,
    stop: threading.Event,
    timeout_s: float,
) -> dict[str, object]:
    """Ask a node for parameters, and run callbacks until it answers.

    Its answer also says that it knows of every publisher and subscription that `node` made before: those become known
    in order, and a match is known to one side a moment before it is to the other.

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
    asked: list[Future] = []

    def answered() -> bool:
        return any(future.done() for future in asked)

    end_s = time.monotonic() + timeout_s
    while not answered() and not stop.is_set() and (left_s := end_s - time.monotonic()) > 0:
        if spin_until(executor, client.service_is_ready, stop, left_s):
            asked.append(client.call_async(GetParameters.Request(names=list(names))))
            spin_until(executor, answered, stop, min(AGAIN_S, left_s))
    node.destroy_client(client)
    for future in asked:
        if future.done():
            values = zip(names, future.result().values, strict=True)
            return {name: parameter_value_to_python(value) for name, value in values}
    return {}
