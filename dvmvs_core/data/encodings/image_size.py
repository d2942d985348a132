# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""How large an image may be, asked before its pixels are: a header of a few bytes can claim any memory.

PNG says its size in its first chunk, JPEG in its frame header (SOF), which follows segments of stated length.
Sources: PNG specification, 11.2.2; ITU-T T.81, B.2
"""

from __future__ import annotations

import struct

import cv2
import numpy as np

from dvmvs_core.errors import DamagedError

MAX_IMAGE_PIXELS = 64_000_000
"""Largest image that is decoded unless told otherwise."""

PIXELS_ANYWAY, PIXELS_PER_BYTE = 24_000_000, 24
"""What little data may claim: beyond so many pixels, an image needs a byte of data for every so many. So no message of
less than 1 MB takes more than about 400 MB, at 17 bytes a pixel (PNG of four 16-bit channels, RGB of that, and in 8
bits); and only an image of more than 24 megapixels that is black all over is refused for it."""

MAX_SCANS = 32
"""Scans of a progressive JPEG: encoders make about ten, and each goes over the whole image."""

PNG_MAGIC, JPEG_MAGIC = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"

_NOT_FRAMES = (0xC4, 0xC8, 0xCC)
"""Markers among those of frame headers that are none: tables, and one that is reserved."""


def check_pixels(height: int, width: int, data_bytes: int, max_pixels: int = MAX_IMAGE_PIXELS) -> None:
    """Refuse an image before anything of its size is allocated.

    Args:
        height: rows that it claims.
        width: columns that it claims.
        data_bytes: bytes of data that it comes with.
        max_pixels: largest number of pixels.

    Raises:
        DamagedError: if it is empty, larger than that, or claims more than so little data can hold.
    """
    pixels = height * width
    if height <= 0 or width <= 0:
        raise DamagedError(f"image must not be empty; got width {width} and height {height}")
    if pixels > max_pixels:
        raise DamagedError(
            f"image must have at most {max_pixels} pixels; its header says {width}×{height}."
            " Raise max_image_pixels if that is its size"
        )
    if pixels > max(PIXELS_ANYWAY, PIXELS_PER_BYTE * data_bytes):
        raise DamagedError(f"an image of {data_bytes} bytes is no {width}×{height}, as its header says; it is damaged")


def decode_encoded(data, flags: int, max_pixels: int = MAX_IMAGE_PIXELS) -> np.ndarray:
    """Decode a JPEG or PNG, once its header has been believed.

    Args:
        data: its bytes, as any object with the buffer protocol.
        flags: how cv2.imdecode should do it. Pixels come as they are stored, whatever EXIF says of turning them: K and
            poses are those of the sensor.
        max_pixels: largest number of pixels.

    Raises:
        DamagedError: if it is neither, too large, or damaged.
    """
    data = memoryview(data).cast("B")
    check_pixels(*encoded_size(data), len(data), max_pixels)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        image = None
    if image is None:
        raise DamagedError("the image is damaged")
    return image


def asks_to_be_turned(data) -> bool:
    """Return whether a JPEG or PNG of a believable size says in EXIF that viewers should turn or mirror it."""
    data = np.frombuffer(data, np.uint8)
    shown = cv2.imdecode(data, cv2.IMREAD_COLOR)
    stored = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    return not np.array_equal(shown, stored)


def encoded_size(data: memoryview) -> tuple[int, int]:
    """Return the (height, width) that the header of a JPEG or PNG states.

    Raises:
        DamagedError: if the data are neither, or end inside the header.
    """
    try:
        if data[: len(PNG_MAGIC)] == PNG_MAGIC and data[12:16] == b"IHDR":
            return _png_size(data)
        if data[: len(JPEG_MAGIC)] == JPEG_MAGIC:
            return _jpeg_size(data)
    except (struct.error, IndexError):
        raise DamagedError("the image ends inside its header: it was cut off") from None
    raise DamagedError(f"the image must be a JPEG or PNG; its {len(data)} bytes are neither")


def _png_size(data: memoryview) -> tuple[int, int]:
    """The size in the first chunk; the others must lie within the data, since OpenCV makes room for what they claim."""
    at = len(PNG_MAGIC)
    while at < len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        if length > len(data) - at - 8:
            raise DamagedError("a chunk of the PNG reaches beyond its end: it was cut off or is damaged")
        if name == b"acTL":
            raise DamagedError("the PNG is animated; a still image is needed")
        if name == b"IEND":
            break
        at += 12 + length
    width, height = struct.unpack_from(">II", data, 16)
    return height, width


def _jpeg_size(data: memoryview) -> tuple[int, int]:
    """The size that libjpeg will find: it passes over what stands between segments, and the first frame counts."""
    if bytes(data).count(b"\xff\xda") > MAX_SCANS:
        raise DamagedError(f"a JPEG must have at most {MAX_SCANS} scans; it has more")
    at = 2
    while True:
        while data[at] != 0xFF:
            at += 1
        while data[at] == 0xFF:
            at += 1
        marker = data[at]
        at += 1
        if 0xC0 <= marker <= 0xCF and marker not in _NOT_FRAMES:
            return struct.unpack_from(">HH", data, at + 3)
        if marker in (0xD9, 0xDA):
            raise DamagedError("the image ends before its size is said: it is damaged")
        if marker > 0x01 and not 0xD0 <= marker <= 0xD8:
            at += max(2, struct.unpack_from(">H", data, at)[0])
