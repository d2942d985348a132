# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Splits the scenes of a training export into train.txt and validation.txt."""

from __future__ import annotations

import random
import re
from pathlib import Path

from dvmvs_core.atomic import replacing
from dvmvs_core.data.text_lines import read_words
from dvmvs_core.errors import DataError
from dvmvs_core.importers.scene_writer import writing

TRAIN, VALIDATION = "train.txt", "validation.txt"

SEED = 123
TRAIN_SHARE = 0.9
"""Seed and share of the published split. They do not give its lists again: it shuffled the order of a Python 2 dict."""


def split_by_place(names: list[str]) -> tuple[list[str], list[str]]:
    """Return the names to train with and the names to validate with, 9 to 1.

    Recordings of one place stay together, or validation would see what was trained on: scene0000_00 and scene0000_01
    of ScanNet, the sequences of one room in 7-Scenes. With a single place there is nothing to validate with.
    """
    places: dict[str, list[str]] = {}
    for name in sorted(names):
        places.setdefault(re.sub(r"(?<=scene\d{4})_\d\d$|-seq-\d+$", "", name), []).append(name)
    order = list(places)
    random.Random(SEED).shuffle(order)
    count = max(1, int(len(order) * TRAIN_SHARE))
    train, validation = ([name for place in part for name in places[place]] for part in (order[:count], order[count:]))
    return train, validation


def split_from(folder: Path, names: list[str]) -> tuple[list[str], list[str]]:
    """Return the lists of a folder's train.txt and validation.txt, less what is not among `names`.

    Raises:
        DataError: if a list is missing, or holds none of the names.
    """
    exported = set(names)
    parts = []
    for list_name in (TRAIN, VALIDATION):
        listed = [words[0] for _, words in read_words(folder / list_name, 1)]
        parts.append([name for name in listed if name in exported])
        if not parts[-1]:
            raise DataError(
                f"{folder / list_name} lists none of the {len(exported)} exported scenes. Is it of this data set?"
            )
    return parts[0], parts[1]


def write_split(out: Path, train: list[str], validation: list[str]) -> None:
    """Write both lists next to the scenes, each whole or not at all.

    Raises:
        OutputError: if they cannot be written.
    """
    for list_name, names in ((TRAIN, train), (VALIDATION, validation)):
        with writing(out / list_name), replacing(out / list_name) as unfinished:
            unfinished.write_text("".join(f"{name}\n" for name in names))
