# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""TUM RGB-D: SEQUENCE/rgb.txt, depth.txt (time file), groundtruth.txt (time tx ty tz qx qy qz qw, of the colour
camera); depth in 1/5000 m.

Correct: a frame for each colour image that has depth of nearly the same time, with the pose interpolated to its time;
the intrinsics of the camera that was used, and both images undistorted. The depth scale of each camera (1.035, 1.031,
1) is already applied in the published files.

Published: a frame for each depth image with the nearest colour image and pose, however far away; files matched by
sorted position; one K for all cameras and no undistortion; depth cut to millimetres.

Source of the calibrations: the data set's page on file formats.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import cv2
import numpy as np

from dvmvs_core.data.lens.rectification import within
from dvmvs_core.data.text_lines import read_rows, read_words, to_numbers
from dvmvs_core.errors import DataError
from dvmvs_core.importers.dataset import Dataset, FileScene, FrameFiles, Scene, SceneInput, SkippedFrame
from dvmvs_core.importers.formats import TumRgbdOptions
from dvmvs_core.importers.posed_scene import Camera, pinhole_maps
from dvmvs_core.importers.timed_poses import (
    MILLISECOND_NS,
    pair,
    poses_of,
    read_stamped_lines,
    read_trajectory,
    rotations_of,
)

DEPTH_UNITS_PER_MM = 5

PUBLISHED_K = np.array(((525.0, 0.0, 320.0), (0.0, 525.0, 240.0), (0.0, 0.0, 1.0)))
PUBLISHED_SCENES = frozenset(
    f"rgbd_dataset_freiburg{name}"
    for name in (
        "1_desk",
        "1_plant",
        "1_room",
        "1_teddy",
        "2_desk",
        "2_dishes",
        "2_large_no_loop",
        "3_cabinet",
        "3_long_office_household",
        "3_nostructure_notexture_far",
        "3_nostructure_texture_far",
        "3_structure_notexture_far",
        "3_structure_texture_far",
    )
)


CALIBRATIONS = {
    "freiburg1": Camera((517.3, 516.5, 318.6, 255.3), (0.2624, -0.9531, -0.0054, 0.0026, 1.1633)),
    "freiburg2": Camera((520.9, 521.0, 325.1, 249.7), (0.2312, -0.7849, -0.0033, -0.0001, 0.9172)),
    "freiburg3": Camera((535.4, 539.2, 320.1, 247.6)),  # rectified by its makers
}


@dataclass(frozen=True)
class TumRgbd(Dataset):
    """TUM RGB-D."""

    published: bool
    options: TumRgbdOptions
    title = "TUM RGB-D"

    def find(self, root: Path) -> list[SceneInput]:
        """Return the folder itself if it is a sequence, or else the sequences in it."""
        folders = [list_file.parent for list_file in sorted([*root.glob("rgb.txt"), *root.glob("*/rgb.txt")])]
        if self.published:
            folders = [folder for folder in folders if folder.resolve().name in PUBLISHED_SCENES]
        if not folders:
            wanted = " of the 13 published sequences" if self.published else ""
            raise DataError(
                f"{root} holds no TUM RGB-D sequence{wanted}: looked for rgb.txt in it and in its subfolders"
            )
        return [SceneInput(folder.resolve().name, folder) for folder in folders]

    def open(self, scene: SceneInput) -> Scene:
        """Open a sequence."""
        if self.published:
            return FileScene(PUBLISHED_K, _published_frames(scene.path), _cut_to_mm)
        camera = self._camera(scene.name)
        frames = _frames(scene.path, round(self.options.max_gap_ms * MILLISECOND_NS))
        return FileScene(
            camera.K,
            frames,
            convert_depth=lambda depth: _undistort(camera, cv2.INTER_NEAREST, _round_to_mm(depth)),
            convert_image=partial(_undistort, camera, cv2.INTER_LINEAR),
            in_view=partial(_in_view, camera),
        )

    def _camera(self, name: str) -> Camera:
        if self.options.intrinsics is not None:
            return Camera(self.options.intrinsics, self.options.distortion or ())
        for name_part, camera in CALIBRATIONS.items():
            if name_part in name:
                return camera
        raise DataError(
            f"no calibration for {name}: its name must hold one of {', '.join(CALIBRATIONS)}."
            " Otherwise give --intrinsics FX FY CX CY"
        )


