"""Bytes of a ROS image message to arrays, without ROS.

The node and the bag reader share this code, so that both see the same pixels. An image message holds `height` rows
of `step` bytes each; a row may end in padding, so `step` is obeyed and never assumed.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from dvmvs_core.errors import MessageError

COLOUR_ENCODINGS: dict[str, tuple[int, Callable[[np.ndarray], np.ndarray]]] = {
    "rgb8": (3, np.array),
    "bgr8": (3, lambda pixels: cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)),
    "rgba8": (4, lambda pixels: cv2.cvtColor(pixels, cv2.COLOR_RGBA2RGB)),
    "bgra8": (4, lambda pixels: cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGB)),
    "mono8": (1, lambda pixels: cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB)),
}
"""Encoding to (channels of one byte, conversion of (H, W, channels) uint8 to (H, W, 3) RGB)."""

DEPTH_ENCODINGS: dict[str, str] = {"16UC1": "u2", "mono16": "u2", "32FC1": "f4"}
"""Encoding to the numpy type of one pixel, less its byte order."""


def decode_image(
    encoding: str, height: int, width: int, step: int, is_bigendian: bool | int, data
) -> np.ndarray:
    """Decode a colour or grey image.

    Args:
        encoding: one of `COLOUR_ENCODINGS`.
        height: rows.
        width: columns.
        step: bytes from the start of one row to the start of the next, padding included.
        is_bigendian: byte order of the pixels; of no effect on these one-byte encodings.
        data: the message's bytes, as any object with the buffer protocol.

    Returns:
        (H, W, 3) uint8 RGB, contiguous, sharing no memory with the message.

    Raises:
        MessageError: unknown encoding, empty image, `step` shorter than a row, or data shorter than height × step.
    """
    if encoding not in COLOUR_ENCODINGS:
        raise MessageError(
            f"image encoding must be one of {', '.join(COLOUR_ENCODINGS)}; got {encoding!r}. "
            "Convert it on the way, for example with image_proc"
        )
    channels, to_rgb = COLOUR_ENCODINGS[encoding]
    rows = _rows(encoding, height, width, step, channels, data)
    return to_rgb(rows.reshape(height, width, channels))


def decode_depth(
    encoding: str, height: int, width: int, step: int, is_bigendian: bool | int, data
) -> np.ndarray:
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
        raise MessageError(
            f"depth encoding must be one of {', '.join(DEPTH_ENCODINGS)}; got {encoding!r}"
        )
    pixel = np.dtype((">" if is_bigendian else "<") + DEPTH_ENCODINGS[encoding])
    rows = _rows(encoding, height, width, step, pixel.itemsize, data)
    values = np.ascontiguousarray(rows).view(pixel)
    if pixel.kind == "u":
        # Through float64, as depth read from a PNG is, so that a bag and its folder agree to the last bit.
        return (values / 1000.0).astype(np.float32)
    depth = values.astype(np.float32)
    depth[~(np.isfinite(depth) & (depth > 0))] = 0.0
    return depth


def is_depth_encoding(encoding: str) -> bool:
    """Whether images of this encoding hold depth."""
    return encoding in DEPTH_ENCODINGS


def _rows(
    encoding: str, height: int, width: int, step: int, pixel_bytes: int, data
) -> np.ndarray:
    """The bytes of the pixels, padding cut off: a (H, W · pixel_bytes) uint8 view."""
    if height <= 0 or width <= 0:
        raise MessageError(f"image must not be empty; got width {width} and height {height}")
    row_bytes = width * pixel_bytes
    if step < row_bytes:
        raise MessageError(
            f"step must be at least width × {pixel_bytes} = {row_bytes} bytes for {encoding}; got {step}"
        )
    data = np.frombuffer(data, np.uint8)
    if data.size < height * step:
        raise MessageError(
            f"data must hold height × step = {height} × {step} = {height * step} bytes; got {data.size}: "
            "the message was cut off or its step is wrong"
        )
    return data[: height * step].reshape(height, step)[:, :row_bytes]
