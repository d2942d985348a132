# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dvmvs_core.errors import DataError
from dvmvs_core.evaluation.reconstruction.mesh import Mesh, write_mesh


def mesh_of(vertices, triangles) -> Mesh:
    vertices = np.array(vertices, np.float32)
    normals = np.tile(np.array((0, 0, 1), np.float32), (len(vertices), 1))
    colours = np.arange(3 * len(vertices), dtype=np.uint8).reshape(-1, 3)
    return Mesh(vertices, normals, colours, np.array(triangles, np.int32).reshape(-1, 3))


@pytest.fixture
def two_triangles() -> Mesh:
    """Areas 0.5 m² in the plane z = 0 and 1.5 m² in the plane z = 1."""
    corners = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (3, 0, 1), (0, 1, 1)]
    return mesh_of(corners, [(0, 1, 2), (3, 4, 5)])


def test_areas_and_their_directions(two_triangles):
    assert two_triangles.area_m2() == pytest.approx(2.0)
    assert two_triangles.area_vectors().tolist() == [[0, 0, 0.5], [0, 0, 1.5]]


def test_samples_lie_on_the_surface_evenly(two_triangles):
    points = two_triangles.sample(40_000)
    upper = points[np.isclose(points[:, 2], 1.0)]
    lower = points[np.isclose(points[:, 2], 0.0)]
    assert len(upper) + len(lower) == len(points)
    assert len(upper) / len(points) == pytest.approx(0.75, abs=0.01)
    assert lower[:, :2].min() >= 0
    assert lower[:, :2].sum(axis=1).max() <= 1 + 1e-9
    # The centroid of a triangle is the mean of its corners; points that crowd at a corner would move it.
    assert lower[:, :2].mean(axis=0) == pytest.approx((1 / 3, 1 / 3), abs=0.01)
    assert upper[:, :2].mean(axis=0) == pytest.approx((1.0, 1 / 3), abs=0.02)


def test_the_same_seed_gives_the_same_points(two_triangles):
    assert np.array_equal(two_triangles.sample(10, seed=3), two_triangles.sample(10, seed=3))
    assert not np.array_equal(two_triangles.sample(10, seed=3), two_triangles.sample(10, seed=4))


@pytest.mark.parametrize("triangles", ([], [(0, 1, 1)]))
def test_no_surface_has_no_points(triangles):
    with pytest.raises(DataError, match="without any surface"):
        mesh_of([(0, 0, 0), (1, 0, 0)], triangles).sample(10)


def test_ply_is_read_back_by_another_program(two_triangles, open3d, tmp_path):
    write_mesh(two_triangles, tmp_path / "new" / "mesh.ply")
    read = open3d.io.read_triangle_mesh(str(tmp_path / "new" / "mesh.ply"))
    assert np.asarray(read.vertices).tolist() == two_triangles.vertices.tolist()
    assert np.asarray(read.triangles).tolist() == two_triangles.triangles.tolist()
    assert np.asarray(read.vertex_normals).tolist() == two_triangles.normals.tolist()
    assert np.rint(np.asarray(read.vertex_colors) * 255).tolist() == two_triangles.colours.tolist()


def test_a_failed_write_leaves_the_old_file(two_triangles, tmp_path):
    path = tmp_path / "mesh.ply"
    path.write_text("old")
    broken = Mesh(two_triangles.vertices, two_triangles.normals[:2], two_triangles.colours, two_triangles.triangles)
    with pytest.raises(ValueError):
        write_mesh(broken, path)
    assert path.read_text() == "old"
    assert list(Path(tmp_path).iterdir()) == [path]
