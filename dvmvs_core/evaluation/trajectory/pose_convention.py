# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.


"""Which convention of poses the images agree with: camera-to-world or its inverse, and the axes of the camera.

Poses of a camera with axes c' are world_T_c' = world_T_cam cam_T_c'. The world's own axes make no difference to
relative poses, so that a mirrored (left-handed) world with its mirrored camera shows as a c'_T_cam of determinant -1.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from dvmvs_core.evaluation.trajectory.pose_track import PoseTrack
from dvmvs_core.evaluation.trajectory.view_pairs import ViewPairs, resampled, robust_cost

MUCH_BETTER = 0.6
"""Another convention is believed if it leaves less than this share of the residual of the poses as recorded."""

SURE = 0.975
"""Share of the random choices of stretches in which it must be the better one."""

KNOWN = {
    ((1, 0, 0), (0, -1, 0), (0, 0, -1)): "OpenGL axes (x right, y up, looking along -z: Blender, nerfstudio, ARKit)",
    ((0, 0, 1), (-1, 0, 0), (0, -1, 0)): "the axes of a robot's camera_link (x forward, y left, z up)",
    ((1, 0, 0), (0, -1, 0), (0, 0, 1)): "left-handed axes (x right, y up, z forward: Unity)",
    ((-1, 0, 0), (0, -1, 0), (0, 0, 1)): "a camera that is upside down",
    ((0, -1, 0), (1, 0, 0), (0, 0, 1)): "a camera turned by 90 degrees about its optical axis",
    ((0, 1, 0), (-1, 0, 0), (0, 0, 1)): "a camera turned by 90 degrees about its optical axis",
    ((-1, 0, 0), (0, -1, 0), (0, 0, -1)): "positions with the wrong sign",
}
"""Names of c'_T_cam, which takes x right, y down, z forward to the axes of the poses."""


@dataclass(frozen=True, eq=False)
class PoseConvention:
    """How poses are to be read.

    Attributes:
        inverted: whether they are camera-to-world only after inversion.
        axes: (3, 3) c'_T_cam, from x right, y down, z forward to the camera axes of the poses.
    """

    inverted: bool
    axes: np.ndarray

    @property
    def as_recorded(self) -> bool:
        """Whether poses are what they should be: camera-to-world, x right, y down, z forward."""
        return not self.inverted and bool((self.axes == np.eye(3)).all())

    @property
    def rank(self) -> int:
        """How unusual it is; of conventions that fit equally well the most usual one is named."""
        named = self._key in KNOWN or bool((self.axes == np.eye(3)).all())
        return 4 * (not named) + 2 * self.inverted + (np.linalg.det(self.axes) < 0)

    @property
    def _key(self) -> tuple:
        return tuple(tuple(int(value) for value in row) for row in self.axes)

    def __str__(self) -> str:
        """Name it in words."""
        said = ["world-to-camera transforms (their inverses are the poses)"] if self.inverted else []
        if not (self.axes == np.eye(3)).all():
            words = [
                f"{name} is {_axis(column)}"
                for name, column in zip(("right", "down", "forward"), self.axes.T, strict=True)
            ]
            said.append(f"poses with {KNOWN.get(self._key) or 'camera axes where ' + ', '.join(words)}")
        return " and ".join(said) or "camera-to-world poses, x right, y down, z forward"

    def applied(self, poses: PoseTrack) -> PoseTrack:
        """Return the poses as camera-to-world, x right, y down, z forward, in a world of their own."""
        world_T_cam = np.linalg.inv(poses.world_T_cam) if self.inverted else poses.world_T_cam.copy()
        axes = np.eye(4)
        axes[:3, :3] = self.axes
        world_T_cam = world_T_cam @ axes
        if np.linalg.det(self.axes) < 0:
            mirror = np.eye(4)
            mirror[:3, :3] = self.axes.T
            world_T_cam = mirror @ world_T_cam
        return poses.replaced(world_T_cam)


def _axis(column: np.ndarray) -> str:
    at = int(np.argmax(np.abs(column)))
    return f"{'+' if column[at] > 0 else '-'}{'xyz'[at]}"


def conventions() -> list[PoseConvention]:
    """Return all conventions, the usual one first: 2 directions, 24 turns, and each of them mirrored."""
    axes = []
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1.0, -1.0), repeat=3):
            matrix = np.zeros((3, 3))
            matrix[order, range(3)] = signs
            axes.append(matrix)
    found = [PoseConvention(inverted, matrix) for inverted in (False, True) for matrix in axes]
    return sorted(found, key=lambda one: (not one.as_recorded, one.rank))


def find_convention(pairs: ViewPairs, poses: PoseTrack) -> PoseConvention:
    """Return the convention that the images agree with: as recorded, unless another one is clearly better.

    Args:
        pairs: points of the images, with parallax.
        poses: as they are recorded.
    """
    candidates = conventions()
    costs = np.array(
        [robust_cost(pairs, pairs.relative_poses(candidate.applied(poses))) for candidate in candidates]
    )  # (C, P)
    known = np.isfinite(costs).all(axis=0)
    if not known.any():
        return candidates[0]
    costs = costs[:, known]
    total = costs.mean(axis=1)
    best = int(np.argmin(total))
    weights = resampled(pairs.stretch[known])
    # Of those that fit as well as the best within chance, the most usual.
    for candidate in range(best):
        if ((costs[candidate] - costs[best]) @ weights.T <= 0).mean() > 1 - SURE:
            best = candidate
            break
    sure = ((costs[0] - costs[best]) @ weights.T > 0).mean() >= SURE
    residual_px, recorded_px = (_residual_px(pairs, candidates[one].applied(poses)) for one in (best, 0))
    return candidates[best] if sure and residual_px < MUCH_BETTER * recorded_px else candidates[0]


def _residual_px(pairs: ViewPairs, poses: PoseTrack) -> float:
    return float(np.nanmedian(pairs.distances_px(pairs.relative_poses(poses))))
