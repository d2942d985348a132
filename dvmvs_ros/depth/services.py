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
