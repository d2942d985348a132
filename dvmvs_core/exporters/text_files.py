# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Text files of numbers, with the line named in every error."""

from __future__ import annotations

from pathlib import Path

from dvmvs_core.data.text_lines import read_lines, to_numbers
from dvmvs_core.errors import DataError
from dvmvs_core.foreign import shortened


def read_words(path: Path, count: int | None = None) -> list[tuple[int, list[str]]]:
    """Return (line number, words) of each line that is neither empty nor a # comment.

    Args:
        path: the file.
        count: words that each line must have, or None for any number.

    Raises:
        DataError: if the file cannot be read, or a line has another number of words.
    """
    lines = []
    for number, line in read_lines(path):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if count is not None and len(words) != count:
            raise DataError(
                f"{path}, line {number} must hold {count} words; got {len(words)}: {shortened(line.strip())}"
            )
        lines.append((number, words))
    return lines


def read_rows(path: Path, count: int | None = None) -> list[list[float]]:
    """Return the numbers of each line that is neither empty nor a # comment.

    Raises:
        DataError: if the file cannot be read, or a line has another number of words, or one is not a number.
    """
    return [to_numbers(words, f"{path}, line {number}") for number, words in read_words(path, count)]
