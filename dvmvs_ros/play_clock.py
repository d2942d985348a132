# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The time of a recording that is being played: at a rate, with pauses, and never past what has been sent.

No ROS in here: the player publishes what this clock says.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable


class PlayClock:
    """Runs from stamp to stamp.

    Args:
        rate: speed, 1 = as recorded; 0 = time stands still but for `start` and `run_to`, which jump.
        wall_s: the time of day that it goes by, seconds.
    """

    def __init__(self, rate: float, wall_s: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._wall_s = wall_s
        self._paused = False
        self.start(0)

    @property
    def now_ns(self) -> int:
        """The recording's time, at most the stamp that it runs to."""
        if self._paused:
            return self._anchor_ns
        if self._rate == 0:
            return self._limit_ns
        passed_s = self._wall_s() - self._anchor_s
        return min(self._limit_ns, self._anchor_ns + round(passed_s * self._rate * 1e9))

    @property
    def left_s(self) -> float:
        """Seconds of the day until it reaches the stamp that it runs to; infinite while it is paused."""
        if self._paused:
            return math.inf
        if self._rate == 0:
            return 0.0
        return (self._limit_ns - self._anchor_ns) * 1e-9 / self._rate - (self._wall_s() - self._anchor_s)

    @property
    def paused(self) -> bool:
        """Whether it stands still until it is resumed."""
        return self._paused

    def start(self, stamp_ns: int) -> None:
        """Stand at a stamp, forwards or backwards from here, until told what to run to."""
        self._limit_ns = stamp_ns
        self._anchor(stamp_ns)

    def run_to(self, stamp_ns: int) -> None:
        """Go on, to a later stamp. Time lost since the last one was reached is made up for."""
        self._limit_ns = stamp_ns

    def forgive(self) -> None:
        """Do not make up for the time lost until now."""
        self._anchor(self.now_ns)

    def pause(self) -> None:
        """Stand still."""
        self._anchor(self.now_ns)
        self._paused = True

    def resume(self) -> None:
        """Go on from where it was paused."""
        self._anchor(self.now_ns)
        self._paused = False

    def set_rate(self, rate: float) -> None:
        """Go on from here at another speed."""
        self._anchor(self.now_ns)
        self._rate = rate

    def _anchor(self, stamp_ns: int) -> None:
        self._anchor_ns, self._anchor_s = stamp_ns, self._wall_s()
