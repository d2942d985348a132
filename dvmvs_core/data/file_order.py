# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The files of a folder that a recording is made of, in the order of their numbers.

Names of frames are numbered without leading zeros as often as with them, and 10.png comes after 2.png. A name that is a
decimal number as a whole is a time, whose fraction has no leading zeros to lose: 7.25.png comes before 7.5.png.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from decimal import Decimal
from pathlib import Path

CLUTTER = ("thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "@eadir")
"""What systems leave in folders under names without a dot in front, in lower case."""

_TIME = re.compile(r"\d+\.\d+")


def natural_key(name: str) -> tuple:
    """Return what names of files are sorted by: the numbers in them count as numbers."""
    stem = name.rpartition(".")[0] or name
    if _TIME.fullmatch(stem):
        return ("", Decimal(stem)), name
    return tuple(int(part) if i % 2 else part for i, part in enumerate(re.split(r"(\d+)", stem))), name


def is_clutter(name: str) -> bool:
    """Return whether a file is hidden, or left by a system: ._00000.png, .DS_Store, Thumbs.db."""
    return name.startswith(".") or name.lower() in CLUTTER


def ordered_files(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """Return the files of a folder with one of some suffixes, in natural order, less hidden ones.

    Args:
        folder: where they are; none if there is no such folder.
        suffixes: in lower case, with their dot.
    """
    if not folder.is_dir():
        return []
    names = [
        entry.name
        for entry in os.scandir(folder)
        if Path(entry.name).suffix.lower() in suffixes and not is_clutter(entry.name) and not os.path.isdir(entry)
    ]
    return [folder / name for name in sorted(names, key=natural_key)]


def order_note(files: list[Path]) -> str:
    """Return a sentence on files whose natural order is not that of the alphabet; empty where both are one."""
    names = [file.name for file in files]
    first = next(((a, b) for a, b in zip(names, sorted(names), strict=True) if a != b), None)
    if first is None:
        return ""
    return (
        f"{files[0].parent}: files are taken by their numbers, {first[0]} before {first[1]}, which is not the order of"
        " the alphabet; the lines of poses.txt must be in this order too"
    )


def held_kinds(folder: Path) -> str:
    """Return what kinds of files a folder holds, for an error: "5 .heic and 1 .txt"; "nothing" where it is empty."""
    suffixes = [Path(entry.name).suffix.lower() or "other" for entry in _visible(folder)]
    kinds = sorted(set(suffixes), key=lambda kind: (-suffixes.count(kind), kind))
    return ", ".join(f"{suffixes.count(kind)} {kind}" for kind in kinds[:4]) or "nothing"


def _visible(folder: Path) -> list[os.DirEntry]:
    return [entry for entry in os.scandir(folder) if not is_clutter(entry.name)] if folder.is_dir() else []
