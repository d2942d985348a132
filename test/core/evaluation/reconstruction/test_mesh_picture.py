# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""A picture of a mesh shows its shape."""

import numpy as np
import pytest

from dvmvs_core.evaluation.reconstruction.mesh_picture import BACKGROUND, render
from dvmvs_core.evaluation.reconstruction.mesh_viewpoint import choose_viewpoint

pytestmark = pytest.mark.usefixtures("open3d")

SMALL = (90, 120)


def test_clay_shows_shape_only_and_a_table_throws_a_shadow(surfaces):
    floor = surfaces.rectangle((0, 0, 0), (4, 0, 0), (0, 4, 0))
    table = surfaces.rectangle((1.5, 1.5, 0.7), (1, 0, 0), (0, 1, 0), (20, 40, 230))
    poses = surfaces.cameras(np.eye(3))
    viewpoint = choose_viewpoint(floor, poses)
    empty, with_table = (
        render(mesh, viewpoint, size=SMALL).astype(int) for mesh in (floor, surfaces.together(floor, table))
    )
    covered = np.abs(empty - BACKGROUND).max(axis=2) > 20
    assert np.ptp(with_table, axis=2).max() < 25
    assert empty[covered].min() > 150
    assert (with_table[covered].max(axis=1) < 0.85 * empty[covered].max(axis=1)).mean() > 0.03


def test_one_triangle_is_enough(surfaces):
    mesh = surfaces.rectangle((0, 0, 0), (0.01, 0, 0), (0, 0.01, 0), steps=2)
    viewpoint = choose_viewpoint(mesh, np.eye(4)[None])
    assert np.isfinite(viewpoint.world_T_cam).all()
    assert render(mesh, viewpoint, size=SMALL).shape == (*SMALL, 3)
