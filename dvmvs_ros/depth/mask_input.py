# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The mask next to the images: where a lens, or the robot's own arm or bonnet, keeps them from showing the scene.

It is latched, so it comes whenever the node starts. Until it comes, and where one is refused, nothing more is hidden;
`/diagnostics` says so.
"""

from __future__ import annotations

from collections.abc import Callable

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import Image

from dvmvs_core.data.lens.camera_view import Rectification
from dvmvs_core.data.lens.valid_mask import VALID_MASK, decode_mask, hidden_percent
from dvmvs_core.errors import MessageError
from dvmvs_core.foreign import foreign
from dvmvs_ros.process.node_log import QuietLog
from dvmvs_ros.process.qos import subscription_qos

NOTE_PERIOD_S = 30.0


class MaskInput:
    """The subscription to masks.

    Args:
        node: the node to subscribe with.
        view: hides what the mask says, from the next image on.
        max_pixels: largest mask that is decoded.
        warn: told of masks that are refused, and of publishers that cannot be heard.

    Attributes:
        subscription: the subscription.
        heard: how many masks came.
        refused: how many of them cannot be used.
    """

    def __init__(self, node: Node, view: Rectification, max_pixels: int, warn: Callable[[str], None]) -> None:
        self._view = view
        self._max_pixels = max_pixels
        self._warn = warn
        self._note = QuietLog(lambda line: node.get_logger().info(line), NOTE_PERIOD_S)
        self._fault = ""
        self.heard = self.refused = 0
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.subscription = node.create_subscription(
            Image, VALID_MASK, self.take, **subscription_qos(node, VALID_MASK, latched, warn)
        )

    def take(self, message: Image) -> None:
        """Take a mask; the one before stays if it cannot be used."""
        self.heard += 1
        layout = message.encoding, message.height, message.width, message.step, message.is_bigendian, message.data
        try:
            with foreign("it cannot be read", MessageError):
                mask = decode_mask(*layout, self._max_pixels)
        except MessageError as error:
            self.refused += 1
            self._fault = str(error)
            self._warn(self.complaint())
            return
        self._fault = ""
        self._view.raw_mask = mask
        topic = self.subscription.topic_name
        self._note(f"depth is hidden where {topic} is 0: {hidden_percent(mask):.1f} % of the image")

    def complaint(self) -> str:
        """Return why a mask is not used; empty if it is, or if there is none."""
        fault = self._fault or self._view.mask_fault
        return f"a mask on {self.subscription.topic_name} is not used: {fault}" if fault else ""

    def values(self) -> dict[str, str]:
        """Return what diagnostics show."""
        mask = self._view.raw_mask
        return {
            "mask topic": self.subscription.topic_name,
            "masks": str(self.heard),
            "masks refused": str(self.refused),
            "hidden by the mask %": "0.0" if mask is None or self._view.mask_fault else f"{hidden_percent(mask):.1f}",
        }
