# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Scene folders in the published layout.

images/*.png or *.jpg (in the order of their numbers), depth/*.png (uint16 millimetres, 0 = invalid, optional),
depth_scale.txt (units of these in a metre, if not 1000), poses.txt (camera-to-world, 16 numbers a line), K.txt (3 lines
of 3 numbers), mask.png (0 where images show nothing, optional), stamps.txt (seconds, or ms, µs or ns as the steps
between them tell; one a line, optional). Lines may end in a comment after #, and hidden files do not count.

Pixels are taken as they are stored, since K and poses are those of the sensor: EXIF orientation is not applied.

A frame or a depth image that cannot be read, or is of another size than the others, does not end a run: it is left out
and named in `faults`, unless nothing is left. What concerns the whole folder (no K, K of another resolution, lines that
are missing, stamps that go back, depth that is of another size throughout) is an error.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Collection, Iterator
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np

from dvmvs_core.data.encodings.bit_depth import BitDepth
from dvmvs_core.data.encodings.image_message import MILLIMETRES_TO_METRES, rgb_of
from dvmvs_core.data.encodings.image_size import asks_to_be_turned, decode_encoded, encoded_size
from dvmvs_core.data.file_order import held_kinds, order_note, ordered_files
from dvmvs_core.data.lens.camera_info import check_resolution, resolution_doubt
from dvmvs_core.data.lens.valid_mask import valid_pixels
from dvmvs_core.data.sequence import TRUE_DEPTH, DepthItem, FrameSequence, PoseItem, SequenceItem
from dvmvs_core.data.text_lines import read_lines, time_to_ns, time_unit, to_numbers
from dvmvs_core.errors import DataError
from dvmvs_core.foreign import foreign, quoted, regular
from dvmvs_core.geometry import is_finite_pose
from dvmvs_core.types import Frame, check_intrinsics, check_pose

logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")

FRAMES_PER_SECOND = 30
"""Taken where a scene has no stamps.txt."""

FIRST_STAMP_NS = 1_000_000_000
"""Stamp of the first image where a scene has no stamps.txt: not 0, which ROS reads as "no time given"."""

MILLIMETRES = 1000.0
"""Units of depth in a metre where a scene has no depth_scale.txt."""

DEPTH_SCALE = "depth_scale.txt"

MASK = "mask.png"
"""Image of the images' size that is 0 where none of them shows anything, as beyond a lens: no depth is given there."""

TUM_FILES, TUM_UNITS = ("groundtruth.txt", "rgb.txt", "depth.txt", "associations.txt"), 5000
"""What TUM RGB-D and tools that write its layout have next to their depth, and its units in a metre."""

LARGEST_FILE = 1 << 29
"""Bytes of an image file that are read at most: more than 64 million pixels of eight bytes take."""

UNREADABLE, ODD_SIZE = "cannot be read", "of another size"
"""Reasons in `dropped`: an image that is damaged, and one that K.txt is not of."""

POSE_FORMATS = {
    4: ", as of a 4×4 matrix over four lines. Write all of it on one line",
    7: ", as of a position and a quaternion. Write the 4×4 matrix of camera to world",
    8: ", as of a TUM trajectory (time, position, quaternion). Write the 4×4 matrix of camera to world",
    12: ", as of a 3×4 matrix. Add 0 0 0 1 to each line",
}
"""What lines of other lengths are, and what to do about them."""

SAMPLED = 9
"""Images whose headers are asked for the size that most have."""


RECORD = "export.json"
"""File of a scene that this package wrote, which says how it was made."""

RENDERED_BY = ("dvmvs synthesize", "examples/make_room.py")


class _OddSizeError(DataError):
    """An image is not of the size that its folder's K is of."""


class SceneSequence(FrameSequence):
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
        self._images = ordered_files(path / "images", IMAGE_SUFFIXES)
        if not self._images:
            held = held_kinds(path / "images")
            raise DataError(f"{path / 'images'} must hold the images as png or jpg; found none, but {held}")
        _check_stems(path / "images", self._images)
        depths = ordered_files(path / "depth", (".png",))
        self._depths = pair_depths(path / "depth", depths, self._images)
        super().__init__(path, has_depth=any(self._depths))
        if _is_rendered(path / RECORD):
            self.depth_name = TRUE_DEPTH
        self.K = read_intrinsics(path / "K.txt")
        self._poses = read_poses(path / "poses.txt", self.faults)
        _check_count(path / "poses.txt", len(self._poses), len(self._images), next(iter(self.faults.values()), ""))
        self._stamps_ns = self._read_stamps(path / "stamps.txt")
        self._size = self._common_size(self._images, "an image")
        self._note_orientation()
        if self._size is not None:
            with foreign(str(path / "K.txt")):
                check_resolution(self.K, self._size)
            self._note(f"{path / 'K.txt'}: {doubt}" if (doubt := resolution_doubt(self.K, self._size)) else "")
        self._note(order_note(self._images))
        if (path / "depth").is_dir() and not depths:
            held = held_kinds(path / "depth")
            self._note(f"{path / 'depth'} must hold depth as png of 16 bits, millimetres; none is read of {held}")
        self._units = self._read_depth_scale(path / DEPTH_SCALE)
        self._valid_mask = self._read_mask(path / MASK)

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
            DataError: if no image can be read, or most depth images are of another size than their images.
        """
        self.dropped.clear()
        bits = BitDepth(f"images of {self.path}")
        for i, path in enumerate(self._images):
            try:
                image = read_image(path, bits)
                self._check_size(path, image.shape[:2])
            except DataError as error:
                self.dropped[ODD_SIZE if isinstance(error, _OddSizeError) else UNREADABLE] += 1
                self.unreadable.add(i)
                self._blame(path, error)
                continue
            frame = Frame(image, self.K, self._poses[i], self._stamps_ns[i], i)
            sensor_depth = self._read_depth(i, image.shape[:2]) if depth else None
            yield SequenceItem(frame, path.name, sensor_depth, valid_mask=self._valid_mask)
        if self.dropped.total() == len(self):
            raise self._all_unreadable()

    def sensor_depths(self, indices: Collection[int]) -> Iterator[DepthItem]:
        """Yield the sensor depth of the images with these indices, where it can be read.

        Raises:
            DataError: if most depth images are of another size than the images, which share one size as they share one
                K.
        """
        for i in sorted(set(indices)):
            sensor_depth = self._read_depth(i, self._size) if self._size else None
            if sensor_depth is not None:
                yield DepthItem(i, self.K, sensor_depth)

    def _common_size(self, paths: list[Path], kind: str) -> tuple[int, int] | None:
        """The size (H, W) that most of some images have, by the headers of a few; None if none has one."""
        step = max(1, len(paths) // SAMPLED)
        sizes: Counter[tuple[int, int]] = Counter()
        for path in (*paths[::step], *paths):
            if sizes and sizes.total() >= min(SAMPLED, len(paths)):
                break
            try:
                with foreign(f"{path} cannot be read"):
                    sizes[encoded_size(memoryview(_read_whole(path, kind)))] += 1
            except DataError as error:
                self._blame(path, error)
        return sizes.most_common(1)[0][0] if sizes else None

    def _note_orientation(self) -> None:
        for path in self._images:
            try:
                with foreign(f"{path} cannot be read"):
                    turned = asks_to_be_turned(_read_whole(path, "an image"))
            except DataError:
                continue
            if turned:
                self._note(
                    f"{path} asks in EXIF to be turned or mirrored, which is not done: K and poses must be those of"
                    " the pixels as they are stored"
                )
            return

    @cached_property
    def _depth_size(self) -> tuple[int, int] | None:
        return self._common_size([path for path in self._depths if path], "a 16-bit depth image")

    def _check_size(self, path: Path, size: tuple[int, int]) -> None:
        self._size = self._size or size
        if size != self._size:
            raise _OddSizeError(
                f"{path} must have the size of the other images, {_size(self._size)}, whose K is in K.txt; got"
                f" {_size(size)}. Put images of each size into a folder with a K.txt of their own"
            )

    def _note(self, note: str) -> None:
        if note:
            self.notes.append(note)
            logger.warning(note)

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
            sensor_depth = read_depth(path, self._units)
        except DataError as error:
            self._blame(path, error)
            return None
        if sensor_depth.shape == size:
            return sensor_depth
        error = DataError(
            f"{path} must have the size of its image, {_size(size)}; got {_size(sensor_depth.shape)}."
            " Register depth to the colour camera first"
        )
        if sensor_depth.shape == self._depth_size:
            raise error
        self._blame(path, error)
        return None

    def _blame(self, path: Path, error: DataError) -> None:
        self.faults[path.relative_to(self.path).as_posix()] = str(error)

    def _read_depth_scale(self, path: Path) -> float:
        """Units of the depth images in a metre."""
        if not path.exists():
            found = [name for name in TUM_FILES if (self.path / name).exists()]
            if found and self.has_depth:
                self._note(
                    f"{self.path / 'depth'} is read as millimetres, though {found[0]} next to it is of TUM's layout,"
                    f" whose depth has {TUM_UNITS} units a metre: write {TUM_UNITS} into {DEPTH_SCALE}, or"
                    f" {MILLIMETRES:.0f}"
                )
            return MILLIMETRES
        words = [word for _, words in _read_words(path) for word in words]
        units = to_numbers(words, str(path))
        if len(units) != 1 or not 0 < units[0] < float("inf"):
            raise DataError(
                f"{path} must hold one number, the units of depth in a metre (1000, or {TUM_UNITS} as TUM's); got"
                f" {quoted(' '.join(words))}"
            )
        return units[0]

    def _read_mask(self, path: Path) -> np.ndarray | None:
        """The pixels (H, W) that images show; None for all."""
        if not path.exists():
            return None
        mask = decode_image(path, cv2.IMREAD_GRAYSCALE, "an image that is 0 where images show nothing")
        if self._size is not None and mask.shape != self._size:
            raise DataError(f"{path} must have the size of the images, {_size(self._size)}; got {_size(mask.shape)}")
        with foreign(str(path)):
            return valid_pixels(mask)

    def _read_stamps(self, path: Path) -> list[int]:
        if not path.exists():
            return [FIRST_STAMP_NS + round(i * 1e9 / FRAMES_PER_SECOND) for i in range(len(self))]
        lines = [(line, words[0]) for line, words in _read_words(path)]
        unit = time_unit([to_numbers([word], f"{path}, line {line}")[0] for line, word in lines])
        if unit != "s":
            self._note(f"{path} is taken as {unit}, by the steps from line to line")
        stamps_ns = []
        for line, word in lines:
            stamp_ns = time_to_ns(word, unit)
            if stamp_ns is None:
                raise DataError(f"{path}, line {line} must be a time, in {unit} as its other lines; got {quoted(word)}")
            stamps_ns.append(stamp_ns)
        _check_count(path, len(stamps_ns), len(self))
        for line, (earlier, later) in enumerate(zip(stamps_ns, stamps_ns[1:], strict=False), start=2):
            if later <= earlier:
                raise DataError(
                    f"{path}, line {line}: stamps must increase; got {later / 1e9} s after {earlier / 1e9} s"
                )
        return stamps_ns


def read_intrinsics(path: Path) -> np.ndarray:
    """Read K (3, 3) float64 from a text file of three lines, or of one with all nine numbers.

    Raises:
        DataError: if the file is missing, or does not hold intrinsics.
    """
    rows = [_numbers(words, None, f"{path}, line {line}") for line, words in _read_words(path)]
    lengths = [len(row) for row in rows]
    if lengths == [9]:
        rows = [rows[0][:3], rows[0][3:6], rows[0][6:]]
    elif lengths != [3, 3, 3]:
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


def read_image(path: Path, bits: BitDepth | None = None) -> np.ndarray:
    """Read an image as (H, W, 3) uint8 RGB, its pixels as they are stored.

    Args:
        path: the file.
        bits: what is known of the camera's bits; None to go by this image alone.

    Raises:
        DataError: if the file is missing, truncated or not an image.
    """
    with foreign(f"{path} cannot be read"):
        return rgb_of(decode_image(path, cv2.IMREAD_UNCHANGED, "an image"), bits=bits)


def read_depth(path: Path, units: float = MILLIMETRES) -> np.ndarray:
    """Read depth as (H, W) float32 metres, 0 = invalid.

    Args:
        path: the file.
        units: of its values in a metre.

    Raises:
        DataError: if the file is missing, truncated or not a one-channel 16-bit image.
    """
    values = decode_image(path, cv2.IMREAD_UNCHANGED, "a 16-bit depth image")
    if values.dtype != np.uint16 or values.ndim != 2:
        raise DataError(
            f"{path} must be a one-channel uint16 image of millimetres; got {values.dtype} of shape {values.shape}"
        )
    return MILLIMETRES_TO_METRES[values] if units == MILLIMETRES else (values / units).astype(np.float32)


def decode_image(path: Path, flags: int, expected: str) -> np.ndarray:
    """Decode a png or jpg file.

    Args:
        path: the file.
        flags: how cv2.imdecode should do it.
        expected: what it should be, for the message.

    Raises:
        DataError: if it is missing, cut off or damaged.
    """
    data = _read_whole(path, expected)
    with foreign(f"{path} must be {expected}", advice=". Copy it again"):
        return decode_encoded(data, flags)


def _read_whole(path: Path, expected: str) -> bytes:
    with foreign(f"{path} cannot be read"), regular(path).open("rb") as file:
        data = file.read(LARGEST_FILE + 1)
    if not _is_whole(data):
        raise DataError(f"{path} must be {expected}; it ends early or is no png or jpg. Copy it again")
    return data


def _is_whole(data: bytes) -> bool:
    """Whether a file ends as its format must: some decoders fill up a cut-off image with grey without a word."""
    if data.startswith(b"\x89PNG"):
        return b"IEND" in data[-64:]
    if data.startswith(b"\xff\xd8"):
        return b"\xff\xd9" in data[-1024:]
    return False


def pair_depths(folder: Path, files: list[Path], images: list[Path]) -> list[Path | None]:
    """Return the depth file of each image: by name, or by order where no name agrees (published scenes go by order).

    Raises:
        DataError: if no name agrees, and there are not as many.
    """
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
        raise DataError(f"{place} must hold {count} numbers; got {len(numbers)}{POSE_FORMATS.get(len(numbers), '')}")
    return numbers


def _read_words(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The number of each line that holds more than a comment, and its words."""
    for line, content in read_lines(path, "must be a text file of numbers"):
        if words := content.partition("#")[0].replace(",", " ").split():
            yield line, words


def _check_count(path: Path, count: int, images: int, fault: str = "") -> None:
    """Refuse a file of another number of lines; `fault` is what is wrong with the first bad one, and may be why."""
    if count != images:
        missing = "lines are missing" if count < images else "images are missing"
        raise DataError(
            f"{path} must hold one line an image; got {count} lines for {images} images: {missing}"
            + (f"; {fault}" if fault else "")
        )


def _check_stems(folder: Path, images: list[Path]) -> None:
    """Refuse a folder with one image in two formats, whose lines would be counted twice."""
    stem, count = Counter(image.stem for image in images).most_common(1)[0]
    if count > 1:
        raise DataError(f"{folder} must hold each image once; it holds {stem} as png and as jpg. Remove one of them")


def _exact(world_T_cam: np.ndarray) -> np.ndarray:
    """The pose with the nearest rotation, by the polar decomposition."""
    left, _, right = np.linalg.svd(world_T_cam[:3, :3])
    exact = world_T_cam.copy()
    exact[:3, :3] = left @ right
    return exact


def _size(size: tuple[int, int]) -> str:
    return f"{size[1]}×{size[0]}"


def _is_rendered(record: Path) -> bool:
    """Whether a scene's record says that a renderer made it, whose depth is exact."""
    try:
        made = json.loads(regular(record).read_text())
    except (OSError, ValueError):
        return False
    return isinstance(made, dict) and made.get("made by") in RENDERED_BY
