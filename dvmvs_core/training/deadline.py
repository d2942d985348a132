# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""A run that must be over, exports included, some seconds after its process started: a lent machine does not wait."""

from __future__ import annotations

import os
import time
from pathlib import Path

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
