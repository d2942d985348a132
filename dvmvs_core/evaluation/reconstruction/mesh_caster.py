# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Rays into a mesh: what a viewer sees of it, and how much light falls there.

Rooms are shown like a doll's house: surface that turns its back on the viewer is left out, so that walls and ceilings
do not hide what stands between them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from dvmvs_core.evaluation.reconstruction.mesh import Mesh
from dvmvs_core.evaluation.reconstruction.open3d_loader import load_open3d
from dvmvs_core.evaluation.reconstruction.raycasting import raycasting_scene

if TYPE_CHECKING:
    from open3d.core import Tensor

SUPERSAMPLING = 2
"""Rays along each side of a pixel; their mean smooths the edges."""

FIELD_OF_VIEW = np.radians(45.0)
"""Across the picture."""

OFFSET_M = 0.02
"""How far above the surface secondary rays start, so that they do not meet the surface itself."""

OCCLUSION_RAYS = 4
OCCLUSION_DISTANCE_M = 0.5
"""Corners darken where most directions meet surface within this distance; so many rays for each ray of the viewer."""

LAMP_RAYS = 2
LAMP_RADIUS = 0.08
"""Size of the lamp against its distance, which softens the edges of shadows."""


class MeshCaster:
    """The first surface behind every pixel, among what faces the viewer.

    Attributes:
        hit: (h, w) bool.
        normals: (hits, 3) unit normals of the surface there.
        points: (hits, 3) where it is, metres.
    """

    def __init__(self, mesh: Mesh, world_T_cam: np.ndarray, size: tuple[int, int]) -> None:
        self._tensor = load_open3d().core.Tensor
        self._world_R_cam = world_T_cam[:3, :3]
        eye = world_T_cam[:3, 3]
        facing = np.einsum("tx,tx->t", mesh.area_vectors(), mesh.corners().mean(axis=1) - eye) < 0
        self._triangles = mesh.triangles[facing]
        self._scene = raycasting_scene(mesh.vertices, self._triangles)
        height, width = size
        focal = width / 2 / np.tan(FIELD_OF_VIEW / 2)
        x = (np.arange(width, dtype=np.float32) - (width - 1) / 2) / focal
        y = (np.arange(height, dtype=np.float32) - (height - 1) / 2) / focal
        directions = np.stack((*np.meshgrid(x, y), np.ones(size, np.float32)), axis=-1)
        directions = _unit(directions @ world_T_cam[:3, :3].T.astype(np.float32))
        answer = self._scene.cast_rays(self._rays(np.broadcast_to(eye, directions.shape), directions))
        distance = answer["t_hit"].numpy()
        self.hit = np.isfinite(distance)
        self._directions = directions[self.hit]
        self._corners = self._triangles[answer["primitive_ids"].numpy()[self.hit]]
        second, third = answer["primitive_uvs"].numpy()[self.hit].T
        self._weights = np.stack((1 - second - third, second, third), axis=-1)
        self.normals = _unit(self.interpolate(mesh.normals))
        self.points = eye.astype(np.float32) + distance[self.hit, None] * self._directions
        self._above = self.points + OFFSET_M * self.normals
        rows, columns = np.nonzero(self.hit)
        self._subpixel = rows % SUPERSAMPLING * SUPERSAMPLING + columns % SUPERSAMPLING

    def interpolate(self, values: np.ndarray) -> np.ndarray:
        """Return (hits, C) from values (V, C) at the vertices."""
        return np.einsum("nc,ncx->nx", self._weights, values[self._corners].astype(np.float32))

    def facing_share(self) -> float:
        """Return how much of the picture is covered, where surface seen at a flat angle counts less."""
        facing = np.maximum(-np.einsum("nx,nx->n", self.normals, self._directions), 0)
        return float(facing.sum() / self.hit.size)

    def light(self, up: np.ndarray) -> np.ndarray:
        """Return the brightness (hits,), 1 on an open floor: a lamp over the viewer's shoulder, and the sky."""
        right, forward = self._world_R_cam[:, 0], self._world_R_cam[:, 2]
        lamp = up - 0.6 * right - 0.6 * forward
        lamp /= np.linalg.norm(lamp)
        lamp = lamp.astype(np.float32)
        direct = np.maximum(self.normals @ lamp, 0) * self._lit(lamp) / (up @ lamp)
        sky = (0.75 + 0.25 * self.normals @ up) * self._openness()
        return 0.35 * direct + 0.65 * sky

    def _lit(self, lamp: np.ndarray) -> np.ndarray:
        """Return the share (hits,) of the lamp that can be seen."""
        return self._free(lambda around: lamp + LAMP_RADIUS * around, LAMP_RAYS, np.inf)

    def _openness(self) -> np.ndarray:
        """Return the share (hits,) of directions around the normal in which nothing is near."""
        # A normal plus a unit vector is distributed by the cosine, as diffuse light is.
        return self._free(lambda around: self.normals + around, OCCLUSION_RAYS, OCCLUSION_DISTANCE_M)

    def _free(self, direction: Callable[[np.ndarray], np.ndarray], rays: int, distance: float) -> np.ndarray:
        """Return the share (hits,) of directions in which nothing lies within a distance.

        Every ray within a pixel has other directions, and all pixels the same: their mean has no grain.

        Args:
            direction: makes directions (hits, 3) of points (hits, 3) that are spread evenly over the unit sphere.
            rays: how many for each hit.
            distance: metres.
        """
        subpixels = SUPERSAMPLING**2
        around = _sphere(rays * subpixels).reshape(rays, subpixels, 3)
        free = np.zeros(len(self._above), np.float32)
        for points in around:
            towards = _unit(direction(points[self._subpixel]))
            free += ~self._scene.test_occlusions(self._rays(self._above, towards), tfar=distance).numpy()
        return free / rays

    def _rays(self, start: np.ndarray, direction: np.ndarray) -> Tensor:
        return self._tensor(np.concatenate((start, direction), axis=-1).astype(np.float32))


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)


def _sphere(count: int) -> np.ndarray:
    """Return points (count, 3) float32 spread evenly over the unit sphere, on a spiral of golden angles."""
    z = 1 - (2 * np.arange(count) + 1) / count
    angle = np.arange(count) * np.pi * (3 - np.sqrt(5))
    radius = np.sqrt(1 - z**2)
    return np.stack((radius * np.cos(angle), radius * np.sin(angle), z), axis=-1).astype(np.float32)
