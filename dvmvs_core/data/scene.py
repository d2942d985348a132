# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Scene folders in the published layout.

images/*.png or *.jpg (in sorted order), depth/*.png (uint16 millimetres, 0 = invalid, optional),
poses.txt (camera-to-world, 16 numbers a line), K.txt (3 lines of 3 numbers), stamps.txt (seconds, one a
line, optional).

A frame that cannot be read does not end a run: it is left out and named in `faults`, unless nothing is left. What
concerns the whole folder (no K, lines that are missing, stamps that go back, depth of another size) is an error.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path

import cv2
import numpy as np

from dvmvs_core.data.image_message import MILLIMETRES_TO_METRES
from dvmvs_core.data.image_size import decode_encoded
from dvmvs_core.data.sequence import DepthItem, PoseItem, Sequence, SequenceItem
from dvmvs_core.data.text_lines import read_lines, seconds_to_ns, to_numbers
from dvmvs_core.errors import DataError
from dvmvs_core.foreign import foreign, quoted
from dvmvs_core.geometry import is_finite_pose
from dvmvs_core.types import Frame, check_intrinsics, check_pose

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")

FRAMES_PER_SECOND = 30
"""Taken where a scene has no stamps.txt."""

FIRST_STAMP_NS = 1_000_000_000
"""Stamp of the first image where a scene has no stamps.txt: not 0, which ROS reads as "no time given"."""

MILLIMETRES = 1000.0

LARGEST_FILE = 1 << 29
"""Bytes of an image file that are read at most: more than 64 million pixels of eight bytes take."""

UNREADABLE = "cannot be read"
"""Reason in `dropped` of an image that is damaged."""


class SceneSequence(Sequence):
    """A scene folder.

    Args:
        path: the folder.

    Attributes:
        K: (3, 3) float64 intrinsics of every image.

    Raises:
        DataError: if a part is missing, or has another number of entries than there are images, or cannot be what it
            should be throughout.
    """

    def __init__(self, path: Path) -> None:
        self._images = _sorted_files(path / "images", IMAGE_SUFFIXES)
        if not self._images:
            raise DataError(f"{path / 'images'} must hold the images as png or jpg; found none")
        self._depths = _pair_depths(path / "depth", self._images)
        super().__init__(path, has_depth=any(self._depths))
        self.K = read_intrinsics(path / "K.txt")
        self._poses = read_poses(path / "poses.txt", self.faults)
        _check_count(path / "poses.txt", len(self._poses), len(self._images))
        self._stamps_ns = self._read_stamps(path / "stamps.txt")

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._images)

    def poses(self) -> Iterator[PoseItem]:
        """Yield the poses without opening any image."""
        for i, image in enumerate(self._images):
            yield PoseItem(i, image.name, self._stamps_ns[i], self._poses[i])

    def items(self, depth: bool = True) -> Iterator[SequenceItem]:
        """Yield the frames whose images can be read.

        Raises:
            DataError: if no image can be read, or depth has another size than its image.
        """
        self.dropped.clear()
        for i, path in enumerate(self._images):
            try:
                image = read_image(path)
            except DataError as error:
                self.dropped[UNREADABLE] += 1
                self.unreadable.add(i)
                self._blame(path, error)
                continue
            frame = Frame(image, self.K, self._poses[i], self._stamps_ns[i], i)
            yield SequenceItem(frame, path.name, self._read_depth(i, image.shape[:2]) if depth else None)
        if self.dropped[UNREADABLE] == len(self):
            raise self._all_unreadable()

    def sensor_depths(self, indices: Collection[int]) -> Iterator[DepthItem]:
        """Yield the sensor depth of the images with these indices, where it can be read.

        Raises:
            DataError: if depth has another size than the images, which share one size as they share one K.
        """
        size = None
        for i in sorted(set(indices)):
            size = size or self._image_size()
            sensor_depth = self._read_depth(i, size)
            if sensor_depth is not None:
                yield DepthItem(i, self.K, sensor_depth)

    def _image_size(self) -> tuple[int, int]:
        """The size (H, W) of the first image that can be read."""
        for path in self._images:
            try:
                return read_image(path).shape[:2]
            except DataError as error:
                self._blame(path, error)
        raise self._all_unreadable()

    def _all_unreadable(self) -> DataError:
        first = self.faults[f"images/{self._images[0].name}"]
        return DataError(f"{self.path}: none of {len(self)} images can be read; the first: {first}")

    def _read_depth(self, index: int, size: tuple[int, int]) -> np.ndarray | None:
        """Sensor depth of one image; None where the scene has none, or where it is missing or cannot be read."""
        path = self._depths[index]
        if path is None:
            if self.has_depth:
                image = self._images[index].name
                self.faults[f"depth/{Path(image).stem}.png"] = f"there is no sensor depth of images/{image}"
            return None
        try:
            sensor_depth = read_depth(path)
        except DataError as error:
            self._blame(path, error)
            return None
        if sensor_depth.shape != size:
            raise DataError(
                f"{path} must have the size of its image, {_size(size)}; got {_size(sensor_depth.shape)}."
                " Register depth to the colour camera first"
            )
        return sensor_depth

    def _blame(self, path: Path, error: DataError) -> None:
        self.faults[path.relative_to(self.path).as_posix()] = str(error)

    def _read_stamps(self, path: Path) -> list[int]:
        if not path.exists():
            return [FIRST_STAMP_NS + round(i * 1e9 / FRAMES_PER_SECOND) for i in range(len(self))]
        stamps_ns = []
        for line, words in _read_words(path):
            stamp_ns = seconds_to_ns(words[0])
            if stamp_ns is None:
                raise DataError(f"{path}, line {line} must be a time in seconds; got {quoted(words[0])}")
            stamps_ns.append(stamp_ns)
        _check_count(path, len(stamps_ns), len(self))
        for line, (earlier, later) in enumerate(zip(stamps_ns, stamps_ns[1:], strict=False), start=2):
            if later <= earlier:
                raise DataError(
                    f"{path}, line {line}: stamps must increase; got {later / 1e9} s after {earlier / 1e9} s"
                )
        return stamps_ns


def read_intrinsics(path: Path) -> np.ndarray:
    """Read K (3, 3) float64 from a text file of three lines.

    Raises:
        DataError: if the file is missing, or does not hold intrinsics.
    """
    rows = [_numbers(words, None, f"{path}, line {line}") for line, words in _read_words(path)]
    lengths = [len(row) for row in rows]
    if lengths != [3, 3, 3]:
        raise DataError(f"{path} must hold 3 lines of 3 numbers; got {len(rows)} lines of {quoted(lengths)} numbers")
    with foreign(str(path)):
        return check_intrinsics(np.array(rows))


def read_poses(path: Path, faults: dict[str, str] | None = None) -> np.ndarray:
    """Read camera-to-world poses (N, 4, 4) float64, one flattened matrix a line.

    Files hold a few digits only, so their rotations are orthonormal to about 1e-5. Each is replaced by the
    nearest exact rotation (largest change on the HoloLens sample scene: 4e-6), so that a pose is the same whether
    it is read here or comes as a quaternion through a bag or TF. Poses with NaN or infinity mean lost tracking
    and are kept as they are.

    Args:
        path: the file.
        faults: gets "FILE, line N" → what is wrong with that line, whose pose then counts as lost. Without it, and
            where no line is any good, that is an error.

    Raises:
        DataError: if the file is missing, a line does not hold 16 numbers, or they are not a rigid transform.
    """
    poses, errors = [], []
    for line, words in _read_words(path):
        try:
            world_T_cam = _pose(words, f"{path}, line {line}")
        except DataError as error:
            if faults is None:
                raise
            errors.append(error)
            faults[f"{path.name}, line {line}"] = str(error)
            world_T_cam = np.full((4, 4), np.nan)
        else:
            if faults is not None and not is_finite_pose(world_T_cam):
                faults[f"{path.name}, line {line}"] = "the pose is not finite: tracking was lost"
        poses.append(world_T_cam)
    if errors and len(errors) == len(poses):
        raise errors[0]
    return np.array(poses).reshape(-1, 4, 4)


def _pose(words: list[str], place: str) -> np.ndarray:
    """The pose that the words of a line say."""
    numbers = _numbers(words, 16, place)
    with foreign(place):
        world_T_cam = check_pose(np.array(numbers).reshape(4, 4))
        return _exact(world_T_cam) if is_finite_pose(world_T_cam) else world_T_cam


def read_image(path: Path) -> np.ndarray:
    """Read an image as (H, W, 3) uint8 RGB.

    Raises:
        DataError: if the file is missing, truncated or not an image.
    """
    return cv2.cvtColor(decode_image(path, cv2.IMREAD_COLOR, "an 8-bit image"), cv2.COLOR_BGR2RGB)


def read_depth(path: Path) -> np.ndarray:
    """Read depth as (H, W) float32 metres, 0 = invalid.

    Raises:
        DataError: if the file is missing, truncated or not a one-channel 16-bit image.
    """
    millimetres = decode_image(path, cv2.IMREAD_UNCHANGED, "a 16-bit depth image")
    if millimetres.dtype != np.uint16 or millimetres.ndim != 2:
        raise DataError(
            f"{path} must be a one-channel uint16 image of millimetres; got {millimetres.dtype} of shape"
            f" {millimetres.shape}"
        )
    return MILLIMETRES_TO_METRES[millimetres]


def decode_image(path: Path, flags: int, expected: str) -> np.ndarray:
    """Decode a png or jpg file.

    Args:
        path: the file.
        flags: how cv2.imdecode should do it.
        expected: what it should be, for the message.

    Raises:
        DataError: if it is missing, cut off or damaged.
    """
    with foreign(f"{path} cannot be read"), path.open("rb") as file:
        data = file.read(LARGEST_FILE + 1)
    if not _is_whole(data):
        raise DataError(f"{path} must be {expected}; it ends early or is no png or jpg. Copy it again")
    with foreign(f"{path} must be {expected}", advice=". Copy it again"):
        return decode_encoded(data, flags)


def _is_whole(data: bytes) -> bool:
    """Whether a file ends as its format must: some decoders fill up a cut-off image with grey without a word."""
    if data.startswith(b"\x89PNG"):
        return b"IEND" in data[-64:]
    if data.startswith(b"\xff\xd8"):
        return b"\xff\xd9" in data[-1024:]
    return False


def _sorted_files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(folder / entry.name for entry in os.scandir(folder) if Path(entry.name).suffix.lower() in suffixes)


def _pair_depths(folder: Path, images: list[Path]) -> list[Path | None]:
    """The depth file of each image: by name, or by order where no name agrees (published scenes go by order alone)."""
    files = _sorted_files(folder, (".png",))
    by_stem = {file.stem: file for file in files}
    paired = [by_stem.get(image.stem) for image in images]
    if files and not any(paired):
        if len(files) != len(images):
            raise DataError(
                f"{folder} must hold one depth image an image, with the same name; got {len(files)} for"
                f" {len(images)} images, and no name agrees"
            )
        return list(files)
    return paired


def _numbers(words: list[str], count: int | None, place: str) -> list[float]:
    """The numbers of a line, `count` of them if given."""
    numbers = to_numbers(words, place)
    if count is not None and len(numbers) != count:
        raise DataError(f"{place} must hold {count} numbers; got {len(numbers)}")
    return numbers


def _read_words(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The number of each line that is not empty, and its words."""
    for line, content in read_lines(path, "must be a text file of numbers"):
        if words := content.replace(",", " ").split():
            yield line, words


def _check_count(path: Path, count: int, images: int) -> None:
    if count != images:
        missing = "lines are missing" if count < images else "images are missing"
        raise DataError(f"{path} must hold one line an image; got {count} lines for {images} images: {missing}")


def _exact(world_T_cam: np.ndarray) -> np.ndarray:
    """The pose with the nearest rotation, by the polar decomposition."""
    left, _, right = np.linalg.svd(world_T_cam[:3, :3])
    exact = world_T_cam.copy()
    exact[:3, :3] = left @ right
    return exact


def _size(size: tuple[int, int]) -> str:
    return f"{size[1]}×{size[0]}"
