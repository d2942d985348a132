# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""RGB-D Scenes v2: imgs/scene_XX/NNNNN-color.png, NNNNN-depth.png (1/10000 m), pc/XX.pose (w x y z tx ty tz a line).

Correct: images, depth and poses belong together by their number; depth is rounded to millimetres.

Published: together by position; depth goes through float32 and is cut to millimetres. 8 scenes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dvmvs_core.data.text_lines import read_rows
from dvmvs_core.errors import DataError
from dvmvs_core.importers.dataset import Dataset, FileScene, FrameFiles, Scene, SceneInput, SkippedFrame, numbered
from dvmvs_core.importers.formats import RgbdScenesOptions
from dvmvs_core.importers.timed_poses import poses_of, rotations_of

DEPTH_UNITS_PER_MM = 10

K = np.array(((570.3, 0.0, 320.0), (0.0, 570.3, 240.0), (0.0, 0.0, 1.0)))
PUBLISHED_SCENES = frozenset(f"scene_{number}" for number in ("01", "02", "05", "06", "09", "10", "13", "14"))


@dataclass(frozen=True)
class RgbdScenes(Dataset):
    """RGB-D Scenes v2."""

    published: bool
    options: RgbdScenesOptions
    title = "RGB-D Scenes v2"

    def find(self, root: Path) -> list[SceneInput]:
        """Return the scenes in imgs/."""
        folders = [folder for folder in sorted(root.glob("imgs/scene_*")) if folder.is_dir()]
        if self.published:
            folders = [folder for folder in folders if folder.name in PUBLISHED_SCENES]
        if not folders:
            wanted = f" of {', '.join(sorted(PUBLISHED_SCENES))}" if self.published else ""
            raise DataError(f"{root} holds no RGB-D Scenes v2 scene{wanted}: looked for imgs/scene_XX and pc/XX.pose")
        return [SceneInput(folder.name, folder) for folder in folders]

    def open(self, scene: SceneInput) -> Scene:
        """Open a scene."""
        number = scene.name.removeprefix("scene_")
        poses = _read_poses(scene.path.parents[1] / "pc" / f"{number}.pose")
        if not self.published:
            return FileScene(K, _frames(scene.path, poses), _round_to_mm)
        images, depths = sorted(scene.path.glob("*color*.png")), sorted(scene.path.glob("*depth*.png"))
        if min(len(depths), len(poses)) < len(images):
            raise DataError(
                f"{scene.path} must have depth and a pose for each of {len(images)} images;"
                f" got {len(depths)} depth images and {len(poses)} poses"
            )
        frames = [FrameFiles(*files) for files in zip(images, depths, poses, strict=False)]
        return FileScene(K, frames, _cut_to_mm)


def _frames(folder: Path, poses: np.ndarray) -> list[FrameFiles | SkippedFrame]:
    depths = numbered(folder, r"(\d+)-depth\.png")
    frames: list[FrameFiles | SkippedFrame] = []
    for number, image in numbered(folder, r"(\d+)-color\.png").items():
        if number not in depths:
            frames.append(SkippedFrame(image.name, "it has no depth image"))
        elif number >= len(poses):
            frames.append(SkippedFrame(image.name, f"there are only {len(poses)} poses"))
        else:
            frames.append(FrameFiles(image, depths[number], poses[number]))
    return frames


def _read_poses(path: Path) -> np.ndarray:
    numbers = np.array(read_rows(path, 7)).reshape(-1, 7)
    return poses_of(rotations_of(numbers[:, (1, 2, 3, 0)], path), numbers[:, 4:])


def _round_to_mm(depth: np.ndarray) -> np.ndarray:
    return ((depth.astype(np.uint32) + DEPTH_UNITS_PER_MM // 2) // DEPTH_UNITS_PER_MM).astype(np.uint16)


def _cut_to_mm(depth: np.ndarray) -> np.ndarray:
    metres = depth.astype(np.float32) / np.float32(10000)
    return (metres * np.float32(1000)).astype(np.uint16)
