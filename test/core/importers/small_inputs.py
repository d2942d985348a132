# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Small images, poses and .sens files, and what an import of them should write."""

from __future__ import annotations

import io
import zlib
from pathlib import Path

import cv2
import numpy as np
from format_writers import pack_frame
from scipy.spatial.transform import Rotation


def image(seed, height=12, width=16):
    """Smooth enough for jpeg, and different at every pixel."""
    coarse = np.random.default_rng(seed).integers(0, 255, (4, 4, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)


def depth(seed, height=12, width=16, low=500, high=4000):
    """Random values in uint16, some of them missing."""
    values = np.random.default_rng(seed).integers(low, high, (height, width), dtype=np.uint16)
    values[0, :3] = 0
    return values


def pose(seed):
    """A random 4×4 pose."""
    world_T_cam = np.eye(4)
    world_T_cam[:3, :3] = Rotation.random(random_state=seed).as_matrix()
    world_T_cam[:3, 3] = np.random.default_rng(seed).normal(size=3)
    return world_T_cam


def write(path: Path, pixels: np.ndarray, *parameters: int) -> None:
    """Write an RGB image (H, W, 3), or one of a single channel (H, W), as the suffix says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels[..., ::-1] if pixels.ndim == 3 else pixels, parameters)


def read(path: Path) -> np.ndarray:
    """The RGB or single-channel image of a file."""
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    return pixels[..., ::-1] if pixels.ndim == 3 else pixels


def frame(pose, seed=0, time_us=0, colour=None, size=(12, 16)):
    """The bytes of one frame of a .sens file, with the colour image as PNG unless its bytes are given."""
    colour = cv2.imencode(".png", image(seed, *size)[..., ::-1])[1].tobytes() if colour is None else colour
    return pack_frame(pose, colour, zlib.compress(depth(seed).tobytes()), time_us)


def register_slowly(depth, K_depth, colour_T_depth, K_colour, size):
    """The registration once more, one pixel at a time."""
    registered = np.zeros(size, dtype=np.uint16)
    for (v, u), z in np.ndenumerate(depth.astype(float)):
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


def files(folder: Path) -> list[str]:
    """Everything below a folder, hidden things too."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def scene_files(name: str, frames: int) -> list[str]:
    """What an import leaves of a scene that has depth and no stamps."""
    images = [f"{name}/{part}/{i:06d}.png" for part in ("images", "depth") for i in range(frames)]
    return sorted([*images, *(f"{name}/{file}" for file in ("K.txt", "export.json", "poses.txt"))])


def saved(matrices, form="%.18e") -> str:
    """The text that numpy makes of one matrix, or of several with one on each line."""
    buffer = io.StringIO()
    matrices = np.asarray(matrices)
    np.savetxt(buffer, matrices if matrices.ndim == 2 else matrices.reshape(len(matrices), -1), form)
    return buffer.getvalue()
