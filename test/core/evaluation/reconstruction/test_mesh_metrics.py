# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Distances between surfaces whose distance is known, and pictures of them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from dvmvs_core.errors import DataError
from dvmvs_core.evaluation.prediction.virtual_camera import VirtualCamera
from dvmvs_core.evaluation.reconstruction.mesh import Mesh
from dvmvs_core.evaluation.reconstruction.mesh_metrics import compare_meshes, surface_distance
from dvmvs_core.evaluation.reconstruction.mesh_picture import BACKGROUND, find_up, render

pytestmark = pytest.mark.usefixtures("open3d")


@pytest.fixture
def rectangle(surfaces):
    """A function that makes a rectangle 1 m high, from x = 0."""
    return lambda width, z=0.0: surfaces.rectangle((0, 0, z), (width, 0, 0), (0, 1, 0), steps=2)


def sphere(radius: float, steps: int = 90) -> Mesh:
    theta, phi = np.meshgrid(np.linspace(0, np.pi, steps), np.linspace(0, 2 * np.pi, 2 * steps))
    points = np.stack((np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)), axis=-1)
    index = np.arange(points[..., 0].size).reshape(theta.shape)
    a, b, c, d = index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]
    triangles = np.concatenate((np.stack((a, b, c), -1).reshape(-1, 3), np.stack((a, c, d), -1).reshape(-1, 3)))
    vertices = np.float32(radius * points.reshape(-1, 3))
    return Mesh(vertices, np.zeros_like(vertices), np.zeros(vertices.shape, np.uint8), triangles.astype(np.int32))


def test_the_distance_is_to_the_triangle_and_not_to_its_corners(rectangle):
    points = np.array(((0.5, 0.5, 0.0), (0.3, 0.4, -0.2), (0.5, 1.3, 0.4)))
    assert surface_distance(points, rectangle(1.0)) == pytest.approx([0.0, 0.2, 0.5], abs=1e-6)


def test_a_surface_is_at_no_distance_to_itself():
    metrics = compare_meshes(sphere(0.5), sphere(0.5), samples=2000)
    assert metrics.accuracy_m == pytest.approx(0.0, abs=1e-5)
    assert (metrics.precision, metrics.recall, metrics.f_score) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize(("z", "share"), ((0.03, 1.0), (0.07, 0.0)))
def test_a_shifted_surface_is_off_by_the_shift(z, share, rectangle):
    metrics = compare_meshes(rectangle(1.0, z), rectangle(1.0), samples=2000)
    assert (metrics.accuracy_m, metrics.completion_m, metrics.chamfer_m) == pytest.approx((z, z, z), abs=1e-6)
    assert (metrics.precision, metrics.recall, metrics.f_score) == (share, share, share)


def test_a_missing_half_costs_completion_and_recall_and_a_superfluous_one_accuracy_and_precision(rectangle):
    missing, superfluous = (compare_meshes(rectangle(a), rectangle(3 - a), samples=20_000) for a in (1.0, 2.0))
    # Half of the truth is covered; the rest is 0 to 1 m away, of which the first 5 cm still count.
    for distance_m, lost_m in ((missing.accuracy_m, missing.completion_m),
                               (superfluous.completion_m, superfluous.accuracy_m)):  # fmt: skip
        assert distance_m == pytest.approx(0.0, abs=1e-6) and lost_m == pytest.approx(0.25, abs=0.01)
    assert missing.chamfer_m == pytest.approx(0.125, abs=0.005)
    assert missing.precision == superfluous.recall == 1.0
    assert missing.recall == pytest.approx(0.525, abs=0.01) == superfluous.precision
    assert missing.f_score == pytest.approx(2 * 0.525 / 1.525, abs=0.01)


def test_concentric_spheres_are_as_far_apart_as_their_radii():
    metrics = compare_meshes(sphere(1.04), sphere(1.0), samples=5000)
    assert metrics.accuracy_m == pytest.approx(0.04, abs=1e-3)
    assert metrics.completion_m == pytest.approx(0.04, abs=1e-3)
    assert metrics.f_score == 1.0
    assert compare_meshes(sphere(1.04), sphere(1.0), threshold_m=0.03, samples=5000).f_score == 0.0


def test_an_empty_surface_is_refused(rectangle):
    with pytest.raises(DataError, match="without any surface"):
        compare_meshes(dataclasses.replace(rectangle(1.0), triangles=np.zeros((0, 3), np.int32)), rectangle(1.0))


SMALL = (90, 120)
UP = np.array((0.0, 0.0, 1.0))


def from_above(mesh, poses) -> VirtualCamera:
    return VirtualCamera.of_side(mesh.vertices, poses, 0.0, SMALL, down=-UP)


