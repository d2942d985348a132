# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Text files of numbers, read line by line: a file of any length costs no more than what of it is kept."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from itertools import count
from pathlib import Path

from dvmvs_core.errors import DataError
from dvmvs_core.foreign import foreign, quoted

LONGEST_LINE = 1 << 16
"""Characters of a line; a file of zeros, as a crash leaves them, is a single line as long as itself."""

LATEST_S = 2**63 // 10**9
"""Stamps are nanoseconds of 64 bits."""

LONGEST_NUMBER = 100
"""Characters of a time."""


def read_lines(path: Path, fault: str = "cannot be read") -> Iterator[tuple[int, str]]:
    """Yield the number and the text of each line.

    Args:
        path: the file.
        fault: what to say of it if it cannot: "must be a text file of numbers".

    Raises:
        DataError: if it cannot be read, or is no text.
    """
    with foreign(f"{path} {fault}"), path.open(encoding="utf-8") as file:
        for number in count(1):
            line = file.readline(LONGEST_LINE)
            if not line:
                return
            if len(line) == LONGEST_LINE:
                raise DataError(f"{path} {fault}: line {number} has {LONGEST_LINE} characters or more")
            yield number, line


def to_numbers(words: list[str], place: str) -> list[float]:
    """Return words as numbers.

    Args:
        words: of one line.
        place: file and line, for the message.

    Raises:
        DataError: if one is no number.
    """
    numbers = []
    for word in words:
        try:
            numbers.append(float(word))
        except ValueError:
            raise DataError(f"{place}: could not convert {quoted(word)} to a number") from None
    return numbers


def seconds_to_ns(word: str) -> int | None:
    """Return a time in seconds as nanoseconds, rounded to a whole one; None if it is no time."""
    try:
        # As a float first: a Decimal of 1e999980 becomes a whole number of a million digits. Then as a Decimal, since a
        # float has too few digits for nanoseconds of today's clock.
        if len(word) <= LONGEST_NUMBER and abs(float(word)) < LATEST_S:
            return int(Decimal(word).scaleb(9).to_integral_value())
    except (ValueError, InvalidOperation):
        pass
    return None
