# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Exceptions that nobody foresaw, counted and logged."""

from __future__ import annotations

import logging
import threading
import traceback
from collections.abc import Callable

from dvmvs_core.foreign import reason
from dvmvs_ros.process.quiet_log import QuietLog

MAX_PLACES = 256
"""Places in the code that are remembered as reported."""


class Unforeseen:
    """Counts and logs exceptions that nobody foresaw; safe to use from several threads.

    Args:
        log: takes a line, as a logger's `error` does.
    """

    def __init__(self, log: Callable[[str], None]) -> None:
        self.count = 0
        self.latest = ""
        self._log = log
        self._again = QuietLog(log)
        self._places: set[tuple] = set()
        self._lock = threading.Lock()

    def report(self, error: BaseException, doing: str) -> None:
        """Take note of an exception: with its traceback the first time that it comes from a place, then as a line."""
        frames = traceback.extract_tb(error.__traceback__)
        place = (type(error), frames[-1].filename, frames[-1].lineno) if frames else (type(error),)
        with self._lock:
            self.count += 1
            self.latest = f"{type(error).__name__} in {doing}: {reason(error)}"
            first = place not in self._places
            if first and len(self._places) < MAX_PLACES:
                self._places.add(place)
        if first:
            told = "".join(traceback.format_exception(error))
            self._log(f"unforeseen in {doing}; the node goes on. Please report this:\n{told}")
        else:
            self._again(f"unforeseen again: {self.latest}")


def log_unforeseen(error: Exception, doing: str) -> None:
    """Log an exception where there is no node to report it to."""
    logging.getLogger(__name__).error("unforeseen in %s", doing, exc_info=error)
