# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.


"""Pictures of a cloud of coloured points in the world, from chosen sides, with axes and the camera's path."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

SUPERSAMPLING = 2
BACKGROUND = (24, 26, 31)
TEXT_COLOUR = (220, 220, 220)
PATH_COLOUR = (255, 176, 32)
AXIS_COLOURS = {"x": (230, 60, 60), "y": (70, 190, 70), "z": (80, 130, 255)}

SIDES_DEG = (-50.0, 40.0)
"""Where the two sides are looked at from, about the vertical: 0 is behind the camera, positive to its right."""

ABOVE_DEG = 28.0
FIELD_OF_VIEW = 1.0
"""Width of the fitted cloud divided by its distance: wide enough for depth to show, without distortion."""

FILLED = 0.9
"""Share of the picture that the cloud fills, in the direction where it is tighter."""

VOXEL_M = 0.015
LARGEST_SPLAT = 7


class Cloud:
    """Points gathered from views, at most one for each cube of `VOXEL_M`: the latest.

    Attributes:
        points: (N, 3) float32 metres in the world frame.
        colours: (N, 3) uint8 RGB.
    """

    def __init__(self) -> None:
        self.points = np.empty((0, 3), np.float32)
        self.colours = np.empty((0, 3), np.uint8)

    def add(self, points: np.ndarray, colours: np.ndarray, world_T_cam: np.ndarray) -> None:
        """Add points of the camera (N, 3), colours (N, 3) uint8, seen from a pose."""
        world = points @ world_T_cam[:3, :3].T + world_T_cam[:3, 3]
        # Latest first, since unique keeps the first of each.
        points = np.concatenate((world.astype(np.float32), self.points))
        colours = np.concatenate((colours, self.colours))
        cube = np.floor(points / VOXEL_M).astype(np.int64) & 0x1FFFFF  # 21 bits an axis: 31 km
        _, kept = np.unique(cube[:, 0] << 42 | cube[:, 1] << 21 | cube[:, 2], return_index=True)
        self.points, self.colours = points[kept], colours[kept]


@dataclass(frozen=True, eq=False)
class View:
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
    def of_side(cls, cloud: Cloud, world_T_cams: Sequence[np.ndarray], side_deg: float, size: tuple[int, int]) -> View:
        """Look at a cloud from one side and above, so that all but stray points fill the picture.

        Args:
            cloud: what to look at.
            world_T_cams: poses of the camera, whose mean says where behind and above are.
            side_deg: as in `SIDES_DEG`.
            size: (height, width) of the picture.
        """
        world_R_view = _mean_camera(world_T_cams) @ _turned(side_deg, ABOVE_DEG)
        pivot = np.median(cloud.points, axis=0)
        few = (cloud.points[:: max(1, len(cloud.points) // 50_000)] - pivot) @ world_R_view
        low, high = np.percentile(few, (1, 99), axis=0)
        path = (_centres(world_T_cams) - pivot) @ world_R_view
        seen = np.concatenate((few[((few >= low) & (few <= high)).all(axis=1)], path))
        low, high = seen.min(axis=0), seen.max(axis=0)
        distance = np.max(high[:2] - low[:2]) / FIELD_OF_VIEW + max(0.0, -low[2])
        view_T_world = np.eye(4)
        view_T_world[:3, :3] = world_R_view.T
        view_T_world[:3, 3] = (0.0, 0.0, distance) - world_R_view.T @ pivot
        pixels = seen[:, :2] / (seen[:, 2:] + distance)
        low, high = pixels.min(axis=0), pixels.max(axis=0)
        extent = np.array(size[::-1])
        focal = float((FILLED * extent / (high - low)).min())
        return cls(view_T_world, focal, extent / 2 - focal * (low + high) / 2, size)

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return pixels (N, 2) and distances along the view's axis (N,) of points of the world (N, 3)."""
        seen = points @ self.view_T_world[:3, :3].T + self.view_T_world[:3, 3]
        away = np.maximum(seen[:, 2], 1e-3)
        return seen[:, :2] / away[:, None] * self.focal + self.centre, away


