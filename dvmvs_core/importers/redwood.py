# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.


"""Open3D and Redwood: a .log trajectory next to colour and depth images.

A block of the trajectory is a line of three whole numbers, of which the first is the number of the frame, and the 4×4
camera-to-world matrix, x right, y down, z forward, metres.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from dvmvs_core.data.scene_folder import pair_depths, read_image
from dvmvs_core.data.text_lines import read_rows
from dvmvs_core.errors import DataError
from dvmvs_core.importers.dataset import Dataset, Scene, SceneInput, SkippedFrame
from dvmvs_core.importers.files import column_by_column, images_in, numbers_of, read_json, read_raw_depth
from dvmvs_core.importers.formats import RedwoodOptions
from dvmvs_core.importers.posed_scene import Camera, PosedImage, PosedScene, check_pose_matrix

COLOUR, DEPTH = ("color", "image", "images", "rgb"), ("depth",)


@dataclass(frozen=True)
class Redwood(Dataset):
    """Recordings with a .log trajectory."""

    published: bool
    options: RedwoodOptions
    title = "Open3D .log"

    def find(self, root: Path) -> list[SceneInput]:
        """Return the folder itself."""
        if not root.is_dir():
            raise DataError(f"{root} must be the folder that holds color/, depth/ and the trajectory")
        return [SceneInput(root.resolve().name, root)]

    def open(self, scene: SceneInput) -> Scene:
        """Open a folder."""
        images = next((found for name in COLOUR if (found := images_in(scene.path / name))), [])
        if not images:
            raise DataError(f"{scene.path} holds no colour images: looked in {', '.join(COLOUR)}")
        depths = images_in(scene.path / DEPTH[0])
        camera = self._camera(scene.path)
        log = self._log(scene.path)
        frames: list[PosedImage | SkippedFrame] = []
        poses = _read_log(log)
        numbers = _numbers(images, poses)
        partners = pair_depths(scene.path / DEPTH[0], depths, images)
        for number, image, depth in zip(numbers, images, partners, strict=True):
            if number not in poses:
                frames.append(SkippedFrame(image.name, f"{log.name} has no pose for frame {number}"))
                continue
            frames.append(
                PosedImage(
                    image.name,
                    partial(read_image, image),
                    camera,
                    poses[number],
                    read_depth=partial(_depth, depth, self.options.depth_scale) if depth else None,
                    no_depth=f"there is no depth image {image.stem}" if depths else "",
                )
            )
        return PosedScene(frames)

    def _log(self, folder: Path) -> Path:
        if self.options.log is not None:
            return self.options.log
        found = sorted([*folder.glob("*.log"), *folder.glob("scene/*.log")])
        if len(found) != 1:
            held = ", ".join(path.name for path in found) or "none"
            raise DataError(f"{folder} must hold one trajectory *.log; found {held}: name it with --log")
        return found[0]

    def _camera(self, folder: Path) -> Camera:
        if self.options.intrinsics is not None:
            return Camera(self.options.intrinsics)
        for name in ("camera_intrinsic.json", "intrinsic.json"):
            if (folder / name).exists():
                content = read_json(folder / name)
                place = f"{folder / name}, intrinsic_matrix (column by column)"
                size = None
                if {"width", "height"} <= content.keys():
                    width, height = numbers_of((content["width"], content["height"]), 2, f"{folder / name}, size")
                    size = (round(width), round(height))
                return Camera(column_by_column(content.get("intrinsic_matrix"), place), size=size)
        raise DataError(f"{folder} says no intrinsics: give --intrinsics FX FY CX CY, or a camera_intrinsic.json")


def _depth(path: Path, units: float) -> np.ndarray:
    return read_raw_depth(path) / units


def _numbers(images: list[Path], poses: dict[int, np.ndarray]) -> list[int]:
    """The number of each image in the trajectory: its place, or where images are missing that of its name, from 0.

    Raises:
        DataError: if images are missing, and names do not tell which.
    """
    if len(images) >= len(poses):
        first = 1 if 0 not in poses and len(poses) in poses else 0  # some tools count from 1
        return list(range(first, len(images) + first))
    named = [re.search(r"\d+", image.stem) for image in images]
    numbers = [int(match[0]) for match in named if match]
    if len(numbers) == len(images) and numbers[0] == 0 and set(numbers) <= poses.keys():
        return numbers
    raise DataError(
        f"{images[0].parent} must hold an image a pose; got {len(images)} for {len(poses)} poses, and names that do not"
        f" count from 0 ({images[0].name}). Put the missing images back, or take their poses out"
    )


def _read_log(path: Path) -> dict[int, np.ndarray]:
    """Number of a frame → its pose (4, 4)."""
    rows = read_rows(path)
    if not rows or len(rows) % 5 or any(len(row) != (4 if i % 5 else 3) for i, row in enumerate(rows)):
        raise DataError(f"{path} must hold blocks of a line of 3 numbers and 4 lines of 4; got {len(rows)} lines")
    poses = {}
    for at in range(0, len(rows), 5):
        number = int(rows[at][0])
        if number in poses:
            raise DataError(f"{path} must hold one pose a frame; got several of frame {number}, as of pairs of frames")
        poses[number] = check_pose_matrix(rows[at + 1 : at + 5], f"{path}, block {at // 5 + 1}")
    return poses
