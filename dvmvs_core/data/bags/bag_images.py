# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Image messages of a bag, raw and compressed: what their topics hold, and their pixels."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from dvmvs_core.data.bags.bag_files import BagFiles, deserialise
from dvmvs_core.data.encodings.bit_depth import BitDepth
from dvmvs_core.data.encodings.compressed_depth import TRANSPORT, decode_compressed_depth, is_compressed_depth
from dvmvs_core.data.encodings.image_message import (
    COLOUR_ENCODINGS,
    decode_compressed,
    decode_depth,
    decode_image,
    encoding_of,
    is_depth_encoding,
    is_only_depth,
)
from dvmvs_core.data.encodings.image_size import check_pixels
from dvmvs_core.data.lens.valid_mask import is_mask_topic
from dvmvs_core.errors import MessageError
from dvmvs_core.foreign import foreign

IMAGE, COMPRESSED_IMAGE = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"

TRANSPORTS = ("compressed", TRANSPORT)
"""What image_transport appends to the name of a topic."""


ASKED = 5
"""Messages at the beginning of a topic that are asked for the size that most have: one may be odd."""

GREY_ENCODINGS = ("mono8", "mono16", "8UC1")


class ImageMessage(NamedTuple):
    """A message: its place among those of its topic, when it was recorded, its header, type and bytes."""

    index: int
    log_ns: int
    stamp_ns: int
    frame_id: str
    message_type: str
    data: bytes

    def colour(self, bits: BitDepth | None = None) -> np.ndarray:
        """Return (H, W, 3) uint8 RGB.

        Args:
            bits: what is known of the camera's bits; None to go by this image alone.

        Raises:
            MessageError: if the message is damaged, or holds no colour image.
        """
        message = deserialise(self.data, self.message_type)
        if self.message_type == COMPRESSED_IMAGE:
            return decode_compressed(message.format, message.data, bits=bits)
        return decode_image(*_layout(message), bits=bits)

    def depth(self) -> np.ndarray:
        """Return (H, W) float32 metres, 0 = invalid.

        Raises:
            MessageError: if the message is damaged, or holds no depth.
        """
        message = deserialise(self.data, self.message_type)
        if self.message_type == COMPRESSED_IMAGE:
            return decode_compressed_depth(message.format, message.data)
        return decode_depth(*_layout(message))


class ImageTopic(NamedTuple):
    """What a topic holds, by its first whole message of the size that most of the first messages have.

    Attributes:
        frame_id: frame of the camera.
        stamp_ns: stamp of the message.
        log_ns: when it was recorded.
        size: (height, width) of the image.
        encoding: as the message has it; the format of a compressed one.
        is_depth: whether it holds depth.
        is_colour: whether it holds colour or grey that can be read.
        compressed: whether it is compressed.
    """

    frame_id: str
    stamp_ns: int
    log_ns: int
    size: tuple[int, int]
    encoding: str
    is_depth: bool
    is_colour: bool
    compressed: bool

    @property
    def is_grey(self) -> bool:
        """Whether the image has no colours, by what it says of itself."""
        return encoding_of(self.encoding) in GREY_ENCODINGS


def image_topics(files: BagFiles) -> tuple[dict[str, ImageTopic], dict[str, str]]:
    """Return what each topic of images holds; and of those without any that can be read, why the first one cannot."""
    found: dict[str, ImageTopic] = {}
    unreadable: dict[str, str] = {}
    for topic in sorted((*files.of_type(IMAGE), *files.of_type(COMPRESSED_IMAGE))):
        if is_mask_topic(base_topic(topic)):
            continue
        described: list[ImageTopic] = []
        why = "its messages end inside their headers"
        for message in image_messages(files, topic):
            try:
                described.append(_describe(message))
            except MessageError as error:
                why = why if message.index else str(error)
            sizes = Counter(image.size for image in described).most_common(1)
            if sizes and (sizes[0][1] > ASKED // 2 or len(described) == ASKED):
                break
        if described:
            found[topic] = next(image for image in described if image.size == sizes[0][0])
        else:
            unreadable[topic] = why
    return found, unreadable


def image_messages(files: BagFiles, topic: str) -> Iterator[ImageMessage]:
    """Yield the messages of a topic that have a whole header."""
    message_type = files.topics[topic].message_type
    for index, message in enumerate(files.messages({topic})):
        header = read_header(message.data)
        if header is not None:
            yield ImageMessage(index, message.log_ns, *header, message_type, message.data)


def base_topic(topic: str) -> str:
    """Return the topic of the raw images, less what image_transport appends to it."""
    base, _, leaf = topic.rpartition("/")
    return base if leaf in TRANSPORTS else topic


def read_header(data: bytes) -> tuple[int, str] | None:
    """Return the stamp and frame_id that a CDR message starts with; None if it is too short for them."""
    order = "<" if data[1:2] == b"\x01" else ">"
    try:
        seconds, nanoseconds, length = struct.unpack_from(f"{order}iII", data, 4)
        return seconds * 10**9 + nanoseconds, bytes(data[16 : 16 + length - 1]).decode()
    except (struct.error, UnicodeDecodeError):
        return None


def _describe(message: ImageMessage) -> ImageTopic:
    fields = deserialise(message.data, message.message_type)
    header = (message.frame_id, message.stamp_ns, message.log_ns)
    if message.message_type == IMAGE:
        with foreign(f"an image of {fields.width}×{fields.height} cannot be read", MessageError):
            check_pixels(fields.height, fields.width, len(fields.data))
        encoding, size = fields.encoding, (fields.height, fields.width)
        return ImageTopic(*header, size, encoding, is_depth_encoding(encoding), encoding in COLOUR_ENCODINGS, False)
    is_depth, is_colour = is_compressed_depth(fields.format), not is_only_depth(fields.format)
    pixels = message.colour() if is_colour else message.depth()
    return ImageTopic(*header, pixels.shape[:2], fields.format, is_depth, is_colour, True)


def _layout(message) -> tuple:
    return message.encoding, message.height, message.width, message.step, message.is_bigendian, message.data
