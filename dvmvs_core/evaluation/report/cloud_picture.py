# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.


"""Pictures of a cloud of coloured points in the world, from chosen sides, with axes and the camera's path."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from dvmvs_core.evaluation.prediction.virtual_camera import VirtualCamera, camera_centres

SUPERSAMPLING = 2
BACKGROUND = (24, 26, 31)
TEXT_COLOUR = (220, 220, 220)
PATH_COLOUR = (255, 176, 32)
AXIS_COLOURS = {"x": (230, 60, 60), "y": (70, 190, 70), "z": (80, 130, 255)}

SIDES_DEG = (-50.0, 40.0)
"""Where the two sides are looked at from, see `VirtualCamera.of_side`."""

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


def draw_sides(cloud: Cloud, world_T_cams: Sequence[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """Draw a cloud from two sides, next to each other: RGB (height, width, 3) of `size`."""
    half = (size[0], size[1] // len(SIDES_DEG))
    sides = [
        draw_cloud(cloud, VirtualCamera.of_side(cloud.points, world_T_cams, side, half), world_T_cams)
        for side in SIDES_DEG
    ]
    return np.hstack(sides)


def draw_cloud(cloud: Cloud, view: VirtualCamera, world_T_cams: Sequence[np.ndarray]) -> np.ndarray:
    """Draw a cloud, the camera's path and where it ends, the directions of the world's axes, and a bar of 1 m.

    Args:
        cloud: what to draw.
        view: where to look from.
        world_T_cams: poses of the camera, one at least.

    Returns:
        RGB (height, width, 3) of the view's size.
    """
    large = view.enlarged(SUPERSAMPLING)
    picture = np.full((*large.size, 3), BACKGROUND, np.uint8)
    if len(cloud.points):
        _splat(picture, large, cloud)
    _draw_lines(picture, large, [camera_centres(world_T_cams)], PATH_COLOUR)
    length = 0.18 * np.median(large.project(cloud.points)[1]) if len(cloud.points) else 0.3
    _draw_lines(picture, large, _pyramid(world_T_cams[-1], 0.4 * length), PATH_COLOUR)
    picture = cv2.resize(picture, view.size[::-1], interpolation=cv2.INTER_AREA)
    metre_px = view.focal / np.median(view.project(cloud.points)[1]) if len(cloud.points) else 0.0
    _draw_axes(picture, view, metre_px)
    return picture


def _splat(picture: np.ndarray, view: VirtualCamera, cloud: Cloud) -> None:
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


def _draw_lines(
    picture: np.ndarray, view: VirtualCamera, lines: Sequence[np.ndarray], colour: tuple[int, int, int]
) -> None:
    """Draw polylines of the world, each (N, 3)."""
    for line in lines:
        pixels = view.project(line)[0].round().astype(np.int32)
        cv2.polylines(picture, [pixels], False, colour, 2 * SUPERSAMPLING, cv2.LINE_AA)


def _draw_axes(picture: np.ndarray, view: VirtualCamera, metre_px: float) -> None:
    """Draw the directions of the world's axes in the lower left corner, and a bar of 1 m next to them."""
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


def _pyramid(world_T_cam: np.ndarray, length_m: float) -> list[np.ndarray]:
    """Edges of a camera's pyramid of view: its base, and two polylines over the tip."""
    corners = length_m * np.array(((-0.6, -0.45, 1), (0.6, -0.45, 1), (0.6, 0.45, 1), (-0.6, 0.45, 1)))
    a, b, c, d = corners @ world_T_cam[:3, :3].T + world_T_cam[:3, 3]
    tip = world_T_cam[:3, 3]
    return [np.array((a, b, c, d, a)), np.array((a, tip, c)), np.array((b, tip, d))]
