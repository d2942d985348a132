# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""RVL: lossless compression of depth images, as compressedDepth uses it in place of PNG.

Runs of zeros and of other pixels follow each other: how many zeros, how many others, and for each of the others its
difference to the one before (wherever that was), as 2 d for d ≥ 0 and −2 d − 1 for d < 0. All of these numbers are cut
into three-bit digits, the lowest first, each in a nibble whose upper bit says that another follows. Nibbles fill
little-endian words of 32 bits from the top.

Source: Wilson, "Fast Lossless Depth Image Compression", ISS 2017; rvl_codec of compressed_depth_image_transport, which
puts the width and the height (uint32 each) in front
"""

from __future__ import annotations

import struct

import numpy as np

from dvmvs_core.data.encodings.image_size import MAX_IMAGE_PIXELS, check_pixels
from dvmvs_core.errors import DamagedError, MessageError

SIZE = struct.Struct("<II")

MAX_DIGITS = 10
"""Digits of the longest number, of 30 bits."""


def decode_rvl(data: bytes) -> np.ndarray:
    """Return the image (H, W) uint16.

    Args:
        data: width, height and the compressed pixels.

    Raises:
        MessageError: if the bytes are cut off or damaged.
    """
    if len(data) < SIZE.size:
        raise MessageError(f"an RVL image must begin with {SIZE.size} bytes of size; got {len(data)} in all")
    width, height = SIZE.unpack_from(data)
    pixels = width * height
    try:
        check_pixels(height, width, len(data))
    except DamagedError as error:
        raise MessageError(
            f"an RVL image must have 1 to {MAX_IMAGE_PIXELS} pixels and their data; its header says {width}×{height}"
        ) from error
    numbers = _numbers(data[SIZE.size :])
    place, coded = _places(numbers.tolist(), pixels)
    steps = numbers[coded]
    steps = (steps >> 1) ^ -(steps & 1)
    image = np.zeros(pixels, np.uint16)
    image[place] = np.cumsum(steps).astype(np.uint16)  # differences wrap around, as the sum of the encoder does
    return image.reshape(height, width)


def _numbers(data: bytes) -> np.ndarray:
    """The numbers (N,) int64 of a stream; padding at its end makes zeros."""
    words = np.frombuffer(data, "<u4", count=len(data) // 4)
    octets = words.astype(">u4").view(np.uint8)
    nibbles = np.stack((octets >> 4, octets & 15), axis=-1).reshape(-1)
    last = np.flatnonzero(nibbles < 8)
    nibbles = nibbles[: last[-1] + 1] if len(last) else nibbles[:0]
    first = np.concatenate(([0], last[:-1] + 1)) if len(last) else last
    digit = np.arange(len(nibbles)) - np.repeat(first, last - first + 1)
    if len(digit) and digit.max() >= MAX_DIGITS:
        raise MessageError(f"an RVL image must hold numbers of at most {MAX_DIGITS} digits; it is damaged")
    values = (nibbles & 7).astype(np.int64) << 3 * digit
    return np.add.reduceat(values, first) if len(last) else np.empty(0, np.int64)


def _places(numbers: list[int], pixels: int) -> tuple[np.ndarray, np.ndarray]:
    """Where in the image the pixels that are not zero lie, and where among the numbers their differences."""
    first_pixel, first_number, lengths = [], [], []
    at, pixel = 0, 0
    while pixel < pixels:
        if at + 2 > len(numbers):
            raise MessageError(f"an RVL image of {pixels} pixels ends after {pixel}: it was cut off")
        zeros, others = numbers[at], numbers[at + 1]
        first_pixel.append(pixel + zeros)
        first_number.append(at + 2)
        lengths.append(others)
        pixel, at = pixel + zeros + others, at + 2 + others
        if pixel > pixels or at > len(numbers) or not zeros + others:
            raise MessageError(f"an RVL image of {pixels} pixels must hold runs that fill it; it is damaged or cut off")
    within = np.arange(sum(lengths)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return np.repeat(first_pixel, lengths) + within, np.repeat(first_number, lengths) + within
