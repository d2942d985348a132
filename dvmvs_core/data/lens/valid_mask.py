# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What a camera shows, as a mask next to its images: 0 where they show nothing of the scene, as beyond the lens or
where the robot's own arm is. No depth is given there.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from dvmvs_core.data.encodings.image_message import decode_image
from dvmvs_core.data.encodings.image_size import MAX_IMAGE_PIXELS, decode_encoded
from dvmvs_core.data.lens.rectification import WHOLE
from dvmvs_core.errors import MessageError
from dvmvs_core.foreign import foreign, quoted
from dvmvs_core.preprocess import Preprocessor
from dvmvs_core.types import DepthPrediction

VALID_MASK = "valid_mask"
"""Name of the topic, in the namespace of the images."""

MASK_ENCODINGS = ("mono8", "8UC1", "rgb8", "bgr8", "8UC3")
"""The last three for publishers of picture files, which make every picture one of colours."""

JPEG = b"\xff\xd8"


def mask_topic(image_topic: str) -> str:
    """Return the topic of the mask next to a topic of uncompressed images."""
    return image_topic[: image_topic.rfind("/") + 1] + VALID_MASK


def is_mask_topic(topic: str) -> bool:
    """Return whether a topic has the name of a mask's, less its namespace."""
    return topic.rpartition("/")[2] == VALID_MASK


def decode_mask(
    encoding: str,
    height: int,
    width: int,
    step: int,
    is_bigendian: bool | int,
    data,
    max_pixels: int = MAX_IMAGE_PIXELS,
) -> np.ndarray:
    """Decode a mask's Image.

    Args:
        encoding: one of `MASK_ENCODINGS`.
        height: rows.
        width: columns.
        step: bytes from the start of one row to the start of the next, padding included.
        is_bigendian: as in the message; of no meaning for 8 bits.
        data: the message's bytes, as any object with the buffer protocol.
        max_pixels: largest mask that is decoded.

    Returns:
        (H, W) bool, True where images show the scene.

    Raises:
        MessageError: unknown encoding, a layout that is none, or no pixel that is not 0.
    """
    if encoding not in MASK_ENCODINGS:
        raise MessageError(f"its encoding must be mono8; got {quoted(encoding)}")
    return valid_pixels(decode_image(encoding, height, width, step, is_bigendian, data, max_pixels).any(axis=-1))


def decode_mask_png(data, max_pixels: int = MAX_IMAGE_PIXELS) -> np.ndarray:
    """Decode a mask's PNG, of a file or a CompressedImage: grey, colour or palette, of any depth.

    Args:
        data: its bytes, as any object with the buffer protocol.
        max_pixels: largest mask that is decoded.

    Returns:
        (H, W) bool, as `decode_mask` does. Black shows nothing, and so does what is transparent.

    Raises:
        MessageError: if it is no PNG, or has no pixel that is not 0.
    """
    if bytes(data[:2]) == JPEG:
        raise MessageError("it must be a PNG; got a JPEG, which blurs where the mask ends")
    with foreign("it must be a whole PNG", MessageError):
        # Unchanged: made grey or 8 bits, a 1 of blue or of 16 bits would become 0.
        shown = decode_encoded(data, cv2.IMREAD_UNCHANGED, max_pixels) > 0
    shown = np.atleast_3d(shown)
    return valid_pixels(shown[..., :3].any(axis=-1) & shown[..., 3:].all(axis=-1))


def valid_pixels(mask: np.ndarray) -> np.ndarray:
    """Return a mask (H, W) of numbers as bool.

    Raises:
        MessageError: if it is 0 everywhere.
    """
    valid = mask != 0
    if not valid.any():
        raise MessageError(
            "it is 0 everywhere, so nothing would have depth; it must not be 0 where images show the scene"
        )
    return valid


def hidden_percent(valid: np.ndarray) -> float:
    """Return how much of the image a mask hides, in per cent."""
    return 100.0 * (1.0 - float(valid.mean()))


def apply_valid_mask(prediction: DepthPrediction, valid_mask: np.ndarray | None, crop: bool = False) -> DepthPrediction:
    """Return a prediction with no depth and no confidence where the camera's image shows nothing of the scene.

    Args:
        prediction: at the network's size, or at that of the frame's image.
        valid_mask: (H, W) bool, at the size of the frame's image; None for all.
        crop: whether the image was cropped to the network's aspect ratio, as `Preprocessor` does.
    """
    if valid_mask is None:
        return prediction
    size, confidence = prediction.depth.shape, prediction.confidence
    if valid_mask.shape != size:
        valid_mask = Preprocessor(prediction.K, valid_mask.shape, size, crop=crop).image(valid_mask) > WHOLE
    return replace(
        prediction,
        depth=np.where(valid_mask, prediction.depth, np.float32(0.0)),
        confidence=None if confidence is None else np.where(valid_mask, confidence, np.float32(0.0)),
    )


class MaskChanges:
    """Tells the masks of a sequence as they are published: the first, and each that differs from the one before."""

    def __init__(self) -> None:
        self._valid: np.ndarray | None = None

    def changed(self, valid: np.ndarray | None, size: tuple[int, int]) -> np.ndarray | None:
        """Return the mask (H, W) uint8, 0 or 255, that is to be published before an image; None if it is known.

        Args:
            valid: (H, W) bool, the pixels that show the scene; None for all.
            size: (H, W) of the image.
        """
        if valid is None and self._valid is not None:
            valid = np.ones(size, bool)
        if valid is None or (self._valid is not None and np.array_equal(valid, self._valid)):
            return None
        self._valid = valid
        return np.where(valid, np.uint8(255), np.uint8(0))
