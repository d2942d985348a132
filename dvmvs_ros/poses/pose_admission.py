# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Which transforms and poses are believed, by their stamps, and when any came.

A buffer forgets what is older than its newest entry by more than its length. So one transform stamped an hour ahead
would make it refuse every later one, for an hour. What is ahead of the images by more than half that length is refused.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from dvmvs_core.errors import TransformError
from dvmvs_core.foreign import quoted

MIN_LIMIT_S = 1.0
"""How far ahead a stamp may always be: localisation dates its transforms ahead by a second at most."""

FASTEST = 10
"""How many times faster than the clock on the wall the images' time may go on while none comes: a bag played fast."""

RECENT_S = 5.0

HELD = 100
"""Poses that are kept for the next image: images and poses may jump together, and a pose comes before its image."""


_Pose = tuple[str, int, Callable[[], object]]
"""(frame, stamp_ns, what adds it to the buffer)."""


class PoseAdmission:
    """Refuses what is stamped too far ahead, and remembers what was refused.

    Args:
        cache_s: length of the buffer that it guards, seconds.
        now_ns: the node's clock, which counts until the first image comes; 0 where it has not started.
        clock: seconds, monotonic.

    Attributes:
        limit_ns: how far ahead a stamp may be.
        refused: how many transforms were refused, for whatever reason.
        latest: why the last one was.
        latest_stamp_ns: its stamp, where it was too far ahead.
    """

    def __init__(self, cache_s: float, now_ns: Callable[[], int], clock: Callable[[], float] = time.monotonic) -> None:
        self.limit_ns = round(max(MIN_LIMIT_S, cache_s / 2) * 1e9)
        self.refused = 0
        self.latest = ""
        self.latest_stamp_ns: int | None = None
        self._now_ns = now_ns
        self._clock = clock
        self._image_ns: int | None = None
        self._image_s = self._refused_s = float("-inf")
        self._heard_s: float | None = None
        self._held: deque[_Pose] = deque(maxlen=HELD)
        self._since_image: deque[_Pose] = deque(maxlen=HELD)
        self._jumped: list[_Pose] = []

    def note_image(self, stamp_ns: int) -> bool:
        """Take the stamp of an image, which poses are compared with from now on; return whether it is the first.

        What was refused before and is not far ahead of this image is added now: images and poses jumped together.
        """
        first, before_ns = self._image_ns is None, self._image_ns or stamp_ns
        self._image_ns, self._image_s = stamp_ns, self._clock()
        # Nearer to this image than to the last one, where time went back.
        self._jumped = [
            pose for pose in self._since_image if 2 * pose[1] < stamp_ns + before_ns and pose[1] < before_ns
        ]
        self._since_image.clear()
        held, self._held = self._held, deque(maxlen=HELD)
        for child, pose_ns, add in held:
            with suppress(TransformError):
                self.admit(child, pose_ns, add)
        return first

    def clear(self) -> None:
        """Forget the images' time, and all poses."""
        self._image_ns = None
        for poses in (self._held, self._since_image, self._jumped):
            poses.clear()

    def follow_jump(self) -> None:
        """Add again, after the buffer was cleared, what came ahead of the last image and jumped back with it."""
        self._held.clear()
        for child, stamp_ns, add in self._jumped:
            with suppress(TransformError):
                self.admit(child, stamp_ns, add)

    def hear(self) -> None:
        """Note that poses came, of whatever stamp."""
        self._heard_s = self._clock()

    def admit(self, child: str, stamp_ns: int, add: Callable[[], object]) -> None:
        """Add a pose, unless its stamp is too far ahead; then it is held until an image comes near it.

        Args:
            child: the frame whose pose it is.
            stamp_ns: its stamp.
            add: adds it to the buffer; False if that has no place for it any more.

        Raises:
            TransformError: if it is too far ahead, or too old for the buffer, or `add` refuses it.
        """
        self._since_image.append((child, stamp_ns, add))
        latest_ns, what = self._latest_ns()
        if latest_ns is None or stamp_ns <= latest_ns + self.limit_ns:
            if add() is False:
                raise TransformError(f"the pose of {quoted(child)} is older than the buffer reaches back")
            return
        self.latest_stamp_ns = stamp_ns
        self._held.append((child, stamp_ns, add))
        raise TransformError(
            f"the pose of {quoted(child)} is stamped {(stamp_ns - latest_ns) * 1e-9:.1f} s after {what}; more than"
            f" {self.limit_ns * 1e-9:g} s is not believed. Are the clocks of the computers one?"
        )

    def note_refused(self, why: str) -> None:
        """Count a transform that was refused."""
        self.refused += 1
        self.latest, self._refused_s = why, self._clock()

    @property
    def recent(self) -> str:
        """Why a transform was refused in the last seconds; empty if none was."""
        return self.latest if self._clock() - self._refused_s < RECENT_S else ""

    @property
    def silence_s(self) -> float | None:
        """For how long no pose of whatever stamp came, seconds; None if none ever did."""
        return None if self._heard_s is None else self._clock() - self._heard_s

    def _latest_ns(self) -> tuple[int | None, str]:
        """The latest time that poses may be of, less the limit, and what says so."""
        if self._image_ns is None:
            return self._now_ns() or None, "the time of this computer"
        since_s = self._clock() - self._image_s
        return self._image_ns + round(FASTEST * since_s * 1e9), "the last image"
