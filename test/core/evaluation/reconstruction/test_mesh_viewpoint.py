# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Where a mesh is looked at from: above the room, and from beside its cameras."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from dvmvs_core.evaluation.reconstruction.mesh import Mesh
from dvmvs_core.evaluation.reconstruction.mesh_picture import BACKGROUND, render
from dvmvs_core.evaluation.reconstruction.mesh_viewpoint import choose_close_views, choose_viewpoint, find_up

pytestmark = pytest.mark.usefixtures("open3d")

SMALL = (90, 120)


@pytest.mark.parametrize("angles", ((0, 0, 0), (90, 0, 0), (30, -70, 10)))
def test_up_is_where_the_floor_faces_whatever_the_world_calls_its_axes(surfaces, angles):
    world_R_room = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    assert find_up(surfaces.room(world_R_room), surfaces.cameras(world_R_room)) @ world_R_room[:, 2] > 0.999


def test_the_viewpoint_is_above_the_room_and_sees_floor_and_wall_but_no_ceiling(surfaces):
    mesh = surfaces.room(np.eye(3))
    viewpoint = choose_viewpoint(mesh, surfaces.cameras(np.eye(3)))
    assert viewpoint.world_T_cam[2, 3] > 2.5
    picture = render(mesh, viewpoint, mesh.colours, SMALL).astype(int)
    red, green, blue = picture.transpose(2, 0, 1)
    orange, sea = (red > green + 30) & (green > blue + 30), blue > red + 60
    grey = (np.ptp(picture, axis=2) < 15) & (picture.max(axis=2) < 200)
    assert orange.mean() > 0.15
    assert sea.mean() > 0.05
    assert grey.mean() < 0.01
    # All of it is in the picture, and fills it.
    border = np.concatenate((picture[0], picture[-1], picture[:, 0], picture[:, -1]))
    assert (np.abs(border - BACKGROUND).max(axis=1) < 3).mean() > 0.9
    assert (orange | sea).any(axis=0).mean() > 0.8 or (orange | sea).any(axis=1).mean() > 0.8


@pytest.fixture
def steps(surfaces) -> Mesh:
    """Three stairs in a corner of that room, 0.8 m wide, in its far right corner."""
    treads = [surfaces.rectangle((2.5, 2.1 + 0.3 * i, 0.3 * (i + 1)), (0.8, 0, 0), (0, 0.3, 0)) for i in range(3)]
    risers = [surfaces.rectangle((2.5, 2.1 + 0.3 * i, 0.3 * i), (0.8, 0, 0), (0, 0, 0.3)) for i in range(3)]
    return surfaces.together(*treads, *risers)


def looking_from_to(eye, target) -> np.ndarray:
    forward = np.subtract(target, eye) / np.linalg.norm(np.subtract(target, eye))
    right = np.cross(forward, (0, 0, 1)) / np.linalg.norm(np.cross(forward, (0, 0, 1)))
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = np.stack((right, np.cross(forward, right), forward), 1), eye
    return pose


def test_the_first_close_view_is_of_what_has_shape(surfaces, steps):
    mesh = surfaces.together(
        surfaces.rectangle((-2, 0, 0), (8, 0, 0), (0, 3, 0)),
        surfaces.rectangle((-2, 3, 0), (8, 0, 0), (0, 0, 2.5)),
        steps,
    )
    eye = (1.5, 0.2, 1.6)
    poses = np.stack([looking_from_to(eye, (x, 2.4, 0.5)) for x in (-0.5, 0.2, 2.9, 3.0)])
    first, *others = choose_close_views(mesh, poses, np.array((0.0, 0.0, 1.0)), 2)
    assert first.world_T_cam[0, 2] > 0.3  # it looks to the right, where the stairs are
    assert len(others) == 1
    assert others[0].world_T_cam[0, 2] < 0
    orange = render(mesh, first, mesh.colours, SMALL)
    assert (np.abs(orange - BACKGROUND).max(axis=2) > 30).mean() > 0.7


def test_close_views_of_one_place_are_one_and_stand_upright_behind_the_camera(surfaces):
    up = np.array((0.0, 0.0, 1.0))
    pose = looking_from_to((2, 0.5, 1.6), (2, 2.5, 0.5))
    (view,) = choose_close_views(surfaces.room(np.eye(3)), np.stack([pose] * 5), up, 3)
    assert view.world_T_cam[:3, 0] @ up == pytest.approx(0, abs=1e-9)
    assert view.world_T_cam[2, 3] > pose[2, 3]
    assert (view.world_T_cam[:3, 3] - pose[:3, 3]) @ pose[:3, 2] < -0.2


@pytest.mark.parametrize("turn", (0, 90, 200))
def test_a_camera_that_looks_straight_down_gives_a_rotation_too(surfaces, turn):
    pose = np.diag((1.0, -1.0, -1.0, 1.0))
    pose[:3, :3] = Rotation.from_euler("z", turn, degrees=True).as_matrix() @ pose[:3, :3]
    pose[:3, 3] = (2.0, 1.5, 2.0)
    (view,) = choose_close_views(surfaces.room(np.eye(3)), pose[None], np.array((0.0, 0.0, 1.0)), 1)
    rotation = view.world_T_cam[:3, :3]
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-9)
    assert np.linalg.det(rotation) == pytest.approx(1)
    assert rotation[2, 2] < -0.9


def test_cameras_that_face_away_from_the_surface_give_no_close_view(surfaces):
    assert (
        choose_close_views(surfaces.room(np.eye(3)), looking_from_to((2, -1, 1), (2, -9, 1))[None], np.eye(3)[2], 2)
        == []
    )
