# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Pictures of a mesh, lit so that its shape can be seen.

Rooms are shown like a doll's house: surface that turns its back on the viewer is left out, so that walls and ceilings
do not hide what stands between them. Rays are Open3D's; its renderer needs Vulkan or a screen.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

import cv2
import numpy as np

from dvmvs_core.evaluation.prediction.virtual_camera import VirtualCamera
from dvmvs_core.evaluation.reconstruction.mesh import Mesh
from dvmvs_core.evaluation.reconstruction.open3d_loader import load_open3d

if TYPE_CHECKING:
    from open3d.core import Tensor

PICTURE_SIZE = (720, 960)
"""Height and width of one picture."""

CLAY = np.array((222.0, 214.0, 202.0))
BACKGROUND = np.array((246.0, 247.0, 249.0))

SUPERSAMPLING = 2
"""Rays along each side of a pixel; their mean smooths the edges."""

OFFSET_M = 0.02
"""How far above the surface secondary rays start, so that they do not meet the surface itself."""

OCCLUSION_RAYS = 4
OCCLUSION_DISTANCE_M = 0.5
"""Corners darken where most directions meet surface within this distance; so many rays for each ray of the viewer."""

LAMP_RAYS = 2
LAMP_RADIUS = 0.08
"""Size of the lamp against its distance, which softens the edges of shadows."""


def render(mesh: Mesh, camera: VirtualCamera, up: np.ndarray, colours: np.ndarray | None = None) -> np.ndarray:
    """Return a picture (h, w, 3) uint8 RGB of a mesh.

    Args:
        mesh: the mesh.
        camera: where from.
        up: (3,) unit vector against gravity in the world.
        colours: (V, 3) RGB in 0…255 of the vertices; clay by default, which shows the shape.
    """
    hits = _Hits(mesh, camera.enlarged(SUPERSAMPLING))
    if colours is None:
        colours = np.broadcast_to(CLAY, mesh.vertices.shape)
    picture = np.empty((*hits.hit.shape, 3), np.float32)
    picture[:] = BACKGROUND
    picture[hits.hit] = np.minimum(hits.interpolate(colours) * hits.light(up)[:, None], 255)
    return np.rint(cv2.resize(picture, camera.size[::-1], interpolation=cv2.INTER_AREA)).astype(np.uint8)


def find_up(mesh: Mesh, world_T_cams: np.ndarray) -> np.ndarray:
    """Return the direction against gravity (3,): the one that floors and tables face, near the cameras' own up.

    Cameras are held upright but look down on things, so their mean up leans forward; the normals of what lies
    flat correct it.
    """
    up = -world_T_cams[:, :3, 1].mean(axis=0)
    up /= max(np.linalg.norm(up), 1e-9)
    areas = mesh.area_vectors()
    sizes = np.maximum(np.linalg.norm(areas, axis=1), 1e-12)
    for degrees in (45, 30, 20, 10, 10):
        near = areas[areas @ up / sizes > np.cos(np.radians(degrees))].sum(axis=0)
        if np.linalg.norm(near) > 0:
            up = near / np.linalg.norm(near)
    return up


class _Hits:
    """The first surface behind every pixel, among what faces the viewer.

    Attributes:
        hit: (h, w) bool.
    """

    def __init__(self, mesh: Mesh, camera: VirtualCamera) -> None:
        self._tensor = load_open3d().core.Tensor
        self._world_R_cam = camera.view_T_world[:3, :3].T
        eye = -self._world_R_cam @ camera.view_T_world[:3, 3]
        facing = np.einsum("tx,tx->t", mesh.area_vectors(), mesh.corners().mean(axis=1) - eye) < 0
        shown = dataclasses.replace(mesh, triangles=mesh.triangles[facing])
        self._scene = shown.raycasting_scene()
        K = np.diag((camera.focal, camera.focal, 1.0))
        K[:2, 2] = camera.centre + 0.5  # of Open3D, whose first pixel has its centre at (0.5, 0.5)
        height, width = camera.size
        rays = self._scene.create_rays_pinhole(self._tensor(K), self._tensor(camera.view_T_world), width, height)
        found = self._scene.cast_rays(rays)
        distance = found["t_hit"].numpy()
        self.hit = np.isfinite(distance)
        self._corners = shown.triangles[found["primitive_ids"].numpy()[self.hit]]
        second, third = found["primitive_uvs"].numpy()[self.hit].T
        self._weights = np.stack((1 - second - third, second, third), axis=-1)
        self._normals = _unit(self.interpolate(mesh.normals))
        start, direction = np.split(rays.numpy()[self.hit], 2, axis=-1)
        self._above = start + distance[self.hit, None] * direction + OFFSET_M * self._normals
        rows, columns = np.nonzero(self.hit)
        self._subpixel = rows % SUPERSAMPLING * SUPERSAMPLING + columns % SUPERSAMPLING

    def interpolate(self, values: np.ndarray) -> np.ndarray:
        """Return (hits, C) from values (V, C) at the vertices."""
        return np.einsum("nc,ncx->nx", self._weights, values[self._corners].astype(np.float32))

    def light(self, up: np.ndarray) -> np.ndarray:
        """Return the brightness (hits,), 1 on an open floor: a lamp over the viewer's shoulder, and the sky."""
        right, forward = self._world_R_cam[:, 0], self._world_R_cam[:, 2]
        lamp = _unit(up - 0.6 * right - 0.6 * forward).astype(np.float32)
        direct = np.maximum(self._normals @ lamp, 0) * self._lit(lamp) / (up @ lamp)
        sky = (0.75 + 0.25 * self._normals @ up) * self._openness()
        return 0.35 * direct + 0.65 * sky

    def _lit(self, lamp: np.ndarray) -> np.ndarray:
        """Return the share (hits,) of the lamp that can be seen."""
        return self._free(lambda around: lamp + LAMP_RADIUS * around, LAMP_RAYS, np.inf)

    def _openness(self) -> np.ndarray:
        """Return the share (hits,) of directions around the normal in which nothing is near."""
        # A normal plus a unit vector is distributed by the cosine, as diffuse light is.
        return self._free(lambda around: self._normals + around, OCCLUSION_RAYS, OCCLUSION_DISTANCE_M)

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
