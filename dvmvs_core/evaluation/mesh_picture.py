# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Pictures of a mesh without a display: rays cast on the CPU, light from above, and a viewpoint chosen by itself.

Rooms are shown like a doll's house: surface that turns its back on the viewer is left out, so that walls and ceilings
do not hide what stands between them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from dvmvs_core.evaluation.mesh import Mesh
from dvmvs_core.evaluation.open3d_loader import load_open3d

if TYPE_CHECKING:
    from open3d.core import Tensor

PICTURE_SIZE = (720, 960)
"""Height and width of one picture."""

SUPERSAMPLING = 2
"""Rays along each side of a pixel; their mean smooths the edges."""

FIELD_OF_VIEW = np.radians(45.0)
"""Across the picture."""

ELEVATION = np.radians(40.0)
"""Height of the viewpoint above the horizon."""

COARSE_M = 0.1
"""Detail that the choice of the viewpoint looks at."""

SHOWN = (0.5, 99.5)
"""Percentiles of the surface between which the picture is framed: a few stray triangles may fall outside."""

FRAMING_STEPS = 8

CLAY = np.array((222.0, 214.0, 202.0))
BACKGROUND = np.array((246.0, 247.0, 249.0))

OFFSET_M = 0.02
"""How far above the surface secondary rays start, so that they do not meet the surface itself."""

OCCLUSION_RAYS = 4
OCCLUSION_DISTANCE_M = 0.5
"""Corners darken where most directions meet surface within this distance; so many rays for each ray of the viewer."""

LAMP_RAYS = 2
LAMP_RADIUS = 0.08
"""Size of the lamp against its distance, which softens the edges of shadows."""


@dataclass(frozen=True, eq=False)
class Viewpoint:
    """Where a picture is taken from.

    Attributes:
        world_T_cam: (4, 4) pose; z forward, x right, y down.
        up: (3,) unit vector against gravity in the world frame.
    """

    world_T_cam: np.ndarray
    up: np.ndarray


def choose_viewpoint(mesh: Mesh, world_T_cams: np.ndarray) -> Viewpoint:
    """Return a viewpoint above the scene that shows most of its surface.

    Twelve directions are tried; the one wins whose small picture is covered the most.

    Args:
        mesh: with at least one triangle.
        world_T_cams: (N, 4, 4) poses that the mesh was seen from.
    """
    up = find_up(mesh, world_T_cams)
    coarse = mesh.coarse(COARSE_M)
    if not len(coarse.triangles):
        coarse = mesh
    best, best_share = None, -1.0
    for azimuth in np.arange(12) * (2 * np.pi / 12):
        viewpoint = _viewpoint(coarse, up, azimuth)
        share = _Caster(coarse, viewpoint.world_T_cam, (60, 80)).facing_share()
        if share > best_share:
            best, best_share = viewpoint, share
    return best


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


def render(
    mesh: Mesh, viewpoint: Viewpoint, colours: np.ndarray | None = None, size: tuple[int, int] = PICTURE_SIZE
) -> np.ndarray:
    """Return a picture (h, w, 3) uint8 RGB of a mesh.

    Args:
        mesh: the mesh.
        viewpoint: where from.
        colours: (V, 3) RGB in 0…255 of the vertices; clay by default, which shows the shape.
        size: (h, w).
    """
    fine = (size[0] * SUPERSAMPLING, size[1] * SUPERSAMPLING)
    caster = _Caster(mesh, viewpoint.world_T_cam, fine)
    if colours is None:
        colours = np.broadcast_to(CLAY, mesh.vertices.shape)
    picture = np.empty((*fine, 3), np.float32)
    picture[:] = BACKGROUND
    light = caster.light(viewpoint)
    picture[caster.hit] = np.minimum(caster.interpolate(colours) * light[:, None], 255)
    return np.rint(cv2.resize(picture, size[::-1], interpolation=cv2.INTER_AREA)).astype(np.uint8)


