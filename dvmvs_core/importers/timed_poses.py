# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Poses over time: lines that begin with a stamp, what belongs together by time, and poses between recorded ones."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from dvmvs_core.data.text_lines import read_words, stamp_to_ns, to_numbers
from dvmvs_core.errors import DataError
from dvmvs_core.foreign import shortened
from dvmvs_core.importers.dataset import SkippedFrame

SECOND_NS = 1_000_000_000
MILLISECOND_NS = 1_000_000
MICROSECOND_NS = 1_000


def read_stamped_lines(path: Path, count: int) -> tuple[np.ndarray, list[list[str]]]:
    """Read lines that begin with a time in seconds, or in nanoseconds where it has 16 digits or more.

    Args:
        path: the file.
        count: words that each line must have, the time included.

    Returns:
        The stamps (n,) int64 nanoseconds, exact, and the other words of each line. Of lines with the same stamp the
        first counts.

    Raises:
        DataError: if the file is missing or empty, a line is wrong, or the stamps go back.
    """
    stamps_ns: list[int] = []
    lines = []
    for number, (seconds, *words) in read_words(path, count):
        stamp_ns = stamp_to_ns(seconds)
        if stamp_ns is None:
            raise DataError(f"{path}, line {number} must begin with a time in seconds; got {shortened(seconds)}")
        if stamps_ns and stamp_ns < stamps_ns[-1]:
            before = Decimal(stamps_ns[-1]) / SECOND_NS
            raise DataError(
                f"{path}, line {number}: stamps must not go back; got {shortened(seconds)} s after {before} s. Sort it"
            )
        if not stamps_ns or stamp_ns > stamps_ns[-1]:
            stamps_ns.append(stamp_ns)
            lines.append(words)
    if not lines:
        raise DataError(f"{path} must hold at least one line of {count} words; got none")
    return np.array(stamps_ns, dtype=np.int64), lines


def nearest(stamps_ns: np.ndarray, others_ns: np.ndarray) -> np.ndarray:
    """Return for each stamp (n,) the index of the nearest of the others (m,), both increasing; at a tie the earlier."""
    after = np.clip(np.searchsorted(others_ns, stamps_ns), 1, max(len(others_ns) - 1, 1))
    before = after - 1
    after = np.minimum(after, len(others_ns) - 1)
    return np.where(stamps_ns - others_ns[before] <= others_ns[after] - stamps_ns, before, after)


def pair(stamps_ns: np.ndarray, others_ns: np.ndarray, max_gap_ns: int) -> np.ndarray:
    """Return for each stamp (n,) the index of its partner among the others (m,), or -1.

    Two are partners if each is the nearest to the other and they are at most the gap apart, so that nothing is used
    twice.
    """
    partner = nearest(stamps_ns, others_ns)
    mutual = nearest(others_ns, stamps_ns)[partner] == np.arange(len(stamps_ns))
    close = np.abs(stamps_ns - others_ns[partner]) <= max_gap_ns
    return np.where(mutual & close, partner, -1)


NORM_TOLERANCE = 0.01


