# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Bytes of a ROS image message to arrays, without ROS.

The node and the bag reader share this code, so that both see the same pixels. An image message holds `height` rows
of `step` bytes each; a row may end in padding, so `step` is obeyed and never assumed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np

from dvmvs_core.data.encodings.bit_depth import BitDepth
from dvmvs_core.data.encodings.image_size import MAX_IMAGE_PIXELS, check_pixels, decode_encoded
from dvmvs_core.errors import MessageError
from dvmvs_core.foreign import foreign, quoted


@dataclass(frozen=True)
class ColourEncoding:
    """How the pixels of an encoding lie in memory, and how they become RGB.

    Attributes:
        channels: values of a pixel in a row.
        to_rgb: (rows, W, channels) of `value_type`, or (rows, W) for one channel, to (H, W, 3) RGB of that type.
        value_type: numpy type of one value, less its byte order.
        chroma_rows: whether half as many rows of chroma follow the H rows of brightness.
        even: sides that the encoding divides into pairs: "" none, "x" the width, "xy" both.
    """

    channels: int
    to_rgb: Callable[[np.ndarray], np.ndarray]
    value_type: str = "u1"
    chroma_rows: bool = False
    even: str = ""


def _by(conversion: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda pixels: cv2.cvtColor(pixels, conversion)


_LAYOUTS = {
    "rgb": ColourEncoding(3, np.array),
    "bgr": ColourEncoding(3, _by(cv2.COLOR_BGR2RGB)),
    "rgba": ColourEncoding(4, _by(cv2.COLOR_RGBA2RGB)),
    "bgra": ColourEncoding(4, _by(cv2.COLOR_BGRA2RGB)),
    "mono": ColourEncoding(1, _by(cv2.COLOR_GRAY2RGB)),
    # ROS names a mosaic by its first four pixels; OpenCV by those one pixel further in, hence the exchange.
    "bayer_rggb": ColourEncoding(1, _by(cv2.COLOR_BayerBG2RGB), even="xy"),
    "bayer_bggr": ColourEncoding(1, _by(cv2.COLOR_BayerRG2RGB), even="xy"),
    "bayer_gbrg": ColourEncoding(1, _by(cv2.COLOR_BayerGR2RGB), even="xy"),
    "bayer_grbg": ColourEncoding(1, _by(cv2.COLOR_BayerGB2RGB), even="xy"),
}
_UYVY = ColourEncoding(2, _by(cv2.COLOR_YUV2RGB_UYVY), even="x")
_YUYV = ColourEncoding(2, _by(cv2.COLOR_YUV2RGB_YUY2), even="x")

COLOUR_ENCODINGS: dict[str, ColourEncoding] = {
    **{f"{name}8": layout for name, layout in _LAYOUTS.items()},
    **{f"{name}16": replace(layout, value_type="u2") for name, layout in _LAYOUTS.items()},
    "8UC1": _LAYOUTS["mono"],
    "8UC3": _LAYOUTS["bgr"],
    "yuv422": _UYVY,
    "uyvy": _UYVY,
    "yuv422_yuy2": _YUYV,
    "yuyv": _YUYV,
    "nv12": ColourEncoding(1, _by(cv2.COLOR_YUV2RGB_NV12), chroma_rows=True, even="xy"),
    "nv21": ColourEncoding(1, _by(cv2.COLOR_YUV2RGB_NV21), chroma_rows=True, even="xy"),
}
"""Encodings of sensor_msgs/image_encodings that hold colour or grey."""

MILLIMETRES_TO_METRES = (np.arange(1 << 16) / 1000.0).astype(np.float32)
"""The float32 metres of each uint16 of millimetres: exact, and without an array of float64 for a large image."""

DEPTH_ENCODINGS: dict[str, str] = {"16UC1": "u2", "mono16": "u2", "32FC1": "f4"}
"""Encoding to the numpy type of one pixel, less its byte order."""

DEPTH_ONLY = frozenset(DEPTH_ENCODINGS) - frozenset(COLOUR_ENCODINGS)
"""Encodings whose images are never pictures; mono16 is both, and its topic's name tells."""

COMPRESSED_DEPTH = "compressedDepth"
"""What image_transport calls its transport of depth, in names of topics and in formats."""


def decode_image(
    encoding: str,
    height: int,
    width: int,
    step: int,
    is_bigendian: bool | int,
    data,
    max_pixels: int = MAX_IMAGE_PIXELS,
    bits: BitDepth | None = None,
) -> np.ndarray:
    """Decode a colour or grey image.

    Sixteen-bit values keep the upper eight of the bits that the camera uses.

    Args:
        encoding: one of `COLOUR_ENCODINGS`.
        height: rows.
        width: columns.
        step: bytes from the start of one row to the start of the next, padding included.
        is_bigendian: byte order of sixteen-bit values.
        data: the message's bytes, as any object with the buffer protocol.
        max_pixels: largest image that is decoded.
        bits: what is known of the camera's bits; None to go by this image alone.

    Returns:
        (H, W, 3) uint8 RGB, contiguous, sharing no memory with the message.

    Raises:
        MessageError: unknown encoding, empty image, a side that must be even and is not, `step` shorter than a row, or
            data shorter than its rows.
    """
    refuse_depth(encoding)
    if encoding not in COLOUR_ENCODINGS:
        raise MessageError(
            f"image encoding must be one of {', '.join(COLOUR_ENCODINGS)}; got {quoted(encoding)}. "
            "Convert it on the way, for example with image_proc"
        )
    layout = COLOUR_ENCODINGS[encoding]
    for axis, side in (("x", width), ("y", height)):
        if axis in layout.even and side % 2:
            raise MessageError(f"{encoding} joins pixels in pairs, so its size must be even; got {width}×{height}")
    value = np.dtype(layout.value_type).newbyteorder(">" if is_bigendian else "<")
    rows = _rows(encoding, height, width, step, layout.channels * value.itemsize, data, layout.chroma_rows)
    with foreign(f"an image of {width}×{height} in {encoding} cannot be decoded", MessageError):
        check_pixels(height, width, rows.size, max_pixels)
        values = np.ascontiguousarray(rows).view(value).astype(value.newbyteorder("="), copy=False)
        return _eight_bits(layout.to_rgb(values.reshape(len(rows), width, layout.channels)), bits)


def decode_compressed(
    image_format: str, data, max_pixels: int = MAX_IMAGE_PIXELS, bits: BitDepth | None = None
) -> np.ndarray:
    """Decode a CompressedImage, or a file: JPEG or PNG.

    Args:
        image_format: the message's `format`, such as "jpeg", "png" or "bayer_rggb8; jpeg compressed ". What
            compressed_image_transport writes before the semicolon tells a mosaic from a grey image; what it writes
            behind tells the order of colours. The compression itself is seen in the data. Empty for a file.
        data: the message's bytes, as any object with the buffer protocol.
        max_pixels: largest image that is decoded; its header is asked before its pixels are.
        bits: what is known of the camera's bits; None to go by this image alone.

    Returns:
        (H, W, 3) uint8 RGB, contiguous. The camera's own rows and columns: no EXIF orientation is applied.

    Raises:
        MessageError: if the bytes are no image, or hold depth.
    """
    refuse_depth(image_format)
    said = f"compressed image must be a whole JPEG or PNG; got {len(data)} bytes of format {quoted(image_format)}"
    with foreign(f"{said} that cannot be decoded", MessageError):
        return rgb_of(decode_encoded(data, cv2.IMREAD_UNCHANGED, max_pixels), image_format, bits)


def rgb_of(pixels: np.ndarray, image_format: str = "", bits: BitDepth | None = None) -> np.ndarray:
    """Return (H, W, 3) uint8 RGB of what a JPEG or PNG holds, as OpenCV decodes it unchanged.

    Args:
        pixels: (H, W) or (H, W, C), uint8 or uint16.
        image_format: as for `decode_compressed`.
        bits: as for `decode_compressed`.

    Raises:
        MessageError: if it has another number of channels.
    """
    name, _, rest = (part.strip() for part in image_format.partition(";"))
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    grey = name.rstrip("0123456789") if name.startswith("bayer_") else "mono"
    # OpenCV decodes to BGR, and compressed_image_transport hands it BGR to encode, unless it says rgb.
    colour = "rgb" if "compressed rgb" in rest else "bgr"
    layout = _LAYOUTS.get({1: grey, 3: colour, 4: f"{colour}a"}.get(channels, ""))
    if layout is None:
        raise MessageError(f"compressed image must have 1, 3 or 4 channels; got {channels}")
    return _eight_bits(layout.to_rgb(pixels), bits)


def decode_depth(encoding: str, height: int, width: int, step: int, is_bigendian: bool | int, data) -> np.ndarray:
    """Decode a depth image by REP 118: 16UC1 holds millimetres, 32FC1 metres.

    Args:
        encoding: one of `DEPTH_ENCODINGS`.
        height: rows.
        width: columns.
        step: bytes from the start of one row to the start of the next, padding included.
        is_bigendian: byte order of the pixels.
        data: the message's bytes, as any object with the buffer protocol.

    Returns:
        (H, W) float32 metres along the optical axis; 0 where there is no depth (0, NaN, ±Inf or negative).

    Raises:
        MessageError: as `decode_image`.
    """
    if encoding not in DEPTH_ENCODINGS:
        raise MessageError(f"depth encoding must be one of {', '.join(DEPTH_ENCODINGS)}; got {quoted(encoding)}")
    pixel = np.dtype((">" if is_bigendian else "<") + DEPTH_ENCODINGS[encoding])
    rows = _rows(encoding, height, width, step, pixel.itemsize, data)
    with foreign(f"a depth image of {width}×{height} cannot be decoded", MessageError):
        check_pixels(height, width, rows.size)
    values = np.ascontiguousarray(rows).view(pixel)
    if pixel.kind == "u":
        return MILLIMETRES_TO_METRES[values]
    depth = values.astype(np.float32)
    depth[~(np.isfinite(depth) & (depth > 0))] = 0.0
    return depth


def is_depth_encoding(encoding: str) -> bool:
    """Whether images of this encoding may hold depth."""
    return encoding in DEPTH_ENCODINGS


def is_only_depth(image_format: str) -> bool:
    """Whether images of an encoding, or of a compressed one's format, can hold nothing but depth."""
    return COMPRESSED_DEPTH in image_format or encoding_of(image_format) in DEPTH_ONLY


def encoding_of(image_format: str) -> str:
    """Return the encoding that the format of a CompressedImage begins with."""
    return image_format.partition(";")[0].strip()


def refuse_depth(image_format: str) -> None:
    """Refuse depth where a picture is needed.

    Raises:
        MessageError: if an image of this encoding or format is depth.
    """
    if is_only_depth(image_format):
        raise MessageError(
            f"a colour or grey image is needed, and {quoted(image_format)} is depth. Name the topic of the camera's"
            " images"
        )


def _eight_bits(image: np.ndarray, bits: BitDepth | None) -> np.ndarray:
    return image if image.dtype == np.uint8 else (bits or BitDepth()).eight_bits(image)


def _rows(
    encoding: str, height: int, width: int, step: int, pixel_bytes: int, data, chroma_rows: bool = False
) -> np.ndarray:
    """The bytes of the pixels, padding cut off: a (rows, W · pixel_bytes) uint8 view."""
    if height <= 0 or width <= 0:
        raise MessageError(f"image must not be empty; got width {width} and height {height}")
    row_bytes = width * pixel_bytes
    if step < row_bytes:
        raise MessageError(
            f"step must be at least width × {pixel_bytes} = {row_bytes} bytes for {encoding}; got {step}"
        )
    data = np.frombuffer(data, np.uint8)
    rows, said = (height * 3 // 2, "height × 3/2 × step") if chroma_rows else (height, "height × step")
    if data.size < rows * step:
        raise MessageError(
            f"data must hold {said} = {rows} × {step} = {rows * step} bytes; got {data.size}: "
            "the message was cut off or its step is wrong"
        )
    return data[: rows * step].reshape(rows, step)[:, :row_bytes]
