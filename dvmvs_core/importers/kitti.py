# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.


"""KITTI odometry: sequences/NN/image_2/, calib.txt, times.txt, and poses/NN.txt of the left grey camera (image_0).

P of calib.txt is K [I | t]: t is where image_0's camera is from this one. Poses are 3×4, x right, y down, z forward.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from dvmvs_core.data.scene_folder import read_image
from dvmvs_core.data.text_lines import read_rows, read_words, seconds_to_ns, to_numbers
from dvmvs_core.errors import DataError
from dvmvs_core.geometry import inverse_pose
from dvmvs_core.importers.dataset import Dataset, Scene, SceneInput, SkippedFrame
from dvmvs_core.importers.files import images_in
from dvmvs_core.importers.formats import KittiOptions
from dvmvs_core.importers.posed_scene import Camera, PosedImage, PosedScene, check_pose_matrix, rigid


@dataclass(frozen=True)
class Kitti(Dataset):
    """KITTI odometry."""

    published: bool
    options: KittiOptions
    title = "KITTI odometry"

    def find(self, root: Path) -> list[SceneInput]:
        """Return the sequences in a folder, or the given one."""
        folders = [
            path.parent
            for path in sorted(
                [*root.glob("calib.txt"), *root.glob("*/calib.txt"), *root.glob("sequences/*/calib.txt")]
            )
        ]
        if not folders:
            raise DataError(f"{root} holds no KITTI sequence: looked for calib.txt in it and in sequences/NN")
        return [SceneInput(f"kitti-{folder.resolve().name}", folder) for folder in folders]

    def open(self, scene: SceneInput) -> Scene:
        """Open a sequence."""
        folder = scene.path.resolve()
        images = images_in(folder / self.options.camera)
        places = [folder / "poses.txt", folder.parent.parent / "poses" / f"{folder.name}.txt"]
        poses_file = next((place for place in places if place.exists()), None)
        if not images or poses_file is None:
            raise DataError(
                f"{scene.path} must hold {self.options.camera}/ and have poses in {' or '.join(map(str, places))}"
            )
        camera, camera_T_first = _projection(folder / "calib.txt", f"P{self.options.camera[-1]}")
        poses = read_rows(poses_file, 12)
        times = read_words(folder / "times.txt", 1) if (folder / "times.txt").exists() else []
        stamps_ns = [seconds_to_ns(words[0]) for _, words in times]
        frames: list[PosedImage | SkippedFrame] = []
        for image in images:
            if not image.stem.isdecimal():
                raise DataError(f"{image} must be named by its number, which is the line of its pose")
            number = int(image.stem)
            try:
                if number >= len(poses):
                    raise DataError(f"{poses_file.name} has {len(poses)} poses")
                if times and (number >= len(times) or stamps_ns[number] is None):
                    raise DataError(f"line {number + 1} of times.txt is no time, or missing")
                world_T_first = check_pose_matrix(np.reshape(poses[number], (3, 4)), f"{poses_file}, line {number + 1}")
            except DataError as error:
                frames.append(SkippedFrame(image.name, str(error)))
                continue
            stamp_ns = stamps_ns[number] if times else None
            world_T_cam = world_T_first @ inverse_pose(camera_T_first)
            frames.append(PosedImage(image.name, partial(read_image, image), camera, world_T_cam, stamp_ns))
        return PosedScene(frames)


def _projection(path: Path, name: str) -> tuple[Camera, np.ndarray]:
    """The camera, and camera_T_image_0 (4, 4)."""
    for number, words in read_words(path):
        if words[0] == f"{name}:" and len(words) == 13:
            P = np.reshape(to_numbers(words[1:], f"{path}, line {number}"), (3, 4))
            if not np.isfinite(P).all() or P[0, 0] <= 0 or P[1, 1] <= 0 or P[2, 2] != 1:
                raise DataError(f"{path}, line {number} must be a projection K [I | t]; got {P.tolist()}")
            return Camera((P[0, 0], P[1, 1], P[0, 2], P[1, 2])), rigid(np.eye(3), np.linalg.solve(P[:, :3], P[:, 3]))
    raise DataError(f"{path} must hold a line {name}: of 12 numbers")
