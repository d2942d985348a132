# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""ScanNet's .sens recordings, version 4, read frame by frame.

Little-endian. Header: u32 version, u64 length and name of the sensor, four 4×4 float32 matrices (intrinsics and
extrinsics of colour, then of depth), i32 compression of colour and of depth, u32 width and height of colour and of
depth, float32 depth shift, u64 number of frames. Frame:
4×4 float32 pose, u64 time of colour and of depth, u64 bytes of colour and of depth, then those bytes.

An extrinsic maps points of its camera to a frame common to both, usually colour's own; the pose belongs to the depth
camera; times are in microseconds. Source: SensReader of github.com/ScanNet/ScanNet, its comments and its point cloud
writer.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np

from dvmvs_core.data.encodings.image_size import MAX_IMAGE_PIXELS, check_pixels, decode_encoded
from dvmvs_core.data.encodings.inflate import inflate_zlib
from dvmvs_core.errors import DataError
from dvmvs_core.foreign import foreign, regular
from dvmvs_core.importers.dataset import SkippedFrame

VERSION = 4
COLOUR_COMPRESSIONS = {0: "raw", 1: "png", 2: "jpeg"}
DEPTH_COMPRESSIONS = {0: "raw", 1: "zlib", 2: "occi"}

MAX_DEPTH_PIXELS = 4_000_000
"""Of a depth image: moving one into the colour camera takes 64 bytes a pixel, and ScanNet's have 300,000."""

MAX_FRAMES = 10_000_000
"""Four days at 30 frames a second."""

_MATRIX = struct.Struct("<16f")
_SIZES = struct.Struct("<ii4IfQ")
_FRAME = struct.Struct("<16f4Q")


@dataclass(frozen=True, eq=False)
class SensHeader:
    """What a .sens file says before its first frame.

    Attributes:
        K_colour: (3, 3) float32 intrinsics of the colour images.
        K_depth: (3, 3) float32 intrinsics of the depth images.
        common_T_colour: (4, 4) float32 colour camera to the common frame, metres.
        common_T_depth: (4, 4) float32 depth camera to the common frame, metres.
        colour_compression: "raw", "png" or "jpeg".
        depth_compression: "raw" or "zlib".
        colour_size: (H, W) of the colour images.
        depth_size: (H, W) of the depth images.
        depth_shift: depth units in a metre.
        frames: number of frames that follow, if the file is whole.
        first_frame: offset of the first in the file.
    """

    K_colour: np.ndarray
    K_depth: np.ndarray
    common_T_colour: np.ndarray
    common_T_depth: np.ndarray
    colour_compression: str
    depth_compression: str
    colour_size: tuple[int, int]
    depth_size: tuple[int, int]
    depth_shift: float
    frames: int
    first_frame: int


@dataclass(frozen=True, eq=False)
class SensFrame:
    """One frame, its images still compressed.

    Attributes:
        index: position in the file.
        world_T_depth: (4, 4) float32 pose of the depth camera; not finite where tracking is lost.
        colour_time_us: time of the colour image.
        colour: its bytes.
        depth: bytes of the depth image.
    """

    index: int
    world_T_depth: np.ndarray
    colour_time_us: int
    colour: bytes
    depth: bytes


def read_header(path: Path) -> SensHeader:
    """Read the header of a .sens file.

    Raises:
        DataError: if it is no .sens file of version 4, has no calibration, or is compressed in a way that is not
            supported.
    """
    with foreign(f"{path} cannot be read"), regular(path).open("rb") as file:
        try:
            return _read_header(path, file)
        except struct.error as error:
            raise DataError(f"{path} ends inside its header. Copy it again") from error


def read_frames(path: Path, header: SensHeader, step: int = 1) -> Iterator[SensFrame | SkippedFrame]:
    """Yield every step-th frame; where the file is cut off, everything from there on is one SkippedFrame."""
    with path.open("rb") as file:
        end = os.fstat(file.fileno()).st_size
        file.seek(header.first_frame)
        for index in range(header.frames):
            *pose, colour_time, _, colour_bytes, depth_bytes = _FRAME.unpack(
                file.read(_FRAME.size).ljust(_FRAME.size, b"\xff")  # a size of 2⁶⁴−1 reaches past any end
            )
            if file.tell() + colour_bytes + depth_bytes > end:
                lost = len(range(index + -index % step, header.frames, step))
                if lost:
                    yield SkippedFrame(f"frames {index} to {header.frames - 1}", f"{path.name} is cut off there", lost)
                return
            if index % step:
                file.seek(colour_bytes + depth_bytes, os.SEEK_CUR)
                continue
            world_T_depth = np.array(pose, dtype=np.float32).reshape(4, 4)
            yield SensFrame(index, world_T_depth, colour_time, file.read(colour_bytes), file.read(depth_bytes))


