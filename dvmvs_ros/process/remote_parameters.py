"""Parameters of another node, asked for once and without waiting."""

from __future__ import annotations

from collections.abc import Sequence

from rcl_interfaces.srv import GetParameters
from rclpy.node import Node
from rclpy.parameter import parameter_value_to_python
from rclpy.task import Future


class RemoteParameters:
    """Asks a node for parameters.

    Args:
        node: who asks.
        other: full name of who is asked.

    Attributes:
        values: what was answered so far: name → value.
    """

    def __init__(self, node: Node, other: str) -> None:
        self.values: dict[str, object] = {}
        self._client = node.create_client(GetParameters, f"{other}/get_parameters")

    def ask(self, names: Sequence[str]) -> None:
        """Ask; the answer comes while the node's callbacks run, or never if there is no such node."""

        def take(answer: Future) -> None:
            found = zip(names, answer.result().values, strict=True)
            self.values.update({name: parameter_value_to_python(value) for name, value in found})

        self._client.call_async(GetParameters.Request(names=list(names))).add_done_callback(take)
