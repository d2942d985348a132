# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Lifecycle transitions that say what went wrong: rclpy turns what they raise into an error state, and says nothing."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from functools import wraps

from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from dvmvs_core.errors import DvmvsError
from dvmvs_ros.process.refusals import RCLError, refusal_line


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
