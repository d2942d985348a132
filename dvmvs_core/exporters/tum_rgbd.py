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

from dvmvs_core.data.lens.camera_info import Lens
from dvmvs_core.data.lens.rectification import undistort_maps, within
from dvmvs_core.data.text_lines import to_numbers
from dvmvs_core.errors import DataError
from dvmvs_core.exporters.export_options import TumRgbdOptions
from dvmvs_core.exporters.file_scene import FileScene, FrameFiles
from dvmvs_core.exporters.raw_frames import Dataset, Scene, SceneInput, SkippedFrame
from dvmvs_core.exporters.stamps import MILLISECOND_NS, pair, read_stamped_lines
from dvmvs_core.exporters.text_files import read_rows, read_words
from dvmvs_core.exporters.trajectory_files import Trajectory, poses_of, rotations_of

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


@dataclass(frozen=True)
class Calibration:
    """A pinhole camera with lens distortion.

    Attributes:
        intrinsics: fx, fy, cx, cy.
        distortion: k1, k2, p1, p2, k3 of OpenCV.
    """

    intrinsics: tuple[float, float, float, float]
    distortion: tuple[float, float, float, float, float] = (0.0, 0.0, 0.0, 0.0, 0.0)

    @property
    def K(self) -> np.ndarray:
        """The intrinsics (3, 3)."""
        fx, fy, cx, cy = self.intrinsics
        return np.array(((fx, 0.0, cx), (0.0, fy, cy), (0.0, 0.0, 1.0)))


CALIBRATIONS = {
    "freiburg1": Calibration((517.3, 516.5, 318.6, 255.3), (0.2624, -0.9531, -0.0054, 0.0026, 1.1633)),
    "freiburg2": Calibration((520.9, 521.0, 325.1, 249.7), (0.2312, -0.7849, -0.0033, -0.0001, 0.9172)),
    "freiburg3": Calibration((535.4, 539.2, 320.1, 247.6)),  # rectified by its makers
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
        calibration = self._calibration(scene.name)
        frames = _frames(scene.path, round(self.options.max_gap_ms * MILLISECOND_NS))
        return FileScene(
            calibration.K,
            frames,
            convert_depth=lambda depth: _undistort(calibration, cv2.INTER_NEAREST, _round_to_mm(depth)),
            convert_image=partial(_undistort, calibration, cv2.INTER_LINEAR),
            in_view=partial(_in_view, calibration),
        )

    def _calibration(self, name: str) -> Calibration:
        if self.options.intrinsics is not None:
            return Calibration(self.options.intrinsics, self.options.distortion or (0.0, 0.0, 0.0, 0.0, 0.0))
        for camera, calibration in CALIBRATIONS.items():
            if camera in name:
                return calibration
        raise DataError(
            f"no calibration for {name}: its name must hold one of {', '.join(CALIBRATIONS)}."
            " Otherwise give --intrinsics FX FY CX CY"
        )


def _frames(folder: Path, max_gap_ns: int) -> list[FrameFiles | SkippedFrame]:
    image_stamps_ns, images = read_stamped_lines(folder / "rgb.txt", 2)
    depth_stamps_ns, depths = read_stamped_lines(folder / "depth.txt", 2)
    poses = _read_trajectory(folder / "groundtruth.txt").interpolate(image_stamps_ns, max_gap_ns)
    frames: list[FrameFiles | SkippedFrame] = []
    partners = pair(image_stamps_ns, depth_stamps_ns, max_gap_ns)
    for stamp_ns, (image,), partner, world_T_cam in zip(image_stamps_ns, images, partners, poses, strict=True):
        if partner < 0:
            why = f"no depth image within {max_gap_ns / MILLISECOND_NS:g} ms"
            frames.append(FrameFiles(folder / image, None, world_T_cam, int(stamp_ns), why))
        else:
            frames.append(FrameFiles(folder / image, folder / depths[partner][0], world_T_cam, int(stamp_ns)))
    return frames


def _read_trajectory(path: Path) -> Trajectory:
    stamps_ns, lines = read_stamped_lines(path, 8)
    numbers = np.array([to_numbers(words, str(path)) for words in lines])
    return Trajectory(stamps_ns, numbers[:, :3], numbers[:, 3:], path)


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


def _undistort(calibration: Calibration, interpolation: int, image: np.ndarray) -> np.ndarray:
    """Straighten an image and keep its K: colour linearly, depth by the nearest pixel so that none is invented."""
    if not any(calibration.distortion):
        return image
    maps = _undistortion_maps(calibration, image.shape[1::-1])
    return cv2.remap(image, *maps, interpolation, borderMode=cv2.BORDER_CONSTANT)


@lru_cache(maxsize=1)
def _in_view(calibration: Calibration, size: tuple[int, int]) -> np.ndarray | None:
    """The pixels (H, W) of straightened images that the lens shows; None for all."""
    if not any(calibration.distortion):
        return None
    in_view = within(_undistortion_maps(calibration, size[::-1]), size)
    return None if in_view.all() else in_view


@lru_cache(maxsize=1)
def _undistortion_maps(calibration: Calibration, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    lens = Lens("plumb_bob", calibration.K, np.array(calibration.distortion), np.eye(3))
    return undistort_maps(lens, calibration.K, size[::-1])
