# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Poses over time, from translations and quaternions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from dvmvs_core.errors import DataError

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
