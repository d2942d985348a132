# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.


"""COLMAP models, text or binary, with their images; metres by a scale that must be given, since the model has none.

Poses are world-to-camera, x right, y down, z forward, quaternions w first; pixel centres are at halves.
Source: COLMAP's pages on its output format and its camera models.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from dvmvs_core.data.file_order import natural_key
from dvmvs_core.data.scene_folder import read_image
from dvmvs_core.data.text_lines import read_words, to_numbers
from dvmvs_core.errors import DamagedError, DataError
from dvmvs_core.foreign import foreign, quoted, regular
from dvmvs_core.geometry import inverse_pose
from dvmvs_core.importers.dataset import Dataset, Scene, SceneInput, SkippedFrame
from dvmvs_core.importers.formats import ColmapOptions
from dvmvs_core.importers.posed_scene import Camera, PosedImage, PosedScene, rigid
from dvmvs_core.importers.timed_poses import rotations_of

PLACES = (".", "sparse", "sparse/0", "colmap/sparse/0", "dense/sparse", "dense/0/sparse")


@dataclass(frozen=True)
class Colmap(Dataset):
    """COLMAP models."""

    published: bool
    options: ColmapOptions
    title = "COLMAP"

    def find(self, root: Path) -> list[SceneInput]:
        """Return the model in a folder, or in the usual folders below it."""
        found = [
            root / place
            for place in PLACES
            if any((root / place / f"images.{suffix}").exists() for suffix in ("bin", "txt"))
        ]
        # A workspace may hold the model of images that are not with it, and that of the undistorted ones that are.
        found.sort(key=lambda folder: self.options.images is None and _images_of(folder, root) is None)
        if found:
            if found[0] != root:
                _check_alone(found[0])
            return [SceneInput(root.resolve().name, found[0])]
        raise DataError(f"{root} holds no COLMAP model: looked for images.bin and images.txt in {', '.join(PLACES)}")

    def open(self, scene: SceneInput) -> Scene:
        """Read the model; images are read when they are wanted."""
        cameras, images = read_model(scene.path)
        folder = self._image_folder(scene.path)
        ordered = sorted(images, key=lambda image: natural_key(image.name))
        return PosedScene([self._frame(folder, cameras, image) for image in ordered])

    def _image_folder(self, model: Path) -> Path:
        if self.options.images is not None:
            return self.options.images
        folder = _images_of(model, model.resolve().parents[2])
        if folder is not None:
            return folder
        raise DataError(f"there is no folder images/ next to {model} or above it: name it with --images")

    def _frame(self, folder: Path, cameras: dict[int, Camera], image: ColmapImage) -> PosedImage | SkippedFrame:
        path = folder / image.name
        if image.camera_id not in cameras:
            return SkippedFrame(image.name, f"the model has no camera {image.camera_id}")
        if not path.is_file():
            return SkippedFrame(image.name, f"there is no {path}")
        world_T_cam = image.world_T_cam.copy()
        world_T_cam[:3, 3] *= self.options.scale
        return PosedImage(image.name, partial(read_image, path), cameras[image.camera_id], world_T_cam)


def _check_alone(model: Path) -> None:
    """Refuse one of the models that COLMAP makes of images that it cannot join: another may be the one that is meant.

    Raises:
        DataError: if there are others next to it.
    """
    if model.name != "0":
        return
    models = sorted({path.parent.name for ending in ("bin", "txt") for path in model.parent.glob(f"*/images.{ending}")})
    if len(models) > 1:
        raise DataError(
            f"{model.parent} holds {len(models)} models ({', '.join(models)}), each with axes and a scale of its own:"
            " name the folder of one as IN"
        )


def _images_of(model: Path, top: Path) -> Path | None:
    """The folder of images next to a model or above it, not above the folder `top`."""
    for place in (model.resolve(), *model.resolve().parents):
        if (place / "images").is_dir():
            return place / "images"
        if place == top.resolve():
            break
    return None


LONGEST_NAME = 4096
"""Characters of an image's name."""