def draw_sides(cloud: Cloud, world_T_cams: Sequence[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """Draw a cloud from two sides, next to each other: RGB (height, width, 3) of `size`."""
    half = (size[0], size[1] // len(SIDES_DEG))
    sides = [draw_cloud(cloud, View.of_side(cloud, world_T_cams, side, half), world_T_cams) for side in SIDES_DEG]
    return np.hstack(sides)


def draw_cloud(cloud: Cloud, view: View, world_T_cams: Sequence[np.ndarray]) -> np.ndarray:
    """Draw a cloud, the camera's path and where it ends, the directions of the world's axes, and a bar of 1 m.

    Args:
        cloud: what to draw.
        view: where to look from.
        world_T_cams: poses of the camera, one at least.

    Returns:
        RGB (height, width, 3) of the view's size.
    """
    large = View(view.view_T_world, view.focal * SUPERSAMPLING, view.centre * SUPERSAMPLING, view.size)
    height, width = (side * SUPERSAMPLING for side in view.size)
    picture = np.full((height, width, 3), BACKGROUND, np.uint8)
    if len(cloud.points):
        _splat(picture, large, cloud)
    _draw_lines(picture, large, [_centres(world_T_cams)], PATH_COLOUR)
    length = 0.18 * np.median(large.project(cloud.points)[1]) if len(cloud.points) else 0.3
    _draw_lines(picture, large, _pyramid(world_T_cams[-1], 0.4 * length), PATH_COLOUR)
    picture = cv2.resize(picture, view.size[::-1], interpolation=cv2.INTER_AREA)
    metre_px = view.focal / np.median(view.project(cloud.points)[1]) if len(cloud.points) else 0.0
    _draw_axes(picture, view, metre_px)
    return picture


def _splat(picture: np.ndarray, view: View, cloud: Cloud) -> None:
    """Paint each point as a square as large as its cube, far points first."""
    pixels, away = view.project(cloud.points)
    order = np.argsort(-away)
    corner, colours = pixels[order].round().astype(np.int32), cloud.colours[order]
    side = np.clip(np.ceil(1.3 * view.focal * VOXEL_M / away[order]), 2, LARGEST_SPLAT).astype(np.int32)
    height, width = picture.shape[:2]
    # One scatter for each pixel of the largest square: later writes win, so near points cover far ones in each.
    for y in range(side.max()):
        for x in range(side.max()):
            u, v = corner[:, 0] + x - side // 2, corner[:, 1] + y - side // 2
            drawn = (x < side) & (y < side) & (u >= 0) & (u < width) & (v >= 0) & (v < height)
            picture[v[drawn], u[drawn]] = colours[drawn]


def _draw_lines(picture: np.ndarray, view: View, lines: Sequence[np.ndarray], colour: tuple[int, int, int]) -> None:
    """Draw polylines of the world, each (N, 3)."""
    for line in lines:
        pixels = view.project(line)[0].round().astype(np.int32)
        cv2.polylines(picture, [pixels], False, colour, 2 * SUPERSAMPLING, cv2.LINE_AA)


def _draw_axes(picture: np.ndarray, view: View, metre_px: float) -> None:
    """Draw the directions of the world's axes in the lower left corner, and a bar of 1 m beside them."""
    height = picture.shape[0]
    origin = np.array((44, height - 44))
    for i, (name, colour) in enumerate(AXIS_COLOURS.items()):
        tip = (origin + 30 * view.view_T_world[:2, i]).round().astype(int).tolist()
        cv2.line(picture, origin.tolist(), tip, colour, 2, cv2.LINE_AA)
        place = (origin + 40 * view.view_T_world[:2, i] + (-4, 4)).round().astype(int).tolist()
        cv2.putText(picture, name, place, cv2.FONT_HERSHEY_SIMPLEX, 0.4, colour, 1, cv2.LINE_AA)
    left, right, y = 96, 96 + round(metre_px), height - 24
    cv2.line(picture, (left, y), (right, y), TEXT_COLOUR, 2)
    cv2.putText(picture, "1 m", (left, y - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.4, TEXT_COLOUR, 1, cv2.LINE_AA)


def _mean_camera(world_T_cams: Sequence[np.ndarray]) -> np.ndarray:
    """Axes (3, 3) of a level camera that looks where the others do on average: x right, y down, z forward."""
    down, forward = (np.mean([pose[:3, axis] for pose in world_T_cams], axis=0) for axis in (1, 2))
    # Cameras that look down have a "down" that leans backwards: of the world's axes, the nearest one is the vertical.
    axis = np.argmax(np.abs(down))
    vertical = np.zeros(3)
    vertical[axis] = np.sign(down[axis])
    forward = forward - vertical * (forward @ vertical)
    forward /= max(np.linalg.norm(forward), 1e-9)
    return np.stack((np.cross(vertical, forward), vertical, forward), axis=1)


def _turned(side_deg: float, above_deg: float) -> np.ndarray:
    """Rotation (3, 3) of a view about the vertical and then downwards, in the axes of the level camera."""
    side = cv2.Rodrigues(np.array((0.0, -np.radians(side_deg), 0.0)))[0]
    return side @ cv2.Rodrigues(np.array((-np.radians(above_deg), 0.0, 0.0)))[0]


def _centres(world_T_cams: Sequence[np.ndarray]) -> np.ndarray:
    return np.array([pose[:3, 3] for pose in world_T_cams])


def _pyramid(world_T_cam: np.ndarray, length_m: float) -> list[np.ndarray]:
    """Edges of a camera's pyramid of view: its base, and two polylines over the tip."""
    corners = length_m * np.array(((-0.6, -0.45, 1), (0.6, -0.45, 1), (0.6, 0.45, 1), (-0.6, 0.45, 1)))
    a, b, c, d = corners @ world_T_cam[:3, :3].T + world_T_cam[:3, 3]
    tip = world_T_cam[:3, 3]
    return [np.array((a, b, c, d, a)), np.array((a, tip, c)), np.array((b, tip, d))]
