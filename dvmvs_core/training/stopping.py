# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What ends a run: a signal, a deadline, or steps without a finite gradient."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from dvmvs_core.errors import DataError

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def stop_on_signal() -> Iterator[Callable[[], bool]]:
    """Give a function that says whether SIGINT or SIGTERM came; a second one of a kind has its usual effect."""
    came: list[int] = []

    def note(number: int, _frame: object) -> None:
        if not came:
            logger.warning("stopping after this step, with a checkpoint; once more to stop at once")
        came.append(number)
        signal.signal(number, before[number])

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


_IMPORTED = time.monotonic()

FIRST_RESERVE_S = 20.0
"""Kept for the last export before one was measured."""
RESERVE_FACTOR = 1.5
"""Of the longest export so far, kept for the last one."""


def process_age_s() -> float:
    """Return the seconds since this process started; since this module was loaded where the system does not tell."""
    try:
        started = float(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
        return float(Path("/proc/uptime").read_text().split()[0]) - started
    except (OSError, ValueError, IndexError):
        return time.monotonic() - _IMPORTED


class Deadline:
    """Says how long there is left to train.

    Args:
        seconds: of the process, from its start to the end of its last export.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._longest_export_s: float | None = None

    @property
    def reserve_s(self) -> float:
        """What is kept for the last export."""
        if self._longest_export_s is None:
            return min(FIRST_RESERVE_S, self.seconds / 4)
        return RESERVE_FACTOR * self._longest_export_s

    def left_s(self) -> float:
        """Seconds left to train, 0 if there are none."""
        return max(0.0, self.seconds - self.reserve_s - process_age_s())

    def note_export(self, seconds: float) -> None:
        """Learn how long an export took."""
        self._longest_export_s = max(seconds, self._longest_export_s or 0.0)


MAX_IN_A_ROW = 20


class SkippedSteps:
    """Counts them.

    Attributes:
        in_a_row: how many came since the last step that changed weights.
    """

    def __init__(self) -> None:
        self.in_a_row = 0

    def note(self, step: int, finite: bool, checkpoint: Path) -> None:
        """Take note of a step.

        Args:
            step: its number.
            finite: whether its gradient was.
            checkpoint: to resume from.

        Raises:
            DataError: if there were too many one after the other.
        """
        self.in_a_row = 0 if finite else self.in_a_row + 1
        if not finite:
            logger.warning("step %d skipped: its gradient is not finite", step)
        if self.in_a_row >= MAX_IN_A_ROW:
            raise DataError(
                f"{self.in_a_row} steps in a row had no finite gradient; lower the learning rate and resume from"
                f" {checkpoint}"
            )