_LENSES = {
    "SIMPLE_PINHOLE": (0, 1, (), "plumb_bob"),
    "PINHOLE": (1, 2, (), "plumb_bob"),
    "SIMPLE_RADIAL": (2, 1, ("k1",), "plumb_bob"),
    "RADIAL": (3, 1, ("k1", "k2"), "plumb_bob"),
    "OPENCV": (4, 2, ("k1", "k2", "p1", "p2"), "plumb_bob"),
    "OPENCV_FISHEYE": (5, 2, ("k1", "k2", "k3", "k4"), "equidistant"),
    "FULL_OPENCV": (6, 2, ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6"), "rational_polynomial"),
    "SIMPLE_RADIAL_FISHEYE": (8, 1, ("k1",), "equidistant"),
    "RADIAL_FISHEYE": (9, 1, ("k1", "k2"), "equidistant"),
}
"""Model → its number in binary files, its focal lengths, its coefficients, and our name of their polynomial."""

_BY_NUMBER = {number: name for name, (number, *_) in _LENSES.items()}


class ColmapImage(NamedTuple):
    """An image of a model: its name, its camera, and world_T_cam (4, 4) in the units of the model."""

    name: str
    camera_id: int
    world_T_cam: np.ndarray


def read_model(folder: Path) -> tuple[dict[int, Camera], list[ColmapImage]]:
    """Return the cameras by their id, and the images.

    Args:
        folder: with cameras and images, .bin or .txt.

    Raises:
        DataError: if one is missing or broken.
    """
    if (folder / "images.bin").exists():
        cameras, images = _read_cameras_bin(folder / "cameras.bin"), _read_images_bin(folder / "images.bin")
    else:
        cameras, images = _read_cameras_txt(folder / "cameras.txt"), _read_images_txt(folder / "images.txt")
    if not images:
        raise DataError(f"{folder} holds no image with a pose")
    return cameras, images


def _camera(model: str, parameters: list[float], size: tuple[int, int], place: str) -> Camera:
    if model not in _LENSES:
        raise DataError(
            f"{place}: the camera model must be one of {', '.join(_LENSES)}; got {quoted(model)}."
            " Undistort the images first: colmap image_undistorter"
        )
    _, focals, names, kind = _LENSES[model]
    if len(parameters) != focals + 2 + len(names):
        raise DataError(f"{place}: {model} has {focals + 2 + len(names)} parameters; got {len(parameters)}")
    fx, fy = parameters[0], parameters[focals - 1]
    cx, cy = parameters[focals : focals + 2]
    given = parameters[focals + 2 :]
    coefficients = tuple([*given, *[0.0] * (max(4, len(given)) - len(given))]) if names else ()
    return Camera((fx, fy, cx - 0.5, cy - 0.5), coefficients, kind, size)


def _image(numbers: list[float], camera_id: int, name: str, path: Path) -> ColmapImage:
    w, x, y, z, *translation = numbers
    cam_R_world = rotations_of(np.array([[x, y, z, w]]), path).as_matrix()[0]
    return ColmapImage(name, camera_id, inverse_pose(rigid(cam_R_world, np.array(translation))))


def _read_cameras_txt(path: Path) -> dict[int, Camera]:
    cameras = {}
    for number, words in read_words(path):
        place = f"{path}, line {number}"
        if len(words) < 5:
            raise DataError(f"{place} must hold an id, a model, a size and parameters; got {len(words)} words")
        size = _whole(words[2], place), _whole(words[3], place)
        cameras[_whole(words[0], place)] = _camera(words[1], to_numbers(words[4:], place), size, place)
    return cameras


def _read_images_txt(path: Path) -> list[ColmapImage]:
    images = []
    expected = True  # every second line lists the points of an image, and may be empty or of any length
    for number, line in _long_lines(path):
        if line.startswith("#"):
            continue
        if expected:
            words = line.split(maxsplit=9)
            if not words:
                continue
            place = f"{path}, line {number}"
            if len(words) != 10:
                raise DataError(f"{place} must hold an id, a pose of 7 numbers, a camera and a name")
            numbers = to_numbers(words[1:8], place)
            images.append(_image(numbers, _whole(words[8], place), words[9].strip(), path))
        expected = not expected
    return images


def _long_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines of a text, of which those of points may be long: only the beginning of each is kept."""
    with foreign(f"{path} cannot be read"), regular(path).open(encoding="utf-8-sig") as file:
        number, begin = 1, True
        while part := file.readline(LONGEST_NAME * 2):
            if begin:
                yield number, part
            begin = part.endswith("\n")
            number += begin


def _whole(word: str, place: str) -> int:
    if not word.isdecimal():
        raise DataError(f"{place}: ids and sizes must be whole numbers; got {quoted(word)}")
    return int(word)


def _read_cameras_bin(path: Path) -> dict[int, Camera]:
    cameras = {}
    with foreign(f"{path} cannot be read"), regular(path).open("rb") as file:
        (count,) = _unpack(file, "<Q")
        for _ in range(count):
            camera_id, model, *size = _unpack(file, "<IiQQ")
            name = _BY_NUMBER.get(model, f"number {model}")
            place = f"{path}, camera {camera_id}"
            if name not in _LENSES:
                _camera(name, [], (0, 0), place)
            _, focals, names, _ = _LENSES[name]
            parameters = list(_unpack(file, f"<{focals + 2 + len(names)}d"))
            cameras[camera_id] = _camera(name, parameters, tuple(size), place)
    return cameras


def _read_images_bin(path: Path) -> list[ColmapImage]:
    images = []
    with foreign(f"{path} cannot be read"), regular(path).open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        (count,) = _unpack(file, "<Q")
        for _ in range(count):
            _, *numbers, camera_id = _unpack(file, "<I7dI")
            name = _name(file)
            (points,) = _unpack(file, "<Q")
            if file.tell() + 24 * points > size:
                raise DamagedError(f"the points of {quoted(name)} reach beyond the end: the file was cut off")
            file.seek(24 * points, 1)
            images.append(_image(numbers, camera_id, name, path))
    return images


def _name(file: BinaryIO) -> str:
    name = bytearray()
    while (letter := file.read(1)) != b"\0":
        if not letter or len(name) == LONGEST_NAME:
            raise DamagedError("the name of an image has no end: the file is damaged")
        name += letter
    return name.decode()


def _unpack(file: BinaryIO, layout: str) -> tuple:
    size = struct.calcsize(layout)
    data = file.read(size)
    if len(data) < size:
        raise DamagedError("the file ends early: it was cut off")
    return struct.unpack(layout, data)