def _frames(folder: Path, max_gap_ns: int) -> list[FrameFiles | SkippedFrame]:
    image_stamps_ns, images = read_stamped_lines(folder / "rgb.txt", 2)
    depth_stamps_ns, depths = read_stamped_lines(folder / "depth.txt", 2)
    poses = read_trajectory(folder / "groundtruth.txt").interpolate(image_stamps_ns, max_gap_ns)
    frames: list[FrameFiles | SkippedFrame] = []
    partners = pair(image_stamps_ns, depth_stamps_ns, max_gap_ns)
    for stamp_ns, (image,), partner, world_T_cam in zip(image_stamps_ns, images, partners, poses, strict=True):
        if partner < 0:
            why = f"no depth image within {max_gap_ns / MILLISECOND_NS:g} ms"
            frames.append(FrameFiles(folder / image, None, world_T_cam, int(stamp_ns), why))
        else:
            frames.append(FrameFiles(folder / image, folder / depths[partner][0], world_T_cam, int(stamp_ns)))
    return frames


def _published_frames(folder: Path) -> list[FrameFiles | SkippedFrame]:
    images, image_times = _sorted_with_times(folder, "rgb")
    depths, depth_times = _sorted_with_times(folder, "depth")
    path = folder / "groundtruth.txt"
    recorded = np.array(read_rows(path, 8)).reshape(-1, 8)
    poses = poses_of(rotations_of(recorded[:, 4:], path), recorded[:, 1:4])
    # Floating point seconds, the earlier one at a tie: their rounding decides which of two is nearer.
    nearest_images = [int(np.argmin(np.abs(image_times - time))) for time in depth_times]
    nearest_poses = [int(np.argmin(np.abs(recorded[:, 0] - time))) for time in depth_times]
    return [
        FrameFiles(images[image], depth, poses[pose])
        for depth, image, pose in zip(depths, nearest_images, nearest_poses, strict=True)
    ]


def _sorted_with_times(folder: Path, kind: str) -> tuple[list[Path], np.ndarray]:
    files = sorted((folder / kind).glob("*.png"))
    lines = read_words(folder / f"{kind}.txt", 2)
    if not lines or len(files) != len(lines):
        raise DataError(
            f"{folder / kind} must hold one png a line of {kind}.txt; got {len(files)} for {len(lines)} lines"
        )
    times = [to_numbers([seconds], f"{folder / kind}.txt, line {number}")[0] for number, (seconds, _) in lines]
    return files, np.array(times)


def _round_to_mm(depth: np.ndarray) -> np.ndarray:
    return ((depth.astype(np.uint32) + DEPTH_UNITS_PER_MM // 2) // DEPTH_UNITS_PER_MM).astype(np.uint16)


def _cut_to_mm(depth: np.ndarray) -> np.ndarray:
    return depth // np.uint16(DEPTH_UNITS_PER_MM)


def _undistort(camera: Camera, interpolation: int, image: np.ndarray) -> np.ndarray:
    """Straighten an image and keep its K: colour linearly, depth by the nearest pixel so that none is invented."""
    if not camera.distorted:
        return image
    maps = pinhole_maps(camera, tuple(camera.K.ravel()), image.shape[:2])
    return cv2.remap(image, *maps, interpolation, borderMode=cv2.BORDER_CONSTANT)


@lru_cache(maxsize=1)
def _in_view(camera: Camera, size: tuple[int, int]) -> np.ndarray | None:
    """The pixels (H, W) of straightened images that the lens shows; None for all."""
    if not camera.distorted:
        return None
    in_view = within(pinhole_maps(camera, tuple(camera.K.ravel()), size), size)
    return None if in_view.all() else in_view
