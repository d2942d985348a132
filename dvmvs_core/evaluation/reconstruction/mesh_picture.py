# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Pictures of a mesh, lit so that its shape can be seen."""

from __future__ import annotations

import cv2
import numpy as np

from dvmvs_core.evaluation.reconstruction.mesh import Mesh
from dvmvs_core.evaluation.reconstruction.mesh_caster import SUPERSAMPLING, MeshCaster
from dvmvs_core.evaluation.reconstruction.mesh_viewpoint import PICTURE_SIZE, Viewpoint

CLAY = np.array((222.0, 214.0, 202.0))
BACKGROUND = np.array((246.0, 247.0, 249.0))


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
    caster = MeshCaster(mesh, viewpoint.world_T_cam, fine)
    if colours is None:
        colours = np.broadcast_to(CLAY, mesh.vertices.shape)
    picture = np.empty((*fine, 3), np.float32)
    picture[:] = BACKGROUND
    light = caster.light(viewpoint.up)
    picture[caster.hit] = np.minimum(caster.interpolate(colours) * light[:, None], 255)
    return np.rint(cv2.resize(picture, size[::-1], interpolation=cv2.INTER_AREA)).astype(np.uint8)
