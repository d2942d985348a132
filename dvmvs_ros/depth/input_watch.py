# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""When each input was last heard of, and what its silence means."""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import Enum


class Input(Enum):
    """What depth needs. The values are words of a sentence."""

    IMAGE = "image"
    CAMERA_INFO = "camera_info"
    POSE = "pose"
    """A frame that got its pose."""


class InputWatch:
    """Remembers when every input was last heard of. Call it from one thread.

    Args:
        clock: seconds, monotonic: simulated time may stand still.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._started_s = clock()
        self._heard_s: dict[Input, float] = {}
        self._excused_s = self._started_s

    def hear(self, what: Input) -> None:
        """Note that an input came."""
        self._heard_s[what] = self._clock()

    def excuse(self) -> None:
        """Note that nothing can be heard now, since the node is busy: silence counts from here."""
        self._excused_s = self._clock()

    def ever(self, what: Input) -> bool:
        """Return whether an input has come at all."""
        return what in self._heard_s

    def silence_s(self, what: Input) -> float:
        """Return for how long nothing came of an input while the node could hear, from the start if it never did."""
        return self._clock() - max(self._heard_s.get(what, self._started_s), self._excused_s)

    def missing(self, timeout_s: float) -> Input | None:
        """Return the input whose absence keeps depth from coming, None if they all come.

        Only the first in the order of cause: without images nothing is known of their poses. Intrinsics need to come
        once only.
        """
        if self.silence_s(Input.IMAGE) > timeout_s:
            return Input.IMAGE
        if not self.ever(Input.CAMERA_INFO) and self.silence_s(Input.CAMERA_INFO) > timeout_s:
            return Input.CAMERA_INFO
        if self.ever(Input.IMAGE) and self.ever(Input.CAMERA_INFO) and self.silence_s(Input.POSE) > timeout_s:
            return Input.POSE
        return None
