# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.


"""transforms.json of nerfstudio and Instant-NGP: camera-to-world with OpenGL axes, intrinsics of all or of each frame.

Pixel centres are at halves there, so that the principal point is half a pixel less in ours. Sources: nerfstudio's page
on data conventions; Instant-NGP's nerf_dataset_tips.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from dvmvs_core.data.encodings.image_size import encoded_size
from dvmvs_core.data.file_order import natural_key
from dvmvs_core.data.scene_folder import read_image
from dvmvs_core.errors import DataError
from dvmvs_core.foreign import foreign, quoted
from dvmvs_core.importers.dataset import Dataset, Scene, SceneInput, SkippedFrame
from dvmvs_core.importers.files import numbers_of, read_bounded, read_json, read_raw_depth
from dvmvs_core.importers.formats import TransformsOptions
from dvmvs_core.importers.posed_scene import (
    OPENCV_FROM_OPENGL,
    Camera,
    PosedImage,
    PosedScene,
    check_pose_matrix,
)

FILE = "transforms.json"
POLYNOMIAL = ("k1", "k2", "p1", "p2", "k3")
FISHEYE = ("k1", "k2", "k3", "k4")
PERSPECTIVE = ("OPENCV", "RADIAL", "SIMPLE_RADIAL", "PINHOLE", "SIMPLE_PINHOLE")
DEPTH_UNIT_M = 0.001


@dataclass(frozen=True)
class TransformsJson(Dataset):
    """Recordings with a transforms.json."""

    published: bool
    options: TransformsOptions
    title = "transforms.json"

    def find(self, root: Path) -> list[SceneInput]:
        """Return the given file, or those in a folder and its subfolders."""
        files = [root] if root.is_file() else sorted([*root.glob(FILE), *root.glob(f"*/{FILE}")])
        if not files:
            raise DataError(f"{root} holds no {FILE}: looked in it and in its subfolders")
        return [SceneInput(file.resolve().parent.name, file) for file in files]

    def open(self, scene: SceneInput) -> Scene:
        """Read the file; images are read when they are wanted."""
        content = read_json(scene.path)
        entries = content.get("frames")
        if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
            raise DataError(f"{scene.path} must hold a list of frames; got {quoted(entries)}")
        entries = sorted(entries, key=lambda entry: natural_key(str(entry.get("file_path", ""))))
        return PosedScene([self._frame(scene.path.parent, content, entry) for entry in entries])

    def _frame(self, folder: Path, content: dict, entry: dict) -> PosedImage | SkippedFrame:
        name = str(entry.get("file_path", "a frame"))
        try:
            path = folder / name
            if "file_path" not in entry:
                raise DataError("it names no image as file_path")
            if not path.suffix:
                path = path.with_suffix(".png")  # as the first NeRF data sets have it
            if not path.is_file():
                raise DataError(f"there is no {path}")
            camera = _camera({**content, **entry}, path)
            world_T_cam = check_pose_matrix(entry.get("transform_matrix"), f"transform_matrix of {name}")
            world_T_cam[:3, 3] *= self.options.scale
            if self.options.axes == "opengl":
                world_T_cam = world_T_cam @ OPENCV_FROM_OPENGL
        except DataError as error:
            return SkippedFrame(name, str(error))
        read_depth = None
        if entry.get("depth_file_path"):
            (unit_m,) = numbers_of([content.get("depth_unit_scale_factor", DEPTH_UNIT_M)], 1, "depth_unit_scale_factor")
            read_depth = partial(_depth, folder / str(entry["depth_file_path"]), unit_m)
        return PosedImage(name, partial(read_image, path), camera, world_T_cam, read_depth=read_depth)


def _depth(path: Path, unit_m: float) -> np.ndarray:
    return read_raw_depth(path) * unit_m


def _camera(values: dict, image: Path) -> Camera:
    """The camera that the file, or the frame, says."""
    place = f"intrinsics of {image.name}"
    if "fl_x" in values:
        fx, cx, cy = numbers_of([values.get(key) for key in ("fl_x", "cx", "cy")], 3, f"{place}: fl_x, cx, cy")
        (fy,) = numbers_of([values.get("fl_y", fx)], 1, f"{place}: fl_y")
    elif "camera_angle_x" in values:
        height, width = _size(image)
        (angle,) = numbers_of([values["camera_angle_x"]], 1, f"{place}: camera_angle_x")
        fx = fy = 0.5 * width / np.tan(0.5 * angle)
        cx, cy = width / 2, height / 2
    else:
        raise DataError(f"{place}: neither fl_x nor camera_angle_x is given, for all frames or for this one")
    model = str(values.get("camera_model", "OPENCV"))
    fisheye = model == "OPENCV_FISHEYE" or bool(values.get("is_fisheye"))
    if not fisheye and model not in PERSPECTIVE:
        raise DataError(f"camera_model must be OPENCV_FISHEYE, {', '.join(PERSPECTIVE)}; got {quoted(model)}")
    if not fisheye and values.get("k4"):
        raise DataError(f"{place}: k4 is of a fisheye alone (camera_model OPENCV_FISHEYE); got {quoted(values['k4'])}")
    keys = FISHEYE if fisheye else POLYNOMIAL
    coefficients = tuple(numbers_of([values.get(key, 0.0) for key in keys], len(keys), f"{place}: {', '.join(keys)}"))
    size = None
    if "w" in values and "h" in values:
        width, height = numbers_of((values["w"], values["h"]), 2, f"{place}: w, h")
        size = (round(width), round(height))
    return Camera((fx, fy, cx - 0.5, cy - 0.5), coefficients, "equidistant" if fisheye else "plumb_bob", size)


def _size(image: Path) -> tuple[int, int]:
    with foreign(f"{image} cannot be read"):
        return encoded_size(memoryview(read_bounded(image)))
