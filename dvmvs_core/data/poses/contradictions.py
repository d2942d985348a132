# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Notices that several publishers send one transform, each its own.

A frame that is in one place, then where nothing moves to in that time, and then back, was never in both: two robots
publish under one name, or two nodes compute one transform. Lookups would mix both, and nobody can tell which is right.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from dvmvs_core.data.poses.quaternion import Quaternion, Vector, normalised

STEP_M, SPEED_M_S = 0.05, 5.0
"""A frame is at most so far from where it was, and so much farther a second. What is faster does not come straight
back."""

TURN_DEG, TURN_DEG_S = 5.0, 360.0

RETURN_NS = 10**9
"""Within so long it is back: a position that is corrected, and later corrected again, is no contradiction."""

TIMES = 5
"""Returns that are more than outliers."""

RECENT_NS = 10 * 10**9
"""They come within so long."""

MIXED = 0.08
"""Share of returns from which on it is two streams, and not one with outliers."""

MAX_FRAMES = 10_000


class Contradiction(NamedTuple):
    """A transform that has two values.

    Attributes:
        said: a sentence about it.
        mixed: whether it has them all along.
    """

    said: str
    mixed: bool


class _Sighting(NamedTuple):
    parent: str
    stamp_ns: int
    translation: Vector
    rotation: Quaternion

    def apart(self, other: _Sighting) -> tuple[float, float, float]:
        """Metres, degrees and seconds between two."""
        dot = abs(sum(a * b for a, b in zip(self.rotation, other.rotation, strict=True)))
        degrees = math.degrees(2.0 * math.acos(min(1.0, dot)))
        return math.dist(self.translation, other.translation), degrees, abs(self.stamp_ns - other.stamp_ns) * 1e-9

    def agrees(self, other: _Sighting) -> bool:
        """Whether one frame can be at both."""
        metres, degrees, seconds = self.apart(other)
        return (
            self.parent == other.parent
            and metres <= STEP_M + SPEED_M_S * seconds
            and degrees <= TURN_DEG + TURN_DEG_S * seconds
        )


class _Frame:
    """Where a frame is, where it was before it jumped, and how often it came back."""

    def __init__(self, sample: _Sighting, static: bool) -> None:
        self.here, self.static = sample, static
        self.samples, self.returns = 1, 0
        self.pair: tuple[_Sighting, _Sighting] | None = None
        self._left: _Sighting | None = None
        self._recent: deque[int] = deque(maxlen=TIMES)
        self._restated = False

    def add(self, sample: _Sighting, static: bool) -> None:
        self.samples += 1
        here = self.here
        if static or self.static:
            here = here._replace(stamp_ns=sample.stamp_ns)  # it holds at every time
        if not sample.agrees(here):
            left, self._left = self._left, here
            if static or self.static:
                self._restated, self.pair = True, (here, sample)
            elif left and abs(sample.stamp_ns - left.stamp_ns) <= RETURN_NS and sample.agrees(left):
                self.returns += 1
                self._recent.append(sample.stamp_ns)
                self.pair = here, sample
        self.here, self.static = sample, static

    def contradicts(self, of_late: bool) -> bool:
        if self._restated:
            return True
        recent = len(self._recent) == TIMES and abs(self.here.stamp_ns - self._recent[0]) <= RECENT_NS
        return recent if of_late else self.returns >= TIMES

    def contradiction(self, what: str, child: str) -> Contradiction:
        a, b = self.pair
        metres, degrees, seconds = a.apart(b)
        if a.parent != b.parent:
            values = f"now below {a.parent!r}, now below {b.parent!r}"
        else:
            values = f"{metres:.2f} m and {degrees:.0f}° apart" + (f" {seconds:.3f} s later" if seconds else "")
        often = "" if self._restated else f", {self.returns} times there and back in {self.samples}"
        return Contradiction(
            f"{what} of {child!r} in {b.parent!r} contradict each other: {values}{often}. Do two publishers send it?"
            " Stop one, or give each robot frames or topics of its own",
            self.returns >= max(TIMES, MIXED * self.samples),
        )


class Contradictions:
    """Watches the transforms of a tree.

    Args:
        what: what they are called in a sentence.
    """

    def __init__(self, what: str = "transforms") -> None:
        self._what = what
        self._frames: dict[str, _Frame] = {}

    def add(
        self,
        parent: str,
        child: str,
        stamp_ns: int,
        translation: Sequence[float],
        rotation: Sequence[float],
        static: bool = False,
    ) -> None:
        """Take parent_T_child at one time, in the order of arrival, after its numbers were checked."""
        sample = _Sighting(parent.removeprefix("/"), stamp_ns, tuple(translation), normalised(tuple(rotation)))
        child = child.removeprefix("/")
        if child in self._frames:
            self._frames[child].add(sample, static)
            return
        if len(self._frames) >= MAX_FRAMES:
            self._frames.clear()
        self._frames[child] = _Frame(sample, static)

    def clear(self) -> None:
        """Forget everything, as after a jump in time."""
        self._frames.clear()

    def between(self, target: str, source: str, of_late: bool = False) -> Contradiction | None:
        """Return the first contradiction on the way between two frames; None if there is none.

        Args:
            target: one frame.
            source: the other.
            of_late: only of the last seconds.
        """
        lineages = [self._lineage(frame.removeprefix("/")) for frame in (source, target)]
        for child in (child for lineage in lineages for child in lineage):
            frame = self._frames.get(child)
            if frame and (child in lineages[0]) != (child in lineages[1]) and frame.contradicts(of_late):
                return frame.contradiction(self._what, child)
        return None

    def _lineage(self, frame: str) -> dict[str, None]:
        """The frame and its ancestors."""
        lineage = {frame: None}
        while (found := self._frames.get(frame)) and found.here.parent not in lineage:
            frame = found.here.parent
            lineage[frame] = None
        return lineage