def decode_colour(header: SensHeader, data: bytes) -> np.ndarray:
    """Return the colour image (H, W, 3) uint8 RGB of a frame.

    Raises:
        DataError: if it is damaged.
    """
    height, width = header.colour_size
    if header.colour_compression == "raw":
        if len(data) != height * width * 3:
            raise DataError(f"its colour image must have {height * width * 3} bytes; got {len(data)}")
        return np.frombuffer(data, np.uint8).reshape(height, width, 3)
    if header.colour_compression == "jpeg" and b"\xff\xd9" not in data[-1024:]:
        raise DataError("its jpeg image is cut off")  # libjpeg would fill it up with grey without a word
    said = f"its {header.colour_compression} image is damaged or not {width}×{height}"
    with foreign(said):
        image = decode_encoded(data, cv2.IMREAD_COLOR)
    if image.shape[:2] != header.colour_size:
        raise DataError(said)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def decode_depth(header: SensHeader, data: bytes) -> np.ndarray:
    """Return the depth image (H, W) uint16 of a frame, in units of 1 / depth_shift metres, 0 = invalid.

    Raises:
        DataError: if it is damaged.
    """
    height, width = header.depth_size
    if header.depth_compression == "zlib":
        with foreign("its depth image is damaged"):
            data = inflate_zlib(data, height * width * 2)
    if len(data) != height * width * 2:
        raise DataError(f"its depth image must have {height * width * 2} bytes; got {len(data)}")
    return np.frombuffer(data, "<u2").astype(np.uint16).reshape(height, width)


def _read_header(path: Path, file: BinaryIO) -> SensHeader:
    (version,) = struct.unpack("<I", file.read(4))
    if version != VERSION:
        raise DataError(f"{path} must be a .sens file of version {VERSION}; its first number is {version}")
    (name_bytes,) = struct.unpack("<Q", file.read(8))
    if name_bytes > os.fstat(file.fileno()).st_size:
        raise DataError(f"{path} is damaged: the name of its sensor would be {name_bytes} bytes long. Copy it again")
    file.seek(name_bytes, os.SEEK_CUR)
    K_colour, common_T_colour, K_depth, common_T_depth = (_read_matrix(file) for _ in range(4))
    colour, depth, colour_width, colour_height, depth_width, depth_height, shift, frames = _SIZES.unpack(
        file.read(_SIZES.size)
    )
    for camera, K in (("colour", K_colour), ("depth", K_depth)):
        K = K[:3, :3]
        if not np.isfinite(K).all() or K[0, 0] <= 0 or K[1, 1] <= 0 or np.linalg.matrix_rank(K) < 3:
            raise DataError(f"{path} has no calibration: its {camera} intrinsics are {K.tolist()}")
    for camera, size, most in (
        ("colour", (colour_height, colour_width), MAX_IMAGE_PIXELS),
        ("depth", (depth_height, depth_width), MAX_DEPTH_PIXELS),
    ):
        with foreign(f"{path} is damaged: the size of its {camera} images"):
            check_pixels(*size, os.fstat(file.fileno()).st_size, most)
    if frames > MAX_FRAMES:
        raise DataError(f"{path} is damaged: it would have {frames} frames. Copy it again")
    if not (np.isfinite(shift) and shift > 0):
        raise DataError(f"{path} has no calibration: its depth shift must be positive; got {shift}")
    if colour not in COLOUR_COMPRESSIONS:
        raise DataError(f"{path}: colour must be compressed as {COLOUR_COMPRESSIONS}; got {colour}")
    if DEPTH_COMPRESSIONS.get(depth) not in ("raw", "zlib"):
        got = DEPTH_COMPRESSIONS.get(depth, "unknown")
        raise DataError(
            f"{path}: depth must be raw (0) or zlib (1); got {got} ({depth}). Write it again with ScanNet's SensReader"
        )
    return SensHeader(
        K_colour[:3, :3],
        K_depth[:3, :3],
        common_T_colour,
        common_T_depth,
        COLOUR_COMPRESSIONS[colour],
        DEPTH_COMPRESSIONS[depth],
        (colour_height, colour_width),
        (depth_height, depth_width),
        shift,
        frames,
        file.tell(),
    )


def _read_matrix(file: BinaryIO) -> np.ndarray:
    return np.array(_MATRIX.unpack(file.read(_MATRIX.size)), dtype=np.float32).reshape(4, 4)
