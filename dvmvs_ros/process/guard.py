# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What goes wrong in a node is said, and ends nothing: an unforeseen exception costs one message, never the process.

rclpy raises what a callback raises out of its executor, which ends the program. A `GuardedNode` wraps whatever is
registered with it: subscriptions, services, timers, guard conditions and parameter checks, also by rclpy and tf2_ros.
`guarded_spin` stands around the executor, for what rclpy itself raises over a message before any callback sees it.
`transition` is for those of the lifecycle: rclpy turns what they raise into an error state, and says nothing.
"""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable
from functools import wraps
from typing import Any

import rclpy
from rcl_interfaces.msg import SetParametersResult
from rclpy.executors import Executor, ExternalShutdownException
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.node import Node

from dvmvs_core.errors import DvmvsError
from dvmvs_core.foreign import reason
from dvmvs_ros.process.node_log import Unforeseen

RCLError = rclpy_implementation.RCLError
"""What rclpy raises for whatever the layers below it refuse."""

PAUSE_S = 0.05
"""After an exception of the executor itself, which may come at once again."""


class GuardedNode(Node):
    """A node whose callbacks cannot end the process."""

    @property
    def unforeseen(self) -> Unforeseen:
        """What was unforeseen so far."""
        if not hasattr(self, "_unforeseen"):  # rclpy registers callbacks before our constructors run
            self._unforeseen = Unforeseen(lambda line: self.get_logger().error(line))
        return self._unforeseen

    def __getitem__(self, name: str) -> bool | int | float | str:
        """Return a parameter's value."""
        return self.get_parameter(name).value

    def guarded(self, callback: Callable, otherwise: Callable[..., Any] = lambda *arguments: None) -> Callable:
        """Return a callback that raises nothing.

        Args:
            callback: what may raise.
            otherwise: makes what is returned instead, from the exception and the callback's arguments.
        """
        doing = getattr(callback, "__qualname__", type(callback).__name__)

        def call(*arguments, **named):
            try:
                return callback(*arguments, **named)
            except ExternalShutdownException:
                raise
            except Exception as error:
                self.unforeseen.report(error, doing)
                return otherwise(error, *arguments)

        try:
            return wraps(callback)(call)
        except (AttributeError, TypeError):
            return call

    def create_subscription(self, msg_type, topic, callback, *arguments, **named):
        """Subscribe; see rclpy."""
        return super().create_subscription(msg_type, topic, self.guarded(callback), *arguments, **named)

    def create_timer(self, timer_period_sec, callback, *arguments, **named):
        """Make a timer; see rclpy."""
        return super().create_timer(timer_period_sec, self.guarded(callback), *arguments, **named)

    def create_guard_condition(self, callback, *arguments, **named):
        """Make a guard condition; see rclpy."""
        return super().create_guard_condition(self.guarded(callback), *arguments, **named)

    def create_service(self, srv_type, srv_name, callback, *arguments, **named):
        """Offer a service; see rclpy. An unforeseen exception is answered, as failure where the answer can say so."""
        return super().create_service(srv_type, srv_name, self.guarded(callback, _failed), *arguments, **named)

    def add_on_set_parameters_callback(self, callback):
        """Check parameters; see rclpy. An unforeseen exception refuses the change."""
        super().add_on_set_parameters_callback(self.guarded(callback, _refused))


def guarded_spin(executor: Executor, timeout_s: float, *nodes: Node) -> None:
    """Wait for one callback and run it; what rclpy raises on the way is reported and costs its message.

    Args:
        executor: runs callbacks.
        timeout_s: longest wait, seconds.
        nodes: its nodes; the first that is guarded reports.
    """
    try:
        executor.spin_once(timeout_sec=timeout_s)
    except ExternalShutdownException:
        raise
    except Exception as error:
        guarded = [node for node in nodes or executor.get_nodes() if isinstance(node, GuardedNode)]
        if not guarded or not rclpy.ok():
            raise
        guarded[0].unforeseen.report(error, "the executor")
        time.sleep(PAUSE_S)


def transition(method: Callable) -> Callable:
    """Let a transition fail with one line for what a user can fix, and with a traceback for a defect of ours."""

    @wraps(method)
    def logged(self: LifecycleNode, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            return method(self, state)
        except Exception as error:
            doing = method.__name__.removeprefix("on_")
            if isinstance(error, DvmvsError):
                self.get_logger().error(f"cannot {doing}: {error}")
                return TransitionCallbackReturn.FAILURE
            if isinstance(error, RCLError):
                self.get_logger().error(f"cannot {doing}: {refusal_line(error)}")
                return TransitionCallbackReturn.FAILURE
            if "qos" in str(error).lower():  # rclpy raises plain RuntimeErrors for them, among others
                self.get_logger().error(
                    f"cannot {doing}: {error}. Correct that parameter (qos_overrides) and start the node again"
                )
                return TransitionCallbackReturn.FAILURE
            self.get_logger().error(f"{method.__name__} failed:\n{traceback.format_exc()}")
            return TransitionCallbackReturn.ERROR

    return logged


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


def _failed(error: Exception, request: object, response: Any) -> Any:
    """The answer of a service whose action failed."""
    if hasattr(response, "success"):
        response.success = False
    if hasattr(response, "message"):
        response.message = f"it failed, and is logged: {type(error).__name__}: {reason(error)}"
    return response


def _refused(error: Exception, *changes: object) -> SetParametersResult:
    return SetParametersResult(
        successful=False, reason=f"it cannot be checked: {type(error).__name__}: {reason(error)}"
    )
