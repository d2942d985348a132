# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What the camera of a bag shows: the masks on `valid_mask` next to its images, as the node hears them.

A mask holds from when it was recorded until the next. The first holds from the beginning, as the first camera_info
does: it is published once, and recorders hear it some time after the first image.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import numpy as np

from dvmvs_core.data.bags.bag_files import BagFiles, deserialise
from dvmvs_core.data.bags.bag_images import COMPRESSED_IMAGE, IMAGE, ImageMessage, base_topic, image_messages
from dvmvs_core.data.bags.bag_topics import belongs
from dvmvs_core.data.lens.valid_mask import (
    decode_mask,
    decode_mask_png,
    hidden_percent,
    is_mask_topic,
    mask_topic,
)
from dvmvs_core.errors import MessageError
from dvmvs_core.foreign import foreign

logger = logging.getLogger(__name__)

LATE_NS = 2_000_000_000
"""A first mask that comes this long after the first image may be meant from there on only."""


class BagMasks:
    """The masks of the images on one topic.

    Args:
        files: the bag.
        image_topic: topic of the images.
        first_ns: when the first image was recorded.

    Attributes:
        topic: where the masks are; empty if there are none.
        notes: sentences on masks that cannot be used, or may be meant otherwise.
    """

    def __init__(self, files: BagFiles, image_topic: str, first_ns: int) -> None:
        self._files = files
        self.notes: list[str] = []
        held = [name for name in (*files.of_type(IMAGE), *files.of_type(COMPRESSED_IMAGE)) if is_mask(name)]
        wanted = mask_topic(base_topic(image_topic))
        self.topic = next((topic for topic in held if base_topic(topic) == wanted), "")
        if not self.topic and (others := [topic for topic in held if belongs(topic, image_topic)]):
            self.notes.append(
                f"{files.path}: the mask on {others[0]} is not used: that of {image_topic} would be on {wanted}"
            )
        kind = files.topics[wanted].message_type if wanted in files.topics else IMAGE
        if not self.topic and kind != IMAGE:
            self.notes.append(f"{files.path}: {wanted} must be of type {IMAGE} to hide depth; got {kind}")
        if self.topic:
            self._open(first_ns)

    def _open(self, first_ns: int) -> None:
        """Say at once what becomes of the masks, and not after minutes of prediction."""
        stream = self.stream()
        first = stream.at(first_ns)
        if first is None:
            self.notes.append(f"{self._files.path}, topic {self.topic}: no mask can be used; {stream.fault}")
            return
        logger.info("depth is hidden where %s is 0: %.1f %% of the image", self.topic, hidden_percent(first))
        if (late_ns := stream.since_ns - first_ns) > LATE_NS:
            self.notes.append(
                f"{self._files.path}: the first mask on {self.topic} was recorded {late_ns * 1e-9:.1f} s after the"
                " first image; it is taken for those before it too"
            )

    def stream(self) -> MaskStream:
        """Return the masks for one pass through the images."""
        return MaskStream(image_messages(self._files, self.topic) if self.topic else iter(()))


class MaskStream:
    """Follows the masks while the images move forward.

    Args:
        messages: in the order of their recording.

    Attributes:
        fault: why the last mask that was passed over cannot be used; empty if there was none.
        since_ns: when the mask at hand was recorded.
    """

    def __init__(self, messages: Iterator[ImageMessage]) -> None:
        self._messages = messages
        self._next = next(messages, None)
        self._mask: np.ndarray | None = None
        self.fault = ""
        self.since_ns = 0

    def at(self, log_ns: int) -> np.ndarray | None:
        """Return the mask (H, W) bool of an image that was recorded at a time, the same object until it changes.

        Times must not decrease from call to call. None if there is no mask that can be used.
        """
        while self._next is not None and (self._mask is None or self._next.log_ns <= log_ns):
            message, self._next = self._next, next(self._messages, None)
            self._take(message)
        return self._mask

    def _take(self, message: ImageMessage) -> None:
        try:
            with foreign("it cannot be read", MessageError):
                mask = _decoded(message)
        except MessageError as error:
            self.fault = f"message {message.index}: {error}"
            return
        if self._mask is None or not np.array_equal(mask, self._mask):
            self._mask, self.since_ns = mask, message.log_ns


def is_mask(topic: str) -> bool:
    """Return whether images of a topic, compressed or not, are masks by its name."""
    return is_mask_topic(base_topic(topic))


def _decoded(message: ImageMessage) -> np.ndarray:
    fields = deserialise(message.data, message.message_type)
    if message.message_type == COMPRESSED_IMAGE:
        return decode_mask_png(fields.data)
    layout = fields.encoding, fields.height, fields.width, fields.step, fields.is_bigendian, fields.data
    return decode_mask(*layout)
