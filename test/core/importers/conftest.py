# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Small inputs in the formats of the data sets, and a way to run an export on them."""

from __future__ import annotations

import struct
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from dvmvs_core.importers.formats import ImportOptions
from dvmvs_core.importers.import_runner import import_scenes

sys.path.insert(0, str(Path(__file__).parent))  # of written_recordings


def make_image(seed, height=12, width=16):
    """Smooth enough for jpeg, and different at every pixel."""
    coarse = np.random.default_rng(seed).integers(0, 255, (4, 4, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)


def make_depth(seed, height=12, width=16, low=500, high=4000):
    depth = np.random.default_rng(seed).integers(low, high, (height, width), dtype=np.uint16)
    depth[0, :3] = 0
    return depth


def make_pose(seed):
    generator = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(generator.normal(size=(3, 3)))
    pose = np.eye(4)
    pose[:3, :3] = rotation * np.sign(np.linalg.det(rotation))
    pose[:3, 3] = generator.normal(size=3)
    return pose


def write_image(path, rgb, *parameters):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), list(parameters))


def write_depth(path, depth):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), depth)


def read_image(path):
    return cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)


def read_depth(path):
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def matrix(K):
    """A 4×4 intrinsic matrix, as a .sens file stores it."""
    full = np.eye(4)
    full[:3, :3] = K
    return full


def pack_frame(pose, colour, depth, time_us=0):
    """The bytes of one frame of a .sens file."""
    values = np.asarray(pose, dtype=np.float32).ravel().tolist()
    return struct.pack("<16f4Q", *values, time_us, time_us + 7, len(colour), len(depth)) + colour + depth


def pack_sens(
    frames,
    K_colour,
    K_depth,
    colour_size,
    depth_size,
    common_T_colour=None,
    common_T_depth=None,
    colour_compression=1,
    depth_compression=1,
    depth_shift=1000.0,
    count=None,
    version=4,
):
    """The bytes of a .sens file; `frames` are packed already."""
    name = b"StructureSensor"
    matrices = (matrix(K_colour), common_T_colour, matrix(K_depth), common_T_depth)
    return b"".join(
        (
            struct.pack("<I", version),
            struct.pack("<Q", len(name)) + name,
            *(struct.pack("<16f", *(np.eye(4) if m is None else m).ravel().tolist()) for m in matrices),
            struct.pack("<ii", colour_compression, depth_compression),
            struct.pack("<4I", colour_size[1], colour_size[0], depth_size[1], depth_size[0]),
            struct.pack("<f", depth_shift),
            struct.pack("<Q", len(frames) if count is None else count),
            *frames,
        )
    )


def png_bytes(rgb):
    return cv2.imencode(".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))[1].tobytes()


def zlib_depth(depth):
    return zlib.compress(depth.astype("<u2").tobytes())


class Tools:
    """What the tests share, since test modules cannot import each other."""

    image = staticmethod(make_image)
    depth = staticmethod(make_depth)
    pose = staticmethod(make_pose)
    write_image = staticmethod(write_image)
    write_depth = staticmethod(write_depth)
    read_image = staticmethod(read_image)
    read_depth = staticmethod(read_depth)
    pack_frame = staticmethod(pack_frame)
    pack_sens = staticmethod(pack_sens)
    png = staticmethod(png_bytes)
    zlib_depth = staticmethod(zlib_depth)

    @staticmethod
    def register_slowly(depth, K_depth, colour_T_depth, K_colour, size):
        """The registration once more, one pixel at a time."""
        registered = np.zeros(size, dtype=np.uint16)
        for v in range(depth.shape[0]):
            for u in range(depth.shape[1]):
                z = float(depth[v, u])
                if z == 0:
                    continue
                point = np.array(((u - K_depth[0, 2]) / K_depth[0, 0] * z, (v - K_depth[1, 2]) / K_depth[1, 1] * z, z))
                x, y, z = colour_T_depth[:3, :3] @ point + 1000 * colour_T_depth[:3, 3]
                column = round(x / z * K_colour[0, 0] + K_colour[0, 2])
                row = round(y / z * K_colour[1, 1] + K_colour[1, 2])
                if 0 <= row < size[0] and 0 <= column < size[1]:
                    before = registered[row, column]
                    registered[row, column] = round(z) if before == 0 else min(before, round(z))
        return registered

    @staticmethod
    def files(folder):
        """Everything below a folder, hidden things too."""
        return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture(scope="session")
def tools():
    return Tools


@pytest.fixture
def run_import(tmp_path):
    """Export with one process; returns the output folder and the summary."""

    def run(dataset_class, root, own, training=False, frame_skip=1, published=False, **more):
        out = tmp_path / "out"
        options = ImportOptions(training, frame_skip, published)
        return out, import_scenes(dataset_class(published, own), root, out, options, **more)

    return run
