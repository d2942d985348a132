# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""A checkpoint as files of limited size, and back: some ways home take no large ones.

`NAME.safetensors.part1of2` and so on hold its bytes in order.
"""

from __future__ import annotations

import re
from pathlib import Path

from dvmvs_core.atomic import replacing
from dvmvs_core.errors import WeightsError

_PART = re.compile(r"\.part(\d+)of(\d+)$")


def write_parts(path: Path, part_bytes: int) -> list[Path]:
    """Write the parts of a file next to it; those of an earlier version go.

    Args:
        path: the file, which stays.
        part_bytes: largest size of a part.

    Raises:
        WeightsError: if they cannot be written.
    """
    try:
        whole = path.read_bytes()
        pieces = [whole[start : start + part_bytes] for start in range(0, len(whole), part_bytes)]
        parts = [path.with_name(f"{path.name}.part{i}of{len(pieces)}") for i in range(1, len(pieces) + 1)]
        for stale in set(_parts_of(path)) - set(parts):
            stale.unlink()
        for part, piece in zip(parts, pieces, strict=True):
            with replacing(part) as unfinished:
                unfinished.write_bytes(piece)
    except OSError as error:
        raise WeightsError(f"cannot write the parts of {path}: {error}") from error
    return parts


def join_parts(path: Path) -> bool:
    """Make a file that is missing of its parts, if they are there, and return whether it was made.

    Args:
        path: the whole file, or its first part without the ending.

    Raises:
        WeightsError: if some of them are missing, or the whole cannot be written.
    """
    parts = {int(_PART.search(part.name)[1]): part for part in _parts_of(path)}
    if not parts:
        return False
    count = {int(_PART.search(part.name)[2]) for part in parts.values()}
    missing = sorted(set(range(1, max(count) + 1)) - set(parts))
    if missing or len(count) > 1:
        raise WeightsError(
            f"{path} must be whole, or be there in parts of one number; part {', '.join(map(str, missing)) or 'sizes'}"
            f" missing or mixed: found {', '.join(sorted(part.name for part in parts.values()))}"
        )
    try:
        with replacing(path) as unfinished:
            unfinished.write_bytes(b"".join(parts[i].read_bytes() for i in sorted(parts)))
    except OSError as error:
        raise WeightsError(f"cannot join the parts of {path}: {error}; its folder must be writable") from error
    return True


def _parts_of(path: Path) -> list[Path]:
    return [part for part in path.parent.glob(f"{path.name}.part*") if _PART.search(part.name)]
