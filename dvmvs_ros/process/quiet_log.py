# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Warnings that say something once, and not thirty times a second."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable

MAX_KINDS = 256
"""Kinds remembered; text from outside (an encoding's name) must not fill the memory."""


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
