# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What a node logs: a warning once and not thirty times a second, unforeseen exceptions, and the lines of the core.

No ROS in here but the node whose logger takes the lines.
"""

from __future__ import annotations

import logging
import re
import threading
import time
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING

from dvmvs_core.foreign import reason

if TYPE_CHECKING:
    from rclpy.node import Node

MAX_KINDS = 256
"""Kinds of lines, and places in the code, that are remembered; text from outside must not fill the memory."""


class QuietLog:
    """Passes a line on unless one of its kind was passed on less than `period_s` ago.

    Lines that differ in their numbers only are of one kind. The line that ends a silence says how many were kept back.

    Args:
        emit: takes a line, for example a logger's `warning`.
        period_s: least time between two lines of a kind, seconds.
        clock: seconds, monotonic.
    """

    def __init__(
        self, emit: Callable[[str], None], period_s: float = 5.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._emit = emit
        self._period_s = period_s
        self._clock = clock
        self._kinds: dict[str, tuple[float, int]] = {}
        self._lock = threading.Lock()

    def __call__(self, line: str) -> None:
        """Pass the line on, or keep it back and count it."""
        kind = re.sub(r"\d+", "#", line)
        now = self._clock()
        with self._lock:
            last, kept_back = self._kinds.get(kind, (float("-inf"), 0))
            if now - last < self._period_s:
                self._kinds[kind] = (last, kept_back + 1)
                return
            if len(self._kinds) >= MAX_KINDS:
                self._kinds.clear()
            self._kinds[kind] = (now, 0)
        self._emit(f"{line} (and {kept_back} more like it before)" if kept_back else line)


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
            if first and len(self._places) < MAX_KINDS:
                self._places.add(place)
        if first:
            told = "".join(traceback.format_exception(error))
            self._log(f"unforeseen in {doing}; the node goes on. Please report this:\n{told}")
        else:
            self._again(f"unforeseen again: {self.latest}")


def log_unforeseen(error: Exception, doing: str) -> None:
    """Log an exception where there is no node to report it to."""
    logging.getLogger(__name__).error("unforeseen in %s", doing, exc_info=error)


class RosLogHandler(logging.Handler):
    """Passes records of the core on to a node's logger."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        self._log = node.get_logger()

    def emit(self, record: logging.LogRecord) -> None:
        """Log one record at its own level."""
        text = self.format(record)
        # Spelt out: rclpy refuses a call site whose severity changes.
        if record.levelno >= logging.ERROR:
            self._log.error(text)
        elif record.levelno >= logging.WARNING:
            self._log.warning(text)
        elif record.levelno >= logging.INFO:
            self._log.info(text)
        else:
            self._log.debug(text)
