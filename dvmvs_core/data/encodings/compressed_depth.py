# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Depth out of CompressedImage messages: PNG of 16 bits, and the compressedDepth transport with PNG or RVL.

compressedDepth puts 12 bytes before the image: the kind of depth (int32) and two floats a, b. For 16UC1 the image holds
millimetres. For 32FC1 it holds quantised inverse depth q, and depth = a / (q − b) metres; q = 0 is invalid.
Source: compressed_depth_image_transport of image_transport_plugins
"""

from __future__ import annotations

import struct

import cv2
import numpy as np

from dvmvs_core.data.encodings.image_message import COMPRESSED_DEPTH as TRANSPORT
from dvmvs_core.data.encodings.image_message import DEPTH_ENCODINGS, MILLIMETRES_TO_METRES, encoding_of
from dvmvs_core.data.encodings.image_size import PNG_MAGIC, decode_encoded
from dvmvs_core.data.encodings.rvl import decode_rvl
from dvmvs_core.errors import MessageError
from dvmvs_core.foreign import foreign, quoted

RVL = f"{TRANSPORT} rvl"

HEADER = struct.Struct("<iff")

PNG_END = b"IEND\xaeB`\x82"


def is_compressed_depth(image_format: str) -> bool:
    """Whether a CompressedImage of this format holds depth, as in "16UC1; compressedDepth png"."""
    return TRANSPORT in image_format or encoding_of(image_format) in DEPTH_ENCODINGS


def decode_compressed_depth(image_format: str, data) -> np.ndarray:
    """Decode a depth image.

    Args:
        image_format: the message's format: the pixels' encoding, then the kind of compression.
        data: the message's bytes, as any object with the buffer protocol.

    Returns:
        (H, W) float32 metres along the optical axis; 0 where there is no depth.

    Raises:
        MessageError: if the format is not one of those above, or the bytes are cut off.
    """
    encoding, data = encoding_of(image_format), bytes(data)
    if encoding not in DEPTH_ENCODINGS:
        raise MessageError(
            f"compressed depth must be of {', '.join(DEPTH_ENCODINGS)}; its format says {quoted(image_format)}"
        )
    a = b = None
    if TRANSPORT in image_format:
        if len(data) < HEADER.size:
            raise MessageError(f"compressedDepth must begin with {HEADER.size} bytes of header; got {len(data)} in all")
        _, a, b = HEADER.unpack_from(data)
        data = data[HEADER.size :]
    values = decode_rvl(data) if RVL in image_format else _decode_png(image_format, data)
    if encoding != "32FC1":
        return MILLIMETRES_TO_METRES[values]
    if a is None or not (np.isfinite(a) and np.isfinite(b) and a > 0):
        raise MessageError(f"32FC1 depth needs compressedDepth's positive quantisation; got a = {a}, b = {b}")
    # For each of the values that 16 bits have, and not for each pixel in float64.
    every = np.arange(1 << 16)
    steps = every - float(b)
    valid = (every > 0) & (steps > 0)
    with np.errstate(over="ignore"):  # what is beyond float32 is infinitely far
        metres = np.where(valid, a / np.where(valid, steps, 1.0), 0.0).astype(np.float32)
    return np.where(np.isfinite(metres), metres, np.float32(0))[values]


def _decode_png(image_format: str, data: bytes) -> np.ndarray:
    """The values (H, W) uint16 of a PNG."""
    if not data.startswith(PNG_MAGIC):
        raise MessageError(
            f"compressed depth must be a PNG or RVL, which keep every value; the format is {quoted(image_format)}."
            " Record it with compressedDepth's format set to png or rvl"
        )
    if PNG_END not in data:  # OpenCV would fill in the missing rows
        raise MessageError("the PNG of a depth image was cut off")
    with foreign("compressed depth must be a PNG of 16 bits and one channel", MessageError):
        values = decode_encoded(data, cv2.IMREAD_UNCHANGED)
    if values.dtype != np.uint16 or values.ndim != 2:
        raise MessageError(
            f"compressed depth must be a PNG of 16 bits and one channel; got {values.dtype} of shape {values.shape}"
        )
    return values
