# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Cameras that were never there: where pictures of a cloud or a mesh are taken from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

ABOVE_DEG = 28.0
FIELD_OF_VIEW = 1.0
"""Width of what is fitted divided by its distance: wide enough for depth to show, without distortion."""

FILLED = 0.9
"""Share of the picture that is filled, in the direction where it is tighter."""


@dataclass(frozen=True, eq=False)
class VirtualCamera:
    """A virtual pinhole camera.

    Attributes:
        view_T_world: (4, 4).
        focal: pixels.
        centre: (2,) principal point, pixels (x, y).
        size: (height, width).
    """

    view_T_world: np.ndarray
    focal: float
    centre: np.ndarray
    size: tuple[int, int]

    @classmethod
    def of_side(
        cls,
        points: np.ndarray,
        world_T_cams: Sequence[np.ndarray],
        side_deg: float,
        size: tuple[int, int],
        down: np.ndarray | None = None,
    ) -> VirtualCamera:
        """Look at points from one side and above, so that all but stray ones fill the picture.

        Args:
            points: (N, 3) metres in the world.
            world_T_cams: poses of the camera, whose mean says where behind and above are.
            side_deg: where from, about the vertical: 0 is behind the camera, positive to its right.
            size: (height, width) of the picture.
            down: (3,) unit vector of gravity; by default the world's axis that is nearest to the cameras' own down.
        """
        world_R_view = _mean_camera(world_T_cams, down) @ _turned(side_deg, ABOVE_DEG)
        pivot = np.median(points, axis=0)
        few = (points[:: max(1, len(points) // 50_000)] - pivot) @ world_R_view
        low, high = np.percentile(few, (1, 99), axis=0)
        path = (camera_centres(world_T_cams) - pivot) @ world_R_view
        seen = np.concatenate((few[((few >= low) & (few <= high)).all(axis=1)], path))
        low, high = seen.min(axis=0), seen.max(axis=0)
        distance = np.max(high[:2] - low[:2]) / FIELD_OF_VIEW + max(0.0, -low[2])
        view_T_world = np.eye(4)
        view_T_world[:3, :3] = world_R_view.T
        view_T_world[:3, 3] = (0.0, 0.0, distance) - world_R_view.T @ pivot
        pixels = seen[:, :2] / (seen[:, 2:] + distance)
        low, high = pixels.min(axis=0), pixels.max(axis=0)
        extent = np.array(size[::-1])
        focal = float((FILLED * extent / np.maximum(high - low, 1e-9)).min())
        return cls(view_T_world, focal, extent / 2 - focal * (low + high) / 2, size)

    @classmethod
    def behind(cls, world_T_cam: np.ndarray, distance_m: float, size: tuple[int, int]) -> VirtualCamera:
        """Look where a camera (4, 4) does, from so far behind it."""
        view_T_world = np.linalg.inv(world_T_cam)
        view_T_world[2, 3] += distance_m
        return cls(view_T_world, size[1] / FIELD_OF_VIEW, (np.array(size[::-1]) - 1) / 2, size)

    def enlarged(self, factor: int) -> VirtualCamera:
        """Return the camera whose picture has so many times as many pixels on each side."""
        size = (self.size[0] * factor, self.size[1] * factor)
        return replace(self, focal=self.focal * factor, centre=(self.centre + 0.5) * factor - 0.5, size=size)

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return pixels (N, 2) and distances along the view's axis (N,) of points of the world (N, 3)."""
        seen = points @ self.view_T_world[:3, :3].T + self.view_T_world[:3, 3]
        away = np.maximum(seen[:, 2], 1e-3)
        return seen[:, :2] / away[:, None] * self.focal + self.centre, away


def camera_centres(world_T_cams: Sequence[np.ndarray]) -> np.ndarray:
    """Return the positions (N, 3) of poses."""
    return np.array([pose[:3, 3] for pose in world_T_cams])


def _mean_camera(world_T_cams: Sequence[np.ndarray], vertical: np.ndarray | None) -> np.ndarray:
    """Axes (3, 3) of a level camera that looks where the others do on average: x right, y down, z forward."""
    down, forward = (np.mean([pose[:3, axis] for pose in world_T_cams], axis=0) for axis in (1, 2))
    if vertical is None:
        # Cameras that look down have a "down" that leans backwards: the nearest of the world's axes is the vertical.
        axis = np.argmax(np.abs(down))
        vertical = np.zeros(3)
        vertical[axis] = np.sign(down[axis])
    level = np.eye(3) - np.outer(vertical, vertical)
    forward = level @ forward
    if np.linalg.norm(forward) < 1e-6:  # all look straight down or up: any direction will do
        forward = level[np.argmin(np.abs(vertical))]
    forward /= np.linalg.norm(forward)
    return np.stack((np.cross(vertical, forward), vertical, forward), axis=1)


def _turned(side_deg: float, above_deg: float) -> np.ndarray:
    """Rotation (3, 3) of a view about the vertical and then downwards, in the axes of the level camera."""
    side = cv2.Rodrigues(np.array((0.0, -np.radians(side_deg), 0.0)))[0]
    return side @ cv2.Rodrigues(np.array((-np.radians(above_deg), 0.0, 0.0)))[0]
