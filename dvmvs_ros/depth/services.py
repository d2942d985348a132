# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""`~/reset` and `~/save_cloud` (std_srvs/Trigger): there from the node's first moment, answering in every state."""

from __future__ import annotations

from collections.abc import Callable

from rclpy.node import Node
from std_srvs.srv import Trigger

from dvmvs_core.errors import DvmvsError


class Services:
    """Offers actions as services. An action that cannot be done answers with the reason and does no harm.

    Args:
        node: the node to offer them on.
        actions: name to a function that does it and returns a sentence saying what was done.
    """

    def __init__(self, node: Node, actions: dict[str, Callable[[], str]]) -> None:
        self._node = node
        for name, action in actions.items():
            node.create_service(Trigger, f"~/{name}", self._answer(name, action))

    def _answer(self, name: str, action: Callable[[], str]) -> Callable[[Trigger.Request, Trigger.Response], object]:
        def answer(_: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
            try:
                response.message = action()
                response.success = True
                self._node.get_logger().info(f"{name}: {response.message}")
            except DvmvsError as error:
                response.message = str(error)
                self._node.get_logger().warning(f"{name}: {error}")
            return response

        return answer