class _Caster:
    """The first surface behind every pixel, among what faces the viewer.

    Attributes:
        hit: (h, w) bool.
    """

    def __init__(self, mesh: Mesh, world_T_cam: np.ndarray, size: tuple[int, int]) -> None:
        o3d = load_open3d()
        self._mesh = mesh
        eye = world_T_cam[:3, 3]
        facing = np.einsum("tx,tx->t", mesh.area_vectors(), mesh.corners().mean(axis=1) - eye) < 0
        self._triangles = mesh.triangles[facing]
        self._scene = o3d.t.geometry.RaycastingScene()
        self._tensor = o3d.core.Tensor
        self._scene.add_triangles(
            self._tensor(np.ascontiguousarray(mesh.vertices)),
            self._tensor(np.ascontiguousarray(self._triangles, dtype=np.uint32)),
        )
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
        self._normals = _unit(self.interpolate(mesh.normals))
        points = eye.astype(np.float32) + distance[self.hit, None] * self._directions
        self._above = points + OFFSET_M * self._normals
        rows, columns = np.nonzero(self.hit)
        self._subpixel = rows % SUPERSAMPLING * SUPERSAMPLING + columns % SUPERSAMPLING

    def interpolate(self, values: np.ndarray) -> np.ndarray:
        """Return (hits, C) from values (V, C) at the vertices."""
        return np.einsum("nc,ncx->nx", self._weights, values[self._corners].astype(np.float32))

    def facing_share(self) -> float:
        """Return how much of the picture is covered, where surface seen at a flat angle counts less."""
        facing = np.maximum(-np.einsum("nx,nx->n", self._normals, self._directions), 0)
        return float(facing.sum() / self.hit.size)

    def light(self, viewpoint: Viewpoint) -> np.ndarray:
        """Return the brightness (hits,), 1 on an open floor: a lamp over the viewer's shoulder, and the sky."""
        right, forward = viewpoint.world_T_cam[:3, 0], viewpoint.world_T_cam[:3, 2]
        lamp = viewpoint.up - 0.6 * right - 0.6 * forward
        lamp /= np.linalg.norm(lamp)
        lamp = lamp.astype(np.float32)
        direct = np.maximum(self._normals @ lamp, 0) * self._lit(lamp) / (viewpoint.up @ lamp)
        sky = (0.75 + 0.25 * self._normals @ viewpoint.up) * self._openness()
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


def _viewpoint(mesh: Mesh, up: np.ndarray, azimuth: float) -> Viewpoint:
    """The viewpoint in one horizontal direction from where what faces it just fills the picture."""
    aside = np.cross(up, (0.0, 0.0, 1.0) if abs(up[2]) < 0.9 else (0.0, 1.0, 0.0))
    aside /= np.linalg.norm(aside)
    outward = np.cos(azimuth) * aside + np.sin(azimuth) * np.cross(up, aside)
    backward = np.cos(ELEVATION) * outward + np.sin(ELEVATION) * up
    right = np.cross(up, backward)
    right /= np.linalg.norm(right)
    rotation = np.stack((right, np.cross(right, backward), -backward), axis=1)
    some = slice(None, None, max(len(mesh.triangles) // 20_000, 1))
    corners, normals = mesh.corners()[some], mesh.area_vectors()[some]
    half = np.tan(FIELD_OF_VIEW / 2) * np.array((1.0, PICTURE_SIZE[0] / PICTURE_SIZE[1]))
    low, high = np.percentile(corners.reshape(-1, 3), SHOWN, axis=0)
    distance = np.linalg.norm(high - low)
    eye = (low + high) / 2 + distance * backward
    for _ in range(FRAMING_STEPS):
        towards = corners - eye
        in_front = (towards @ rotation[:, 2] > 0.1 * distance).all(axis=1)
        shown = in_front & (np.einsum("nx,nx->n", towards[:, 0], normals) < 0)
        if not shown.any():
            break
        in_view = (towards[shown] @ rotation).reshape(-1, 3)
        low, high = np.percentile(in_view[:, :2] / in_view[:, 2:], SHOWN, axis=0)
        distance = np.median(in_view[:, 2])
        closer = 1 - 1.04 * ((high - low) / 2 / half).max()
        eye = eye + rotation @ (distance * np.append((low + high) / 2, np.clip(closer, -0.5, 0.5)))
    world_T_cam = np.eye(4)
    world_T_cam[:3, :3], world_T_cam[:3, 3] = rotation, eye
    return Viewpoint(world_T_cam, up)