class Trajectory:
    """A camera that was located at some times.

    Args:
        stamps_ns: (n,) int64 increasing.
        translations: (n, 3) metres.
        quaternions: (n, 4) x y z w.
        path: the file that they come from, for the message.

    Raises:
        DataError: if a number is not finite or a quaternion is not a rotation.
    """

    def __init__(self, stamps_ns: np.ndarray, translations: np.ndarray, quaternions: np.ndarray, path: Path) -> None:
        self._stamps_ns = stamps_ns
        self._translations = translations
        self._rotations = rotations_of(quaternions, path)
        if not np.isfinite(translations).all():
            raise DataError(f"{path} must hold finite positions; got NaN or infinity")

    @property
    def span_ns(self) -> tuple[int, int]:
        """The first and the last time."""
        return int(self._stamps_ns[0]), int(self._stamps_ns[-1])

    def interpolate(self, stamps_ns: np.ndarray, max_gap_ns: int) -> np.ndarray:
        """Return the poses at the given times, linear in position and along the shortest arc in rotation.

        Interpolated and not nearest: at 30 Hz and 100 Hz motion capture, the nearest pose is up to 5 ms old, 5 mm at
        1 m/s.

        Args:
            stamps_ns: (m,) times.
            max_gap_ns: how far away in time the pose before and the pose after may be.

        Returns:
            (m, 4, 4) world_T_cam, NaN where a neighbour is missing or too far away.
        """
        known = self._stamps_ns
        after = np.clip(np.searchsorted(known, stamps_ns), 0, len(known) - 1)
        exact = known[after] == stamps_ns
        before = np.where(exact, after, after - 1)
        usable = (before >= 0) & (known[after] >= stamps_ns)
        usable &= (stamps_ns - known[before] <= max_gap_ns) & (known[after] - stamps_ns <= max_gap_ns)
        before, after = before[usable], after[usable]
        ratio = (stamps_ns[usable] - known[before]) / np.maximum(known[after] - known[before], 1)
        poses = np.full((len(stamps_ns), 4, 4), np.nan)
        if len(before):
            start, end = self._rotations[before], self._rotations[after]
            turn = Rotation.from_rotvec(ratio[:, None] * (start.inv() * end).as_rotvec())
            step = self._translations[after] - self._translations[before]
            poses[usable] = poses_of(start * turn, self._translations[before] + ratio[:, None] * step)
        return poses


def read_trajectory(path: Path) -> Trajectory:
    """Read lines of TUM's format: time tx ty tz qx qy qz qw.

    Raises:
        DataError: as `read_stamped_lines` and `Trajectory`.
    """
    stamps_ns, lines = read_stamped_lines(path, 8)
    numbers = np.array([to_numbers(words, str(path)) for words in lines])
    return Trajectory(stamps_ns, numbers[:, :3], numbers[:, 3:], path)


def rotations_of(quaternions: np.ndarray, path: Path) -> Rotation:
    """Return the rotations of quaternions (n, 4) x y z w.

    Raises:
        DataError: if the length of one is not 1 within a hundredth, naming the file.
    """
    norms = np.linalg.norm(quaternions, axis=1)
    wrong = np.flatnonzero(~(np.abs(norms - 1) <= NORM_TOLERANCE))
    if len(wrong):
        raise DataError(
            f"{path} must hold quaternions of length 1; pose {wrong[0] + 1} has {norms[wrong[0]]:g}."
            " Are its columns in order?"
        )
    return Rotation.from_quat(quaternions)


def poses_of(rotations: Rotation, translations: np.ndarray) -> np.ndarray:
    """Return the poses (n, 4, 4) of n rotations and translations (n, 3)."""
    poses = np.tile(np.eye(4), (len(translations), 1, 1))
    poses[:, :3, :3] = rotations.as_matrix()
    poses[:, :3, 3] = translations
    return poses


def poses_at(
    trajectory: Trajectory, stamps_ns: np.ndarray, names: list[str], max_gap_ms: float, path: Path
) -> list[np.ndarray | SkippedFrame]:
    """Return for each image its pose (4, 4), or why it is left out.

    Args:
        trajectory: the poses.
        stamps_ns: (n,) int64 times of the images in the trajectory's clock.
        names: of the images.
        max_gap_ms: how far away the pose before and the pose after may be.
        path: the trajectory's file, for the message.

    Raises:
        DataError: if no image has a pose, saying which times do not meet.
    """
    poses = trajectory.interpolate(stamps_ns, round(max_gap_ms * MILLISECOND_NS))
    known = np.isfinite(poses[:, 0, 0])
    if not known.any():
        first, last = trajectory.span_ns
        raise DataError(
            f"no image has a pose within {max_gap_ms:g} ms: images are from {stamps_ns[0] / 1e9:.3f} to"
            f" {stamps_ns[-1] / 1e9:.3f} s, and the poses of {path} from {first / 1e9:.3f} to {last / 1e9:.3f} s."
            " If the clocks differ, give the offset"
        )
    reason = f"no pose within {max_gap_ms:g} ms before and after it"
    return [pose if good else SkippedFrame(name, reason) for pose, good, name in zip(poses, known, names, strict=True)]
