# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.


"""Files of recordings: images, depth images, and JSON and YAML with a bound."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from dvmvs_core.data.file_order import ordered_files
from dvmvs_core.data.scene_folder import decode_image
from dvmvs_core.errors import DataError
from dvmvs_core.foreign import foreign, quoted, regular
from dvmvs_core.types import check_intrinsics

LARGEST_TEXT = 256_000_000
"""Bytes of a JSON or YAML file that is read at most; transforms.json of 10,000 frames has about 10 million."""

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")


def images_in(folder: Path) -> list[Path]:
    """Return the images of a folder in natural order, less hidden ones; none if there is no such folder."""
    return ordered_files(folder, IMAGE_SUFFIXES)


def read_raw_depth(path: Path) -> np.ndarray:
    """Read a one-channel depth image (H, W) in whatever unit and type it is stored.

    Raises:
        DataError: if it is missing, cut off, or has several channels.
    """
    depth = decode_image(path, cv2.IMREAD_UNCHANGED, "a depth image")
    if depth.ndim != 2 or depth.dtype == np.uint8:
        raise DataError(f"{path} must be a 16-bit image of one channel; got {depth.dtype} of shape {depth.shape}")
    return depth


def read_json(path: Path) -> dict[str, Any]:
    """Return the names and values that a JSON file holds.

    Raises:
        DataError: if it cannot be read, is too large, or holds something else.
    """
    return parse_json(read_bounded(path), str(path))


def parse_json(data: bytes, place: str) -> dict[str, Any]:
    """Return the names and values that JSON bytes hold.

    Raises:
        DataError: if they are none.
    """
    with foreign(f"{place} must be JSON{'' if data else ', and is empty'}", advice=". Copy it again"):
        return _names_and_values(json.loads(data), place)


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the names and values that a YAML file holds, OpenCV's header of one included.

    Raises:
        DataError: if it cannot be read, or holds something else.
    """
    from ruamel.yaml import YAML

    text = read_bounded(path, LARGEST_TEXT // 100)
    with foreign(f"{path} must be YAML"):
        content = YAML(typ="safe").load(re.sub(rb"^%YAML:.*\n", b"", text).decode("utf-8-sig"))
        return _names_and_values(content, str(path))


def _names_and_values(content: object, place: str) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise DataError(f"{place} must hold names and values; got {quoted(content)}")
    return content


def read_bounded(path: Path, largest: int = LARGEST_TEXT) -> bytes:
    """Return the bytes of a file.

    Raises:
        DataError: if it cannot be read, or is larger.
    """
    with foreign(f"{path} cannot be read"), regular(path).open("rb") as file:
        data = file.read(largest + 1)
    if len(data) > largest:
        raise DataError(f"{path} has more than {largest} bytes")
    return data


def column_by_column(values: object, place: str) -> tuple[float, float, float, float]:
    """Return fx, fy, cx, cy of a K that is written column by column.

    Raises:
        DataError: if it is none, or is written row by row.
    """
    numbers = numbers_of(values, 9, place)
    with foreign(place):
        K = check_intrinsics(np.reshape(numbers, (3, 3)).T)
    return float(K[0, 0]), float(K[1, 1]), float(K[0, 2]), float(K[1, 2])


def numbers_of(values: object, count: int | None, place: str) -> list[float]:
    """Return foreign values as a list of so many finite numbers.

    Raises:
        DataError: if they are not.
    """
    with foreign(f"{place} must be {count or 'some'} numbers; got {quoted(values)}"):
        found = [float(value) for value in values]
        if (count is not None and len(found) != count) or not all(abs(value) < float("inf") for value in found):
            raise DataError(f"{place} must be {count or 'some'} finite numbers; got {quoted(values)}")
        return found
