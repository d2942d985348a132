# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Augmented ICL-NUIM: NAME-color/NNNNN.jpg, NAME-depth-clean/NNNNN.png (millimetres), NAME-traj.txt (a line of
numbers, then a 4×4 pose).

Correct: images, depth and poses belong together by their number, which is the first in the line before a pose; the
principal point is (319.5, 239.5), as the data set's makers use it (Open3D issue 540).

Published: together by position; principal point (320, 240).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dvmvs_core.data.text_lines import read_rows
from dvmvs_core.errors import DataError
from dvmvs_core.foreign import quoted
from dvmvs_core.importers.dataset import Dataset, FileScene, FrameFiles, Scene, SceneInput, SkippedFrame, numbered
from dvmvs_core.importers.formats import IclNuimOptions

K = np.array(((525.0, 0.0, 319.5), (0.0, 525.0, 239.5), (0.0, 0.0, 1.0)))
PUBLISHED_K = np.array(((525.0, 0.0, 320.0), (0.0, 525.0, 240.0), (0.0, 0.0, 1.0)))
PUBLISHED_SCENES = frozenset(("livingroom1", "livingroom2", "office1", "office2"))


@dataclass(frozen=True)
class IclNuim(Dataset):
    """Augmented ICL-NUIM."""

    published: bool
    options: IclNuimOptions
    title = "augmented ICL-NUIM"

    def find(self, root: Path) -> list[SceneInput]:
        """Return the scenes whose parts lie in a folder."""
        names = [folder.name.removesuffix("-color") for folder in sorted(root.glob("*-color")) if folder.is_dir()]
        if self.published:
            names = [name for name in names if name in PUBLISHED_SCENES]
        if not names:
            wanted = f" of {', '.join(sorted(PUBLISHED_SCENES))}" if self.published else ""
            raise DataError(
                f"{root} holds no ICL-NUIM scene{wanted}: looked for NAME-color, NAME-depth-clean and NAME-traj.txt"
            )
        return [SceneInput(name, root / name) for name in names]

    def open(self, scene: SceneInput) -> Scene:
        """Open a scene."""
        image_folder, depth_folder, trajectory = (
            scene.path.with_name(scene.name + part) for part in ("-color", "-depth-clean", "-traj.txt")
        )
        if not depth_folder.is_dir():
            raise DataError(f"{scene.name} has no depth: looked for {depth_folder}")
        poses = _read_poses(trajectory)
        if self.published:
            images, depths = sorted(image_folder.glob("*.jpg")), sorted(depth_folder.glob("*.png"))
            if min(len(images), len(depths)) < len(poses):
                raise DataError(
                    f"{scene.name} must have an image and a depth image for each of {len(poses)} poses;"
                    f" got {len(images)} images and {len(depths)} depth images"
                )
            frames = [FrameFiles(*files) for files in zip(images, depths, (pose for _, pose in poses), strict=False)]
            return FileScene(PUBLISHED_K, frames, _unchanged)
        return FileScene(K, _frames(image_folder, depth_folder, dict(poses), trajectory), _unchanged)


def _frames(
    image_folder: Path, depth_folder: Path, poses: dict[int, np.ndarray], trajectory: Path
) -> list[FrameFiles | SkippedFrame]:
    depths = numbered(depth_folder, r"(\d+)\.png")
    frames: list[FrameFiles | SkippedFrame] = []
    for number, image in numbered(image_folder, r"(\d+)\.jpg").items():
        if number not in poses:
            frames.append(SkippedFrame(image.name, f"{trajectory.name} has no pose for it"))
        else:
            frames.append(FrameFiles(image, depths.get(number), poses[number], no_depth="it has no depth image"))
    return frames


def _read_poses(path: Path) -> list[tuple[int, np.ndarray]]:
    """The number and the pose (4, 4) of each block."""
    rows = read_rows(path)
    headers = [row[0] for row in rows if len(row) < 4]
    matrix_rows = [row for row in rows if len(row) >= 4]
    if not rows or len(matrix_rows) != 4 * len(headers) or any(len(row) != 4 for row in matrix_rows):
        raise DataError(f"{path} must hold blocks of a line of numbers and 4 lines of 4; got {len(rows)} lines")
    if not all(number.is_integer() for number in headers):
        raise DataError(f"{path} must number its poses; got {quoted(headers)}")
    return list(zip(map(int, headers), np.array(matrix_rows).reshape(-1, 4, 4), strict=True))


def _unchanged(depth: np.ndarray) -> np.ndarray:
    return depth
