# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.


"""Record3D: a .r3d file (a zip), or its folder: metadata (JSON), rgbd/N.jpg, N.depth and N.conf.

Poses are camera-to-world with ARKit's axes (x right, y up, looking along -z): qx qy qz qw x y z. Depth is float32
metres and confidence a byte from 0 to 2, both compressed by LZFSE, of the same view in fewer pixels. K is column by
column.

An LZFSE stream is blocks that begin with their kind and the size that they inflate to, and ends with bvx$. The kinds
are bvx- (stored, read here), bvxn (LZVN) and bvx2 (LZFSE), read by the package lzfse. Source: lzfse_internal.h of
Apple's reference implementation.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from dvmvs_core.data.encodings.image_size import MAX_IMAGE_PIXELS, decode_encoded
from dvmvs_core.data.file_order import natural_key
from dvmvs_core.errors import DamagedError, DataError
from dvmvs_core.foreign import foreign, regular
from dvmvs_core.importers.dataset import Dataset, Scene, SceneInput, SkippedFrame
from dvmvs_core.importers.files import LARGEST_TEXT, column_by_column, numbers_of, parse_json, read_bounded
from dvmvs_core.importers.formats import PhoneOptions
from dvmvs_core.importers.posed_scene import OPENCV_FROM_OPENGL, Camera, PosedImage, PosedScene, rigid
from dvmvs_core.importers.timed_poses import SECOND_NS, rotations_of

METADATA = "metadata"


@dataclass(frozen=True)
class Record3d(Dataset):
    """Record3D."""

    published: bool
    options: PhoneOptions
    title = "Record3D"

    def find(self, root: Path) -> list[SceneInput]:
        """Return the .r3d file or folder at a path, or those in it."""
        if root.suffix == ".r3d" or (root / METADATA).is_file():
            return [SceneInput(root.resolve().stem, root)]
        found = sorted([*root.glob("*.r3d"), *(path.parent for path in root.glob(f"*/{METADATA}") if path.is_file())])
        if not found:
            raise DataError(f"{root} holds no Record3D recording: looked for *.r3d, and for {METADATA} next to rgbd/")
        return [SceneInput(path.resolve().stem, path) for path in found]

    def open(self, scene: SceneInput) -> Scene:
        """Read the metadata; frames are read when they are wanted."""
        read, names = _reader(scene.path)
        metadata = parse_json(read(METADATA), f"{scene.path}, {METADATA}")
        with foreign(f"{scene.path}: the metadata must hold poses, K, dw and dh of Record3D, not without"):
            poses = list(metadata["poses"])
            K = column_by_column(metadata["K"], f"{scene.path}, K of the metadata (column by column)")
            each = metadata.get("perFrameIntrinsicCoeffs") or [K] * len(poses)
            times_s = metadata.get("frameTimestamps") or np.arange(len(poses)) / float(metadata.get("fps") or 60)
            width, height = int(metadata["dw"]), int(metadata["dh"])
            if not 0 < width * height <= MAX_IMAGE_PIXELS:
                raise DataError(f"depth images of {width}×{height}")
            size = tuple(int(metadata[side]) for side in "wh") if {"w", "h"} <= metadata.keys() else None
            cameras = [Camera(tuple(numbers_of(values, 4, "intrinsics of a frame")), size=size) for values in each]
            if not len(cameras) == len(times_s) == len(poses):
                raise DataError(
                    f"{scene.path}: the metadata must hold as much of each; got {len(poses)} poses, {len(cameras)}"
                    f" intrinsics and {len(times_s)} times"
                )
        frames: list[PosedImage | SkippedFrame] = []
        for number, pose in enumerate(poses):
            name = f"rgbd/{number}.jpg"
            try:
                if name not in names:
                    raise DataError("there is no image")
                pose = numbers_of(pose, 7, f"pose {number}")
                world_R_cam = rotations_of(np.array([pose[:4]]), scene.path).as_matrix()[0]
            except DataError as error:
                frames.append(SkippedFrame(name, str(error)))
                continue
            has_depth = f"rgbd/{number}.depth" in names
            has_confidence = f"rgbd/{number}.conf" in names
            depth = partial(_depth, read, number, (height, width), self.options.min_confidence if has_confidence else 0)
            frames.append(
                PosedImage(
                    name,
                    partial(_image, read, name),
                    cameras[number],
                    rigid(world_R_cam, np.array(pose[4:])) @ OPENCV_FROM_OPENGL,
                    round(float(times_s[number]) * SECOND_NS),
                    depth if has_depth else None,
                    "" if has_depth else f"there is no rgbd/{number}.depth",
                )
            )
        beyond = sorted(names - {f"rgbd/{number}.jpg" for number in range(len(poses))}, key=natural_key)
        frames += [SkippedFrame(name, "the metadata has no pose of it") for name in beyond if name.endswith(".jpg")]
        return PosedScene(frames)


def _reader(path: Path) -> tuple[Callable[[str], bytes], set[str]]:
    """A function that reads an entry by its name, and the names."""
    if path.is_dir():
        names = {file.relative_to(path).as_posix() for file in (path / "rgbd").glob("*")}
        return lambda name: read_bounded(path / name), names
    with foreign(f"{path} must be a .r3d file"):
        archive = zipfile.ZipFile(regular(path))
        return partial(_entry, archive), set(archive.namelist())


def _entry(archive: zipfile.ZipFile, name: str) -> bytes:
    with foreign(f"{name} of {archive.filename} cannot be read"):
        info = archive.getinfo(name)
        if info.file_size > LARGEST_TEXT:
            raise DataError(f"it has {info.file_size} bytes")
        return archive.read(info)


def _image(read: Callable[[str], bytes], name: str) -> np.ndarray:
    return cv2.cvtColor(decode_encoded(read(name), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION), cv2.COLOR_BGR2RGB)


def _depth(read: Callable[[str], bytes], number: int, size: tuple[int, int], min_confidence: int) -> np.ndarray:
    pixels = size[0] * size[1]
    depth = np.frombuffer(inflate_lzfse(read(f"rgbd/{number}.depth"), 4 * pixels), "<f4").reshape(size).copy()
    if min_confidence:
        sure = np.frombuffer(inflate_lzfse(read(f"rgbd/{number}.conf"), pixels), np.uint8).reshape(size)
        depth[sure < min_confidence] = 0
    return depth


LZFSE_HEADER_BYTES = 32
"""The shortest header of a block, without its tables."""

STORED, LZVN, LZFSE, END = b"bvx-", b"bvxn", b"bvx2", b"bvx$"


def inflate_lzfse(data: bytes, size: int) -> bytes:
    """Return what a stream of a known size holds.

    Args:
        data: the stream.
        size: bytes that must come out.

    Raises:
        DataError: if it is damaged or of another size, or compressed and lzfse is not installed.
    """
    with foreign("data must be an LZFSE stream of one image"):
        blocks = _blocks(data)
    inflated = sum(length for _, length, _ in blocks)
    if inflated != size:
        raise DamagedError(f"the stream must hold {size} bytes; it holds {inflated}")
    if all(kind == STORED for kind, _, _ in blocks):
        return b"".join(data[end - length : end] for _, length, end in blocks)
    return _by_library(data, size)


def _blocks(data: bytes) -> list[tuple[bytes, int, int]]:
    """Kind, size and end of each block; nothing is inflated, since 180 kB may claim 300 MB."""
    blocks, at = [], 0
    while (kind := data[at : at + 4]) != END:
        (length,) = struct.unpack_from("<I", data, at + 4)
        if kind == STORED:
            at += 8 + length
        elif kind == LZVN:
            at += 12 + struct.unpack_from("<I", data, at + 8)[0]
        elif kind == LZFSE:
            literals, matches, header = struct.unpack_from("<3Q", data, at + 8)
            if header & 0xFFFFFFFF < LZFSE_HEADER_BYTES:
                raise DamagedError("a block has no header")
            at += (header & 0xFFFFFFFF) + (literals >> 20 & 0xFFFFF) + (matches >> 40 & 0xFFFFF)
        else:
            raise DamagedError("a block is of no known kind")
        if at > len(data):
            raise DamagedError("the stream ends early: it was cut off")
        blocks.append((kind, length, at))
    return blocks


def _by_library(data: bytes, size: int) -> bytes:
    try:
        import lzfse
    except ImportError:
        raise DataError("depth of Record3D is compressed with LZFSE: pip install lzfse, and run it again") from None
    with foreign("the LZFSE stream is damaged"):
        inflated = lzfse.decompress(data)
    if len(inflated) != size:
        raise DamagedError(f"the LZFSE stream must hold {size} bytes; it holds {len(inflated)}")
    return inflated
