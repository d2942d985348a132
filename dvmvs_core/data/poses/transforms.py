# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""A tree of coordinate frames over time: what tf2 is on a robot, for bags and for machines without tf2.

The answers are those of tf2: translations are interpolated linearly and rotations spherically between the two nearest
transforms of an edge, nothing is ever extrapolated, and a static edge holds at every time. `a_T_b` maps coordinates in
b to a, so `lookup(a, b, stamp_ns)` is tf2's `lookup_transform(a, b, stamp)`. No library has this without ROS, and the
errors are those of tf2 too: which frame is not known, which edge has no transform at that time, and what to do.
"""

from __future__ import annotations

import math
import threading
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dvmvs_core.data.poses.quaternion import (
    IDENTITY,
    Quaternion,
    Vector,
    conjugate,
    multiply,
    normalised,
    pose_matrix,
    quaternion_of,
    rotate,
    slerp,
)
from dvmvs_core.errors import (
    TransformConnectivityError,
    TransformError,
    TransformExtrapolationError,
    TransformLookupError,
)
from dvmvs_core.foreign import quoted, shortened
from dvmvs_core.geometry import MAX_TRANSLATION_M

LENGTH_TOLERANCE = 0.01
"""How far the squared length of a quaternion may be from 1; others are refused, as by tf2."""

MAX_CHAIN = 1000
"""Frames of one chain, as in tf2."""

MAX_FRAMES = 10_000
"""Frames of one tree: names that never end must not fill the memory."""

MAX_NAME = 1000
"""Characters of a frame's name."""

MAX_SAMPLES = 100_000
"""Transforms kept on one edge of a tree that forgets: ten seconds at 10 kHz."""

ONE_CLOCK_NS = 3600 * 10**9
"""Time between two stamps beyond which they are of two clocks."""

FRAMES_NAMED = 12
"""How many frames an error message names at most."""


class _Sample(NamedTuple):
    """One transform of an edge: the parent frame, and parent_T_child."""

    parent: str
    translation: Vector
    rotation: Quaternion


class _StaticEdge:
    """An edge that holds at every time."""

    def __init__(self, sample: _Sample) -> None:
        self.newest = sample

    def parent(self, stamp_ns: int) -> str | None:
        return self.newest.parent

    def sample(self, stamp_ns: int) -> _Sample:
        return self.newest


