# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Writers of formats that the package itself only reads: encoded images, RVL, and the .sens files of ScanNet."""

from __future__ import annotations

import struct
from itertools import groupby

import cv2
import numpy as np


def encoded(suffix: str, pixels: np.ndarray, *options: int) -> bytes:
    """Return an image of one channel, or BGR, as a file of OpenCV."""
    return cv2.imencode(suffix, pixels, options)[1].tobytes()


def encode_rvl(image: np.ndarray) -> bytes:
    """Return a depth image (H, W) uint16 as RVL with its size in front, digit by digit as its paper describes it."""
    numbers, before, filled = [], 0, False
    for filled, run in groupby(image.ravel().tolist(), bool):
        values = list(run)
        if filled and not numbers:
            numbers.append(0)  # runs of zeros and of others take turns, and one of zeros is the first
        numbers.append(len(values))
        for value in values if filled else ():
            step, before = value - before, value
            numbers.append(2 * step if step >= 0 else -2 * step - 1)
    if not filled:
        numbers.append(0)
    digits = ""
    for number in numbers:
        octal = f"{number:o}"[::-1]
        digits += "".join(f"{int(digit) + 8:x}" for digit in octal[:-1]) + octal[-1]
    digits += "0" * (-len(digits) % 8)
    words = [int(digits[i : i + 8], 16) for i in range(0, len(digits), 8)]
    return struct.pack(f"<II{len(words)}I", image.shape[1], image.shape[0], *words)


def pack_frame(pose: np.ndarray, colour: bytes, depth: bytes, time_us: int = 0) -> bytes:
    """Return one frame of a .sens file."""
    lengths = struct.pack("<4Q", time_us, time_us + 7, len(colour), len(depth))
    return np.asarray(pose, "<f4").tobytes() + lengths + colour + depth


def pack_sens(
    frames,
    K_colour,
    K_depth,
    colour_size=(12, 16),
    depth_size=(12, 16),
    common_T_colour=None,
    common_T_depth=None,
    colour_compression=1,
    depth_compression=1,
    depth_shift=1000.0,
    count=None,
    version=4,
) -> bytes:
    """Return a .sens file of frames that are packed already."""
    name = b"StructureSensor"
    data = struct.pack("<IQ", version, len(name)) + name
    for matrix in (K_colour, common_T_colour, K_depth, common_T_depth):
        full = np.eye(4, dtype="<f4")
        if matrix is not None:
            full[: len(matrix), : len(matrix)] = matrix
        data += full.tobytes()
    sizes = (*colour_size[::-1], *depth_size[::-1])
    data += struct.pack("<ii4If", colour_compression, depth_compression, *sizes, depth_shift)
    return data + struct.pack("<Q", len(frames) if count is None else count) + b"".join(frames)
