# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Triangle meshes: area, random points on the surface, and PLY files.

Symbols: V vertices, T triangles.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dvmvs_core.data.encodings.ply import write_ply
from dvmvs_core.errors import DataError
from dvmvs_core.evaluation.reconstruction.open3d_loader import load_open3d

if TYPE_CHECKING:
    from open3d.t.geometry import RaycastingScene


@dataclass(frozen=True, eq=False)
class Mesh:
    """A coloured triangle mesh in the world frame.

    Attributes:
        vertices: (V, 3) float32 metres.
        normals: (V, 3) float32 unit vectors, towards the side that the cameras were on.
        colours: (V, 3) uint8 RGB.
        triangles: (T, 3) int32 indices of vertices, counter-clockwise seen from the side of the cameras.
    """

    vertices: np.ndarray
    normals: np.ndarray
    colours: np.ndarray
    triangles: np.ndarray

    def corners(self) -> np.ndarray:
        """Return the corners (T, 3, 3) float64 of every triangle, metres: triangle, corner, coordinate."""
        return self.vertices[self.triangles].astype(np.float64)

    def area_vectors(self) -> np.ndarray:
        """Return (T, 3) float64: the normal of every triangle, as long as its area in m²."""
        a, b, c = self.corners().transpose(1, 0, 2)
        return np.cross(b - a, c - a) / 2

    def area_m2(self) -> float:
        """Return the area of the whole surface."""
        return float(np.linalg.norm(self.area_vectors(), axis=1).sum())

    def sample(self, count: int, seed: int = 0) -> np.ndarray:
        """Return random points (count, 3) float64, metres, spread evenly over the surface.

        Raises:
            DataError: if there is no surface.
        """
        areas = np.linalg.norm(self.area_vectors(), axis=1)
        if not areas.sum() > 0:
            raise DataError("a mesh without any surface has no points to sample")
        generator = np.random.default_rng(seed)
        chosen = generator.choice(len(areas), size=count, p=areas / areas.sum())
        # The square root makes the density even: without it points crowd at the first corner.
        root, along = np.sqrt(generator.random(count)), generator.random(count)
        weights = np.stack((1 - root, root * (1 - along), root * along), axis=-1)
        return np.einsum("nc,ncx->nx", weights, self.corners()[chosen])

    def raycasting_scene(self) -> RaycastingScene:
        """Return the triangles as Open3D casts rays at them.

        Raises:
            PackageError: if Open3D is missing.
        """
        o3d = load_open3d()
        scene = o3d.t.geometry.RaycastingScene()
        scene.add_triangles(
            o3d.core.Tensor(np.ascontiguousarray(self.vertices, dtype=np.float32)),
            o3d.core.Tensor(np.ascontiguousarray(self.triangles, dtype=np.uint32)),
        )
        return scene


def write_mesh(mesh: Mesh, path: Path) -> None:
    """Write a mesh as binary PLY with normals and colours; a file at `path` is replaced only by a whole one."""
    vertices = np.empty(len(mesh.vertices), dtype=[("position", "<f4", 3), ("normal", "<f4", 3), ("colour", "u1", 3)])
    vertices["position"], vertices["normal"], vertices["colour"] = mesh.vertices, mesh.normals, mesh.colours
    write_ply(path, vertices, mesh.triangles)
