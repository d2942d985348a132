# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Text files of numbers, read line by line: a file of any length costs no more than what of it is kept."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from decimal import Decimal, InvalidOperation
from itertools import count
from pathlib import Path

from dvmvs_core.errors import DataError
from dvmvs_core.foreign import foreign, quoted, regular, shortened

LONGEST_LINE = 1 << 16
"""Characters of a line; a file of zeros, as a crash leaves them, is a single line as long as itself."""

LATEST_S = 2**31
"""Stamps of ROS have as many seconds, in 32 bits with a sign."""

UNITS = {"s": 9, "ms": 6, "us": 3, "ns": 0}
"""Units of time, and the powers of ten of nanoseconds in them."""

LONGEST_STEP_S = 2.0
"""Recordings have less than this from one image to the next, and units are a thousandth of each other."""

EPOCH_S = (1e9, 1e10)
"""Seconds since 1970 are among these, from 2001 on."""

LONGEST_NUMBER = 100
"""Characters of a time."""

_NANOSECONDS = re.compile(r"\d{16,19}(\.\d*)?")
"""A number that must be nanoseconds: as seconds it would be a date after the year 300 million. Some write it with a
fraction, as ORB-SLAM3 does."""


def read_lines(path: Path, fault: str = "cannot be read") -> Iterator[tuple[int, str]]:
    """Yield the number and the text of each line.

    Args:
        path: the file.
        fault: what to say of it if it cannot: "must be a text file of numbers".

    Raises:
        DataError: if it cannot be read, or is no text.
    """
    with foreign(f"{path} {fault}"), regular(path).open(encoding="utf-8-sig") as file:
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


def time_unit(times: Sequence[float]) -> str:
    """Return the unit of the times of images, one of `UNITS`, by the median step from one to the next.

    Times of one image, or of images far apart by the clock since 1970, tell by their size.
    """
    steps = sorted(b - a for a, b in zip(times, times[1:], strict=False) if b > a)
    step = steps[(len(steps) - 1) // 2] if steps else 0.0
    units = ["s", "ms", "us", "ns"]
    if steps and not (step < LONGEST_STEP_S * 1e3 and EPOCH_S[0] <= times[0] < EPOCH_S[1]):
        return next((unit for i, unit in enumerate(units) if step < LONGEST_STEP_S * 1e3**i), "ns")
    return next((unit for i, unit in enumerate(units) if abs(times[0]) < EPOCH_S[1] * 1e3**i), "ns") if times else "s"


def stamp_to_ns(word: str) -> int | None:
    """Return the time of a pose or an image as `seconds_to_ns` does, or of nanoseconds where it has as many digits."""
    if len(word) <= LONGEST_NUMBER and _NANOSECONDS.fullmatch(word):
        return int(Decimal(word).to_integral_value())
    return seconds_to_ns(word)


def seconds_to_ns(word: str) -> int | None:
    """Return a time in seconds as `time_to_ns` does."""
    return time_to_ns(word, "s")


def time_to_ns(word: str, unit: str) -> int | None:
    """Return a time in a unit as nanoseconds, rounded to a whole one; None if it is no time, or none that ROS holds."""
    try:
        # As a float first: a Decimal of 1e999980 becomes a whole number of a million digits. Then as a Decimal, since a
        # float has too few digits for nanoseconds of today's clock.
        if len(word) <= LONGEST_NUMBER and abs(float(word)) < LATEST_S * 10 ** (9 - UNITS[unit]):
            return int(Decimal(word).scaleb(UNITS[unit]).to_integral_value())
    except (ValueError, InvalidOperation):
        pass
    return None
