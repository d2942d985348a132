# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The camera's pose over time, between the poses of a sequence's images."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import numpy as np
from scipy.spatial.transform import Rotation, Slerp

from dvmvs_core.data.sequence import PoseItem
from dvmvs_core.geometry import is_finite_pose

LONGEST_GAP_S = 0.5
"""Between poses farther apart than this there is no telling where the camera was."""


class PoseTrack:
    """Interpolates poses: translations linearly, rotations spherically.

    Args:
        items: the poses of a sequence in the order of time; those that are not finite are left out.

    Attributes:
        index: (N,) positions of the images in their sequence.
        stamps_s: (N,) their times from the first on, seconds.
        world_T_cam: (N, 4, 4) poses.
    """

    def __init__(self, items: Iterable[PoseItem]) -> None:
        kept = [item for item in items if is_finite_pose(item.world_T_cam)]
        self.index = np.array([item.index for item in kept], dtype=np.int64)
        first_ns = kept[0].stamp_ns if kept else 0
        self.stamps_s = np.array([item.stamp_ns - first_ns for item in kept], dtype=np.float64) * 1e-9
        self.world_T_cam = np.array([item.world_T_cam for item in kept], dtype=np.float64).reshape(-1, 4, 4)
        self._interpolate()

    def replaced(self, world_T_cam: np.ndarray) -> PoseTrack:
        """Return a track of the same images and times with other poses (N, 4, 4)."""
        other = copy.copy(self)
        other.world_T_cam = world_T_cam
        other._interpolate()
        return other

    def _interpolate(self) -> None:
        R = self.world_T_cam[:, :3, :3]
        self._slerp = Slerp(self.stamps_s, Rotation.from_matrix(R)) if len(R) > 1 else None

    def __len__(self) -> int:
        """Return the number of poses."""
        return len(self.index)

    def stamps_of(self, index: np.ndarray) -> np.ndarray:
        """Return the times of images by their positions, any shape, seconds; NaN of those without a pose."""
        if not len(self):
            return np.full(np.shape(index), np.nan)
        place = np.searchsorted(self.index, index).clip(0, len(self) - 1)
        return np.where(self.index[place] == index, self.stamps_s[place], np.nan)

    def at(self, stamps_s: np.ndarray) -> np.ndarray:
        """Return (N, 4, 4) poses at times (N,), seconds; NaN outside of the track and in its gaps."""
        poses = np.full((len(stamps_s), 4, 4), np.nan)
        if self._slerp is None:
            return poses
        known = (stamps_s >= self.stamps_s[0]) & (stamps_s <= self.stamps_s[-1])
        after = np.searchsorted(self.stamps_s, stamps_s).clip(1, len(self) - 1)
        exact = (self.stamps_s[after] == stamps_s) | (self.stamps_s[after - 1] == stamps_s)
        known &= exact | (self.stamps_s[after] - self.stamps_s[after - 1] <= LONGEST_GAP_S)
        at = stamps_s[known]
        poses[known] = np.eye(4)
        poses[known, :3, :3] = self._slerp(at).as_matrix()
        for axis in range(3):
            poses[known, axis, 3] = np.interp(at, self.stamps_s, self.world_T_cam[:, axis, 3])
        return poses
