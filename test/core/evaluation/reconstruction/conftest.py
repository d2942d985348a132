# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Surfaces of known shape, and cameras that look at them."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from dvmvs_core.evaluation.reconstruction.depth_views import DepthView
from dvmvs_core.evaluation.reconstruction.mesh import Mesh

ORANGE = (240, 140, 20)

HEIGHT, WIDTH = 64, 96
K = np.array(((90.0, 0.0, 47.5), (0.0, 90.0, 31.5), (0.0, 0.0, 1.0)))
DISTANCE_M = 2.0


@pytest.fixture(scope="session")
def surfaces() -> SimpleNamespace:
    """Functions that make meshes: a rectangle, several meshes together, a room; and the cameras in that room."""
    return SimpleNamespace(rectangle=_rectangle, together=_together, room=_room, cameras=_cameras)


def _rectangle(corner, along, across, colour=ORANGE, steps: int = 12) -> Mesh:
    """A rectangle that faces towards along × across."""
    corner, along, across = (np.array(vector, np.float64) for vector in (corner, along, across))
    s, t = np.meshgrid(np.linspace(0, 1, steps), np.linspace(0, 1, steps))
    points = corner + s[..., None] * along + t[..., None] * across
    index = np.arange(steps * steps).reshape(steps, steps)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]
    triangles = np.concatenate((np.stack((a, b, c), -1).reshape(-1, 3), np.stack((a, c, d), -1).reshape(-1, 3)))
    normal = np.cross(along, across) / np.linalg.norm(np.cross(along, across))
    count = steps * steps
    return Mesh(
        points.reshape(-1, 3).astype(np.float32),
        np.tile(normal, (count, 1)).astype(np.float32),
        np.tile(colour, (count, 1)).astype(np.uint8),
        triangles.astype(np.int32),
    )


def _together(*meshes: Mesh) -> Mesh:
    starts = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes[:-1])])
    return Mesh(
        *(np.concatenate([getattr(mesh, part) for mesh in meshes]) for part in ("vertices", "normals", "colours")),
        np.concatenate([mesh.triangles + start for mesh, start in zip(meshes, starts, strict=True)]).astype(np.int32),
    )


def _room(world_R_room: np.ndarray) -> Mesh:
    """A floor of 4 m × 3 m in orange, a grey ceiling 2.5 m above it, and one blue wall."""
    x, y, z = world_R_room.T
    floor = _rectangle((0, 0, 0), 4 * x, 3 * y)
    ceiling = _rectangle(2.5 * z, 3 * y, 4 * x, (120, 120, 120))
    wall = _rectangle(3 * y, 4 * x, 2.5 * z, (20, 40, 230))
    return _together(floor, ceiling, wall)


def _cameras(world_R_room: np.ndarray) -> np.ndarray:
    """Cameras held upright in that room, that look down by 35° at all sides."""
    poses = np.tile(np.eye(4), (6, 1, 1))
    level = np.array(((1, 0, 0), (0, 0, 1), (0, -1, 0)), np.float64)  # room_R_cam of one that looks along y
    for i, pose in enumerate(poses):
        turn = Rotation.from_euler("z", 0.4 * i).as_matrix()
        pose[:3, :3] = world_R_room @ turn @ level @ Rotation.from_euler("x", -35, degrees=True).as_matrix()
        pose[:3, 3] = world_R_room @ (2.0, 1.0 + 0.1 * i, 1.6)
    return poses


@pytest.fixture(scope="session")
def walls() -> SimpleNamespace:
    """Functions that make views of a wall with a pattern, and its depth times a factor; the wall's true distance, and
    the pixels that cameras a few steps away see as well."""
    return SimpleNamespace(view=_view, depth=_wall, K=K, distance_m=DISTANCE_M, inner=(slice(14, -14), slice(20, -20)))


def _view(number: int, depth: np.ndarray, plain: bool = False, is_keyframe: bool = True) -> DepthView:
    """What a camera sees after `number` steps of 8 cm to the right."""
    x = 0.08 * number
    columns, rows = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    across = (columns - K[0, 2]) / K[0, 0] * DISTANCE_M + x
    down = (rows - K[1, 2]) / K[1, 1] * DISTANCE_M
    waves = np.sin(31 * across + 7 * down) + np.sin(53 * across - 19 * down) + np.sin(17 * down + 11 * across**2)
    grey = np.full((HEIGHT, WIDTH), 128.0) if plain else 128 + 40 * waves
    world_T_cam = np.eye(4)
    world_T_cam[0, 3] = x
    image = np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, axis=2)
    return DepthView(number, depth.astype(np.float32), image, K, world_T_cam, is_keyframe=is_keyframe)


def _wall(factor: float = 1.0) -> np.ndarray:
    return np.full((HEIGHT, WIDTH), DISTANCE_M * factor)
