# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Times in integer nanoseconds, and what belongs together by time."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import numpy as np

from dvmvs_core.data.text_lines import stamp_to_ns
from dvmvs_core.errors import DataError
from dvmvs_core.exporters.text_files import read_words
from dvmvs_core.foreign import shortened

SECOND_NS = 1_000_000_000
MILLISECOND_NS = 1_000_000
MICROSECOND_NS = 1_000


def read_stamped_lines(path: Path, count: int) -> tuple[np.ndarray, list[list[str]]]:
    """Read lines that begin with a time in seconds, or in nanoseconds where it has 16 digits or more.

    Args:
        path: the file.
        count: words that each line must have, the time included.

    Returns:
        The stamps (n,) int64 nanoseconds, exact, and the other words of each line. Of lines with the same stamp the
        first counts.

    Raises:
        DataError: if the file is missing or empty, a line is wrong, or the stamps go back.
    """
    stamps_ns: list[int] = []
    lines = []
    for number, (seconds, *words) in read_words(path, count):
        stamp_ns = stamp_to_ns(seconds)
        if stamp_ns is None:
            raise DataError(f"{path}, line {number} must begin with a time in seconds; got {shortened(seconds)}")
        if stamps_ns and stamp_ns < stamps_ns[-1]:
            before = Decimal(stamps_ns[-1]) / SECOND_NS
            raise DataError(
                f"{path}, line {number}: stamps must not go back; got {shortened(seconds)} s after {before} s. Sort it"
            )
        if not stamps_ns or stamp_ns > stamps_ns[-1]:
            stamps_ns.append(stamp_ns)
            lines.append(words)
    if not lines:
        raise DataError(f"{path} must hold at least one line of {count} words; got none")
    return np.array(stamps_ns, dtype=np.int64), lines


def nearest(stamps_ns: np.ndarray, others_ns: np.ndarray) -> np.ndarray:
    """Return for each stamp (n,) the index of the nearest of the others (m,), both increasing; at a tie the earlier."""
    after = np.clip(np.searchsorted(others_ns, stamps_ns), 1, max(len(others_ns) - 1, 1))
    before = after - 1
    after = np.minimum(after, len(others_ns) - 1)
    return np.where(stamps_ns - others_ns[before] <= others_ns[after] - stamps_ns, before, after)


def pair(stamps_ns: np.ndarray, others_ns: np.ndarray, max_gap_ns: int) -> np.ndarray:
    """Return for each stamp (n,) the index of its partner among the others (m,), or -1.

    Two are partners if each is the nearest to the other and they are at most the gap apart, so that nothing is used
    twice.
    """
    partner = nearest(stamps_ns, others_ns)
    mutual = nearest(others_ns, stamps_ns)[partner] == np.arange(len(stamps_ns))
    close = np.abs(stamps_ns - others_ns[partner]) <= max_gap_ns
    return np.where(mutual & close, partner, -1)