@pytest.mark.parametrize("angles", ((0, 0, 0), (90, 0, 0), (30, -70, 10)))
def test_up_is_where_the_floor_faces_whatever_the_world_calls_its_axes(surfaces, angles):
    world_R_room = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    mesh, poses = surfaces.room(world_R_room), surfaces.cameras(world_R_room)
    up = find_up(mesh, poses)
    assert up @ world_R_room[:, 2] > 0.999
    camera = VirtualCamera.of_side(mesh.vertices, poses, 0.0, SMALL, down=-up)
    assert camera.view_T_world[0, :3] @ up == pytest.approx(0, abs=1e-9)  # the picture stands upright
    assert camera.view_T_world[2, :3] @ up < -0.3  # and looks down


def test_from_above_a_room_shows_floor_and_wall_but_no_ceiling(surfaces):
    mesh = surfaces.room(np.eye(3))
    picture = render(mesh, from_above(mesh, surfaces.cameras(np.eye(3))), UP, mesh.colours).astype(int)
    red, green, blue = picture.transpose(2, 0, 1)
    orange, sea = (red > green + 30) & (green > blue + 30), blue > red + 60
    grey = (np.ptp(picture, axis=2) < 15) & (picture.max(axis=2) < 200)
    assert orange.mean() > 0.15
    assert sea.mean() > 0.05
    assert grey.mean() < 0.01
    # All of it is in the picture, and fills it.
    border = np.concatenate((picture[0], picture[-1], picture[:, 0], picture[:, -1]))
    assert (np.abs(border - BACKGROUND).max(axis=1) < 3).mean() > 0.9
    assert (orange | sea).any(axis=0).mean() > 0.7 or (orange | sea).any(axis=1).mean() > 0.7


def test_clay_shows_shape_only_and_a_table_throws_a_shadow(surfaces):
    floor = surfaces.rectangle((0, 0, 0), (4, 0, 0), (0, 4, 0))
    table = surfaces.rectangle((1.5, 1.5, 0.7), (1, 0, 0), (0, 1, 0), (20, 40, 230))
    camera = from_above(floor, surfaces.cameras(np.eye(3)))
    empty, with_table = (render(mesh, camera, UP).astype(int) for mesh in (floor, surfaces.together(floor, table)))
    covered = np.abs(empty - BACKGROUND).max(axis=2) > 20
    assert np.ptp(with_table, axis=2).max() < 25
    assert empty[covered].min() > 150
    assert (with_table[covered].max(axis=1) < 0.85 * empty[covered].max(axis=1)).mean() > 0.03


@pytest.mark.parametrize("turn", (0, 90, 200))
def test_cameras_that_look_straight_down_give_a_level_view_too(surfaces, turn):
    pose = np.diag((1.0, -1.0, -1.0, 1.0))
    pose[:3, :3] = Rotation.from_euler("z", turn, degrees=True).as_matrix() @ pose[:3, :3]
    pose[:3, 3] = (2.0, 1.5, 2.0)
    rotation = from_above(surfaces.room(np.eye(3)), pose[None]).view_T_world[:3, :3]
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-9)
    assert np.linalg.det(rotation) == pytest.approx(1)
    assert rotation[0] @ UP == pytest.approx(0, abs=1e-9)


def test_from_behind_a_camera_its_own_picture_is_in_the_middle(surfaces):
    mesh = surfaces.room(np.eye(3))
    pose = surfaces.cameras(np.eye(3))[0]
    camera = VirtualCamera.behind(pose, 0.6, SMALL)
    ((x, y),), (away,) = camera.project(pose[None, :3, 3] + 1.4 * pose[None, :3, 2])
    assert (x, y, away) == pytest.approx(((SMALL[1] - 1) / 2, (SMALL[0] - 1) / 2, 2.0))
    all_behind = VirtualCamera.behind(pose, -100, SMALL)
    assert (np.abs(render(mesh, all_behind, UP) - BACKGROUND) < 1).all()  # nothing to see is still a picture


def test_a_picture_shows_a_point_where_its_camera_projects_it(surfaces):
    dot = surfaces.rectangle((1.0, 2.0, 0.0), (0.06, 0, 0), (0, 0.06, 0))
    camera = from_above(surfaces.room(np.eye(3)), surfaces.cameras(np.eye(3)))
    expected = camera.project(np.array(((1.03, 2.03, 0.0),)))[0][0]
    rows, columns = np.nonzero(np.abs(render(dot, camera, UP) - BACKGROUND).max(axis=2) > 10)
    assert (columns.mean(), rows.mean()) == pytest.approx(tuple(expected), abs=0.5)


def test_one_triangle_is_enough(surfaces):
    mesh = surfaces.rectangle((0, 0, 0), (0.01, 0, 0), (0, 0.01, 0), steps=2)
    camera = VirtualCamera.of_side(mesh.vertices, np.eye(4)[None], 0.0, SMALL)
    assert np.isfinite(camera.view_T_world).all() and np.isfinite(camera.focal)
    assert render(mesh, camera, UP).shape == (*SMALL, 3)
