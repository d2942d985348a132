# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""A mesh as what Open3D casts rays at and measures distances to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dvmvs_core.evaluation.reconstruction.open3d_loader import load_open3d

if TYPE_CHECKING:
    from open3d.t.geometry import RaycastingScene


def raycasting_scene(vertices: np.ndarray, triangles: np.ndarray) -> RaycastingScene:
    """Return a scene of triangles (T, 3), indices of vertices (V, 3) in metres.

    Raises:
        PackageError: if Open3D is missing.
    """
    o3d = load_open3d()
    scene = o3d.t.geometry.RaycastingScene()
    scene.add_triangles(
        o3d.core.Tensor(np.ascontiguousarray(vertices, dtype=np.float32)),
        o3d.core.Tensor(np.ascontiguousarray(triangles, dtype=np.uint32)),
    )
    return scene
