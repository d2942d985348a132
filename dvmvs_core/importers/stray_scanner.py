# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.


"""Stray Scanner: rgb.mp4, odometry.csv, camera_matrix.csv, depth/ and confidence/ of an iPhone's LiDAR.

Poses are camera-to-world, x right, y down, z forward (the app turns ARKit's axes); depth is 16-bit millimetres and
confidence 0 to 2, both 256×192 of the same view; newer recordings have the intrinsics of each frame in odometry.csv.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from dvmvs_core.data.encodings.image_size import MAX_IMAGE_PIXELS
from dvmvs_core.data.scene_folder import decode_image
from dvmvs_core.data.text_lines import read_lines, seconds_to_ns, to_numbers
from dvmvs_core.errors import DataError
from dvmvs_core.foreign import foreign, quoted, regular
from dvmvs_core.importers.dataset import Dataset, Scene, SceneInput, SkippedFrame
from dvmvs_core.importers.files import read_raw_depth
from dvmvs_core.importers.formats import PhoneOptions
from dvmvs_core.importers.posed_scene import Camera, PosedImage, PosedScene, rigid
from dvmvs_core.importers.timed_poses import rotations_of
from dvmvs_core.importers.video import Video
from dvmvs_core.types import check_intrinsics

COLUMNS = ("timestamp", "frame", "x", "y", "z", "qx", "qy", "qz", "qw")
INTRINSICS = ("fx", "fy", "cx", "cy")


@dataclass(frozen=True)
class StrayScanner(Dataset):
    """Stray Scanner."""

    published: bool
    options: PhoneOptions
    title = "Stray Scanner"

    def find(self, root: Path) -> list[SceneInput]:
        """Return the recording at a path, or those in its subfolders."""
        folders = [path.parent for path in sorted([*root.glob("odometry.csv"), *root.glob("*/odometry.csv")])]
        if not folders:
            raise DataError(f"{root} holds no Stray Scanner recording: looked for odometry.csv and rgb.mp4")
        return [SceneInput(folder.resolve().name, folder) for folder in folders]

    def open(self, scene: SceneInput) -> Scene:
        """Open a recording; video frames are decoded one after the other."""
        video = Video(scene.path / "rgb.mp4")
        common = _matrix(scene.path / "camera_matrix.csv")
        count = len(video.times_ns())
        frames = []
        for row in _odometry(scene.path / "odometry.csv"):
            number = int(row["frame"])
            name = f"frame {number}"
            if not 0 <= number < count:
                frames.append(SkippedFrame(name, f"rgb.mp4 has {count} frames"))
                continue
            depth = scene.path / "depth" / f"{number:06d}.png"
            if not depth.exists() and depth.with_suffix(".npy").exists():
                depth = depth.with_suffix(".npy")  # as the first versions of the app wrote it
            confidence = scene.path / "confidence" / f"{number:06d}.png"
            world_R_cam = rotations_of(np.array([[row[key] for key in ("qx", "qy", "qz", "qw")]]), scene.path)
            frames.append(
                PosedImage(
                    name,
                    partial(video.frame, number),
                    Camera(tuple(row[key] for key in INTRINSICS)) if all(key in row for key in INTRINSICS) else common,
                    rigid(world_R_cam.as_matrix()[0], np.array([row[key] for key in "xyz"])),
                    seconds_to_ns(repr(row["timestamp"])),
                    partial(_depth, depth, confidence, self.options.min_confidence) if depth.exists() else None,
                    "" if depth.exists() else f"there is no depth/{depth.name}",
                )
            )
        return PosedScene(frames)


def _depth(path: Path, confidence: Path, min_confidence: int) -> np.ndarray:
    depth = (_read_array(path) if path.suffix == ".npy" else read_raw_depth(path)) / 1000.0
    if confidence.exists():
        sure = decode_image(confidence, cv2.IMREAD_UNCHANGED, "a confidence image")
        if sure.shape != depth.shape:
            raise DataError(f"{confidence} must have the size of its depth image, {depth.shape}; got {sure.shape}")
        depth[sure < min_confidence] = 0
    return depth


def _read_array(path: Path) -> np.ndarray:
    with foreign(f"{path} cannot be read"):
        depth = np.load(regular(path), mmap_mode="r", allow_pickle=False)  # not longer than the file, whatever it says
    if depth.ndim != 2 or depth.dtype != np.uint16 or depth.size > MAX_IMAGE_PIXELS:
        raise DataError(f"{path} must hold a depth image of 16 bits; got {depth.dtype} of shape {depth.shape}")
    return depth


def _matrix(path: Path) -> Camera:
    rows = [to_numbers(line.split(","), f"{path}, line {number}") for number, line in read_lines(path) if line.strip()]
    if [len(row) for row in rows] != [3, 3, 3]:
        raise DataError(f"{path} must hold 3 lines of 3 numbers")
    with foreign(str(path)):
        K = check_intrinsics(np.array(rows))
    return Camera((K[0, 0], K[1, 1], K[0, 2], K[1, 2]))


def _odometry(path: Path) -> list[dict[str, float]]:
    rows: list[dict[str, float]] = []
    names: list[str] = []
    for number, line in read_lines(path):
        words = [word.strip() for word in line.split(",")]
        if not line.strip():
            continue
        if not names:
            names = words
            if not set(COLUMNS) <= set(names):
                raise DataError(f"{path} must begin with the columns {', '.join(COLUMNS)}; got {quoted(line.strip())}")
            continue
        if len(words) < len(names):
            raise DataError(f"{path}, line {number} must hold {len(names)} columns; got {len(words)}")
        given = {name: word for name, word in zip(names, words, strict=False) if word}
        rows.append(dict(zip(given, to_numbers(list(given.values()), f"{path}, line {number}"), strict=True)))
        if not set(COLUMNS) <= rows[-1].keys() or not np.isfinite(list(rows[-1].values())).all():
            raise DataError(f"{path}, line {number} must hold finite numbers for {', '.join(COLUMNS)}")
    if not rows:
        raise DataError(f"{path} holds no pose")
    return rows