class _MovingEdge:
    """The transforms of one child frame in the order of time.

    Args:
        cache_ns: how much older than the newest transform a transform may be; None keeps all.
    """

    def __init__(self, cache_ns: int | None) -> None:
        self._cache_ns = cache_ns
        self.stamps: list[int] = []
        self._samples: list[_Sample] = []

    @property
    def newest(self) -> _Sample | None:
        return self._samples[-1] if self._samples else None

    def add(self, stamp_ns: int, sample: _Sample) -> bool:
        """Store a transform; False if it is older than the cache reaches.

        The cache reaches back from the newest transform before this one: as tf2, which leaves a publisher slower than
        the cache its last two transforms to interpolate between.
        """
        if self._cache_ns is not None and self.stamps:
            oldest_kept = self.stamps[-1] - self._cache_ns
            expired = bisect_left(self.stamps, oldest_kept)
            del self.stamps[:expired]
            del self._samples[:expired]
            if stamp_ns < oldest_kept:
                return False
            if len(self.stamps) >= MAX_SAMPLES:
                del self.stamps[: MAX_SAMPLES // 2]
                del self._samples[: MAX_SAMPLES // 2]
        first = bisect_left(self.stamps, stamp_ns)
        after = bisect_right(self.stamps, stamp_ns)
        if sample not in self._samples[first:after]:
            self.stamps.insert(after, stamp_ns)
            self._samples.insert(after, sample)
        return True

    def forget_before(self, stamp_ns: int) -> None:
        expired = bisect_right(self.stamps, stamp_ns) - 1
        if expired > 0:
            del self.stamps[:expired]
            del self._samples[:expired]

    def forget_after(self, stamp_ns: int) -> None:
        first = bisect_right(self.stamps, stamp_ns)
        del self.stamps[first:]
        del self._samples[first:]

    def clear(self) -> None:
        self.stamps.clear()
        self._samples.clear()

    def parent(self, stamp_ns: int) -> str | None:
        """The parent at a time; None outside the times received."""
        i = self._at_or_before(stamp_ns)
        return None if i is None else self._samples[i].parent

    def sample(self, stamp_ns: int) -> _Sample:
        """The transform at a time inside the times received."""
        i = self._at_or_before(stamp_ns)
        older = self._samples[i]
        if self.stamps[i] == stamp_ns:
            return older
        newer = self._samples[i + 1]
        if newer.parent != older.parent:
            return older  # as tf2: between two parents there is nothing to interpolate
        ratio = (stamp_ns - self.stamps[i]) / (self.stamps[i + 1] - self.stamps[i])
        return _Sample(
            older.parent,
            tuple((1.0 - ratio) * a + ratio * b for a, b in zip(older.translation, newer.translation, strict=True)),
            slerp(older.rotation, newer.rotation, ratio),
        )

    def _at_or_before(self, stamp_ns: int) -> int | None:
        if not self.stamps or not self.stamps[0] <= stamp_ns <= self.stamps[-1]:
            return None
        if stamp_ns == self.stamps[0] != self.stamps[-1]:
            return 0  # as tf2: of several transforms at the oldest time the first received, elsewhere the last
        return bisect_right(self.stamps, stamp_ns) - 1


def check_transform(
    parent: str, child: str, translation: Sequence[float], quaternion: Sequence[float]
) -> tuple[Vector, Quaternion]:
    """Return the numbers of a transform, parent_T_child, if it can be one.

    Raises:
        TransformError: empty, equal or overlong frame names, a value that is not finite, a translation that
            cannot be, or a quaternion whose length is not 1.
    """
    if not parent or not child:
        raise TransformError(
            f"a transform must name both its frames; got frame_id {quoted(parent)} and child_frame_id {quoted(child)}"
        )
    if parent == child:
        raise TransformError(f"a transform must join two frames; got {quoted(parent)} as parent and as child")
    if max(len(parent), len(child)) > MAX_NAME:
        raise TransformError(
            f"a frame's name must have at most {MAX_NAME} characters; got {quoted(max(parent, child, key=len))}"
        )
    translation = tuple(map(float, translation))
    quaternion = tuple(map(float, quaternion))
    if not all(map(math.isfinite, translation + quaternion)):
        raise TransformError(
            f"the transform from {quoted(child)} to {quoted(parent)} must be finite; got translation {translation}"
            f" and quaternion {quaternion}"
        )
    if math.hypot(*translation) > MAX_TRANSLATION_M:
        raise TransformError(
            f"the transform from {quoted(child)} to {quoted(parent)} must be at most {MAX_TRANSLATION_M:.0e} m long;"
            f" got {translation}"
        )
    length = math.hypot(*quaternion)
    if not abs(length * length - 1.0) < LENGTH_TOLERANCE:
        raise TransformError(
            f"the quaternion of the transform from {quoted(child)} to {quoted(parent)} must have length 1; got"
            f" {quaternion}. A message that was never filled has length 0"
        )
    return translation, quaternion


class TransformTree:
    """Transforms between coordinate frames over time. Safe to use from several threads.

    Args:
        cache_s: seconds of transforms kept on every moving edge, counted back from its newest (tf2 keeps 10); None
            keeps all, for recordings.
    """

    def __init__(self, cache_s: float | None = None) -> None:
        self._cache_ns = None if cache_s is None else round(cache_s * 1e9)
        self._edges: dict[str, _StaticEdge | _MovingEdge] = {}
        self._frames: set[str] = set()
        self._lock = threading.Lock()

    def set_transform(
        self,
        parent: str,
        child: str,
        stamp_ns: int,
        translation: Sequence[float],
        quaternion: Sequence[float],
        static: bool = False,
    ) -> bool:
        """Add parent_T_child at one time.

        Args:
            parent: frame that the transform maps to; a leading slash is dropped.
            child: frame that it maps from. It has one parent at a time; a later transform may name another.
            stamp_ns: its time; without meaning on a static edge.
            translation: (x, y, z) in metres.
            quaternion: (x, y, z, w); normalised here.
            static: whether the transform holds at every time.

        Returns:
            False if the transform is older than the cache reaches and was ignored.

        Raises:
            TransformError: empty, equal or overlong frame names, a value that is not finite, a quaternion whose length
                is not 1, or more static frames than a tree can have.
        """
        parent, child = _without_slash(parent), _without_slash(child)
        translation, quaternion = check_transform(parent, child, translation, quaternion)
        sample = _Sample(parent, translation, normalised(quaternion))
        with self._lock:
            if len(self._frames) >= MAX_FRAMES and not {parent, child} <= self._frames:
                self._make_room(child)
            self._frames.update((parent, child))
            edge = self._edges.pop(child, None)  # to the end: edges stay in the order of their last transform
            if static:
                self._edges[child] = _StaticEdge(sample)
                return True
            if not isinstance(edge, _MovingEdge):
                edge = _MovingEdge(self._cache_ns)
            self._edges[child] = edge
            return edge.add(stamp_ns, sample)

    def _make_room(self, child: str) -> None:
        """Forget the half of the moving edges that were not heard of for longest."""
        moving = [name for name, edge in self._edges.items() if isinstance(edge, _MovingEdge)]
        if not moving:
            raise TransformError(f"there are {MAX_FRAMES} static frames already; {quoted(child)} is one too many")
        for name in moving[: (len(moving) + 1) // 2]:
            del self._edges[name]
        parents = (edge.newest.parent for edge in self._edges.values() if edge.newest)
        self._frames = {*self._edges, *parents}

    def set_pose(
        self, parent: str, child: str, stamp_ns: int, parent_T_child: np.ndarray, static: bool = False
    ) -> bool:
        """Add parent_T_child (4, 4) at one time; otherwise as `set_transform`."""
        if not np.isfinite(parent_T_child).all():
            raise TransformError(f"the transform from {quoted(child)} to {quoted(parent)} must be finite")
        rotation = quaternion_of(parent_T_child[:3, :3])
        return self.set_transform(parent, child, stamp_ns, parent_T_child[:3, 3], rotation, static)

    def lookup(self, target: str, source: str, stamp_ns: int) -> np.ndarray:
        """Return target_T_source (4, 4) float64 at a time.

        Raises:
            TransformLookupError: a frame has never been heard of.
            TransformConnectivityError: no chain of transforms joins the frames.
            TransformExtrapolationError: an edge of the chain has no transform at or around that time.
            TransformError: the frames form a loop.
        """
        target, source = _without_slash(target), _without_slash(source)
        with self._lock:
            for frame in (target, source):
                if frame not in self._frames:
                    known = self._known_frames()
                    raise TransformLookupError(
                        f"the frame {quoted(frame)} is not known; {known}. Is it published, and spelt so?"
                    )
            upward = self._ancestors(source, stamp_ns, until={target})
            downward = self._ancestors(target, stamp_ns, until=set(upward))
            common = downward[-1]
            if common not in upward:
                raise self._no_path(target, source, stamp_ns, (common, upward[-1]))
            common_T_source = self._product(upward[: upward.index(common)], stamp_ns)
            common_T_target = self._product(downward[:-1], stamp_ns)
        translation, rotation = _compose(_inverse(common_T_target), common_T_source)
        return pose_matrix(translation, rotation)

    def newest_ns(self, target: str, source: str) -> int | None:
        """Return the newest time at which a lookup can succeed; None if the chain is not known, or wholly static."""
        with self._lock:
            lineages = [self._lineage(_without_slash(frame)) for frame in (target, source)]
            common = set(lineages[0]) & set(lineages[1])
            edges = [self._edges.get(frame) for lineage in lineages for frame in lineage if frame not in common]
            if not common:
                return None
            return min((edge.stamps[-1] for edge in edges if isinstance(edge, _MovingEdge)), default=None)

    def clear(self) -> None:
        """Forget every moving transform; static ones stay, as in tf2, since they are published only once."""
        with self._lock:
            for edge in self._edges.values():
                if isinstance(edge, _MovingEdge):
                    edge.clear()

    def forget_before(self, stamp_ns: int) -> None:
        """Forget what no lookup at or after a time can need: of each edge, all before its last transform by then."""
        with self._lock:
            for edge in self._edges.values():
                if isinstance(edge, _MovingEdge):
                    edge.forget_before(stamp_ns)

    def forget_after(self, stamp_ns: int) -> None:
        """Forget moving transforms that are later than a time."""
        with self._lock:
            for edge in self._edges.values():
                if isinstance(edge, _MovingEdge):
                    edge.forget_after(stamp_ns)

    def frames(self) -> list[str]:
        """Return the names of all frames heard of, sorted."""
        with self._lock:
            return sorted(self._frames)

    def root(self, frame: str) -> str:
        """Return the frame at the top of a frame's tree, by the newest parent of each edge.

        Raises:
            TransformLookupError: the frame has never been heard of.
        """
        frame = _without_slash(frame)
        with self._lock:
            if frame not in self._frames:
                raise TransformLookupError(f"the frame {quoted(frame)} is not known; {self._known_frames()}")
            return self._lineage(frame)[-1]

    def _ancestors(self, frame: str, stamp_ns: int, until: set[str]) -> list[str]:
        """The frame and its ancestors at a time, up to one in `until`, the root, or an edge without data."""
        chain = {frame: None}  # in order, as a list, and its members found at once
        while frame not in until:
            edge = self._edges.get(frame)
            frame = edge.parent(stamp_ns) if edge else None
            if frame is None:
                break
            if frame in chain:
                names = list(chain)
                loop = [shortened(name) for name in (*names[names.index(frame) :][:FRAMES_NAMED], frame)]
                raise TransformError(
                    f"the transforms form a loop: {' → '.join(loop)}."
                    " Two publishers disagree about which frame is the parent"
                )
            chain[frame] = None
            if len(chain) > MAX_CHAIN:
                raise TransformError(f"a chain of transforms must have at most {MAX_CHAIN} frames; it has more")
        return list(chain)

    def _product(self, chain: list[str], stamp_ns: int) -> tuple[Vector, Quaternion]:
        """top_T_first of a chain of frames, each with its edge upward."""
        transform = ((0.0, 0.0, 0.0), IDENTITY)
        for frame in chain:
            sample = self._edges[frame].sample(stamp_ns)
            transform = _compose((sample.translation, sample.rotation), transform)
        return transform

    def _lineage(self, frame: str) -> list[str]:
        """The frame and its ancestors by the newest parent of each edge."""
        chain = {frame: None}
        while (edge := self._edges.get(frame)) and edge.newest and edge.newest.parent not in chain:
            frame = edge.newest.parent
            chain[frame] = None
        return list(chain)

    def _no_path(self, target: str, source: str, stamp_ns: int, ends: tuple[str, str]) -> TransformError:
        """Say why two chains, which ended at `ends`, did not meet."""
        cleared = any(isinstance(edge := self._edges.get(end), _MovingEdge) and not edge.stamps for end in ends)
        joined = set(self._lineage(target)) & set(self._lineage(source))
        if not joined and not cleared:
            return TransformConnectivityError(
                f"no chain of transforms joins {quoted(source)} to {quoted(target)}: {quoted(source)} hangs below"
                f" {quoted(self._lineage(source)[-1])}, {quoted(target)} below {quoted(self._lineage(target)[-1])};"
                f" {self._known_frames()}"
            )
        for end in ends:
            edge = self._edges.get(end)
            if isinstance(edge, _MovingEdge) and edge.parent(stamp_ns) is None:
                return _extrapolation(target, source, stamp_ns, end, edge)
        return TransformExtrapolationError(
            f"the chain from {quoted(source)} to {quoted(target)} did not exist at {_seconds(stamp_ns)}", stamp_ns
        )

    def _known_frames(self) -> str:
        frames = sorted(self._frames)
        if not frames:
            return "no transform was received at all"
        more = len(frames) - FRAMES_NAMED
        named = ", ".join(map(shortened, frames[:FRAMES_NAMED]))
        return f"known frames: {named}" + (f" and {more} more" if more > 0 else "")


def _extrapolation(
    target: str, source: str, stamp_ns: int, child: str, edge: _MovingEdge
) -> TransformExtrapolationError:
    """Name the edge that has no transform around a time, and the times it has."""
    wanted = f"the transform from {quoted(source)} to {quoted(target)} at {_seconds(stamp_ns)} needs"
    if not edge.stamps:
        return TransformExtrapolationError(
            f"{wanted} {quoted(child)} in its parent, of which nothing was received yet", stamp_ns
        )
    oldest, newest = edge.stamps[0], edge.stamps[-1]
    side, near = ("before the oldest", oldest) if stamp_ns < oldest else ("after the newest", newest)
    return TransformExtrapolationError(
        f"{wanted} {quoted(child)} in {quoted(edge.newest.parent)}, which is known from {_seconds(oldest)} to"
        f" {_seconds(newest)}: {_seconds(abs(stamp_ns - near))} {side}{_advice(stamp_ns, newest)}",
        stamp_ns,
        oldest,
        newest,
    )


def _advice(stamp_ns: int, newest_ns: int) -> str:
    """What is wrong with stamps that no recording of one clock has."""
    if stamp_ns == 0:
        return ". The image's header.stamp is 0: have its driver set it"
    if newest_ns == 0:
        return ". The transform's header.stamp is 0: have its publisher set it"
    if abs(stamp_ns - newest_ns) > ONE_CLOCK_NS:
        return ". Images and transforms must be stamped by one clock (use_sim_time, time of day or since start)"
    return ""


def _compose(a_T_b: tuple[Vector, Quaternion], b_T_c: tuple[Vector, Quaternion]) -> tuple[Vector, Quaternion]:
    """a_T_c."""
    x, y, z = rotate(a_T_b[1], b_T_c[0])
    tx, ty, tz = a_T_b[0]
    return (x + tx, y + ty, z + tz), multiply(a_T_b[1], b_T_c[1])


def _inverse(a_T_b: tuple[Vector, Quaternion]) -> tuple[Vector, Quaternion]:
    """b_T_a."""
    rotation = conjugate(a_T_b[1])
    x, y, z = rotate(rotation, a_T_b[0])
    return (-x, -y, -z), rotation


def _seconds(stamp_ns: int) -> str:
    """A time in seconds with all its nanoseconds, by integers since a float has too few digits for today's clock."""
    sign = "-" if stamp_ns < 0 else ""
    whole, nanoseconds = divmod(abs(stamp_ns), 10**9)
    return f"{sign}{whole}.{nanoseconds:09d} s"


def _without_slash(frame: str) -> str:
    """ROS 1 names began with a slash; tf2 drops one, and so do we."""
    return frame[1:] if frame.startswith("/") else frame
