# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Arrays out of npz files that others made: no more is allocated than the file can hold.

An entry says its shape in its own header, and the archive how many bytes it holds and from how many they inflate. All
three must agree before an array is made. These functions are called within `foreign`, which names the file.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from dvmvs_core.data.encodings.inflate import inflation_bound
from dvmvs_core.errors import DamagedError
from dvmvs_core.foreign import regular

SUFFIX = ".npy"
PIECE_BYTES = 1 << 20

_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def array_names(path: Path) -> list[str]:
    """Return the names of the arrays of an npz file.

    Raises:
        Exception: whatever zipfile raises over damaged data.
    """
    with zipfile.ZipFile(regular(path)) as archive:
        return [name.removesuffix(SUFFIX) for name in archive.namelist()]


def read_arrays(path: Path, names: Collection[str]) -> dict[str, np.ndarray]:
    """Read whole arrays of an npz file.

    Args:
        path: the file.
        names: those to read.

    Raises:
        DamagedError: if the file lacks one, or one claims more than its bytes hold.
        Exception: whatever zipfile and numpy raise over damaged data.
    """
    arrays = {}
    with zipfile.ZipFile(regular(path)) as archive:
        left = inflation_bound(path.stat().st_size)
        for name in names:
            with open_array(archive, name) as (entry, shape, dtype, fortran):
                left -= math.prod(shape) * dtype.itemsize
                if left < 0:
                    raise DamagedError("it would inflate to far more bytes than it has; it is damaged")
                values = np.empty(math.prod(shape), dtype)
                _fill(memoryview(values).cast("B") if values.nbytes else memoryview(b""), entry, name)
            arrays[name] = values.reshape(shape, order="F" if fortran else "C")
    return arrays


def _fill(place: memoryview, entry: IO[bytes], name: str) -> None:
    while len(place):
        piece = entry.read(min(len(place), PIECE_BYTES))
        if not piece:
            raise DamagedError(f"{name} ends early")
        place[: len(piece)] = piece
        place = place[len(piece) :]


@contextmanager
def open_array(archive: zipfile.ZipFile, name: str) -> Iterator[tuple[IO[bytes], tuple[int, ...], np.dtype, bool]]:
    """Open an array of an npz at its first value, once its header was believed.

    Yields:
        The open entry, its shape, its type, and whether it is in Fortran order.

    Raises:
        DamagedError: if there is no such array, or its header, its bytes and what they inflate from do not agree.
        Exception: whatever zipfile and numpy raise over damaged data.
    """
    if f"{name}{SUFFIX}" not in archive.namelist():
        raise DamagedError(f"the array {name} is missing; it has {', '.join(archive.namelist()[:10]) or 'none'}")
    info = archive.getinfo(f"{name}{SUFFIX}")
    if info.file_size > inflation_bound(info.compress_size):
        raise DamagedError(f"{name} would inflate from {info.compress_size} to {info.file_size} bytes; it is damaged")
    with archive.open(info) as entry:
        version = np.lib.format.read_magic(entry)
        if version not in _HEADERS:
            raise DamagedError(f"{name} is of version {version} of the npy format; 1.0 and 2.0 can be read")
        shape, fortran, dtype = _HEADERS[version](entry)
        if dtype.hasobject:
            raise DamagedError(f"{name} holds Python objects, which are never loaded")
        if entry.tell() + math.prod(shape) * dtype.itemsize != info.file_size:
            raise DamagedError(f"{name} must have {shape} values of {dtype}, as its header says; it has another number")
        yield entry, shape, dtype, fortran
