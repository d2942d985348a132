# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Painting a wall two metres before cameras that look along the z axis of the world."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from dvmvs_core.evaluation.reconstruction.mesh_painter import IMAGES, MeshPainter

pytestmark = pytest.mark.usefixtures("open3d")

HEIGHT, WIDTH = 60, 80
K = np.array(((60.0, 0.0, 39.5), (0.0, 60.0, 29.5), (0.0, 0.0, 1.0)))
RED, GREEN, BLUE = (200, 30, 30), (30, 200, 30), (30, 30, 200)
OWN = (90, 91, 92)
CLOSE = 4
"""Of 255: pictures wait as JPEG."""


@pytest.fixture
def wall(surfaces):
    """One metre square, and it faces the cameras."""
    return surfaces.rectangle((-0.5, -0.5, 2), (0, 1, 0), (1, 0, 0), OWN)


def image(left, right=None) -> np.ndarray:
    pixels = np.empty((HEIGHT, WIDTH, 3), np.uint8)
    pixels[:, : WIDTH // 2], pixels[:, WIDTH // 2 :] = left, left if right is None else right
    return pixels


def camera(x: float = 0.0, z: float = 0.0) -> np.ndarray:
    world_T_cam = np.eye(4)
    world_T_cam[:3, 3] = x, 0, z
    return world_T_cam


def painted(mesh, *images: tuple[np.ndarray, np.ndarray]):
    painter = MeshPainter()
    for pixels, world_T_cam in images:
        painter.add(pixels, K, world_T_cam)
    return painter.paint(mesh)


def test_vertices_take_the_colour_of_the_pixel_that_shows_them(wall):
    mesh = painted(wall, (image(RED, BLUE), camera()))
    left, right = mesh.vertices[:, 0] < -0.1, mesh.vertices[:, 0] > 0.1
    assert np.abs(mesh.colours[left].astype(int) - RED).max() <= CLOSE
    assert np.abs(mesh.colours[right].astype(int) - BLUE).max() <= CLOSE
    assert mesh.vertices is wall.vertices and mesh.triangles is wall.triangles


def test_what_no_image_shows_keeps_its_colour(wall, surfaces):
    behind = surfaces.rectangle((-0.5, -0.5, -2), (0, 1, 0), (1, 0, 0), OWN)
    turned_away = surfaces.rectangle((-0.5, -0.5, 2), (1, 0, 0), (0, 1, 0), OWN)
    outside = surfaces.rectangle((5, -0.5, 2), (0, 1, 0), (1, 0, 0), OWN)
    for mesh in (behind, turned_away, outside):
        assert (painted(mesh, (image(RED), camera())).colours == OWN).all()
    assert (painted(wall).colours == OWN).all()


def test_what_stands_before_a_wall_does_not_leave_its_colour_on_it(wall, surfaces):
    board = surfaces.rectangle((-0.1, -0.1, 1), (0, 0.2, 0), (0.2, 0, 0), OWN)
    mesh = painted(surfaces.together(wall, board), (image(RED), camera()))
    on_wall = np.arange(len(mesh.vertices)) < len(wall.vertices)
    hidden = on_wall & (np.abs(mesh.vertices[:, :2]) < 0.19).all(axis=1)
    assert hidden.sum() >= 4
    assert (mesh.colours[hidden] == OWN).all()
    assert np.abs(mesh.colours[~on_wall].astype(int) - RED).max() <= CLOSE
    mesh = painted(surfaces.together(wall, board), (image(RED), camera()), (image(GREEN), camera(x=-1.0)))
    assert np.abs(mesh.colours[hidden].astype(int) - GREEN).max() <= CLOSE


def test_the_nearest_images_win(wall):
    far = [(image(RED), camera(z=-2.0 - i)) for i in range(4)]
    near = [(image(GREEN), camera(z=-0.1 * i)) for i in range(IMAGES)]
    for images in (far + near, near + far):
        assert np.abs(painted(wall, *images).colours.astype(int) - GREEN).max() <= CLOSE


def test_images_smeared_by_motion_lose_against_sharp_ones(wall):
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    texture = np.where((rows // 4 + columns // 4) % 2, 250, 10).astype(np.uint8)
    sharp = image(RED)
    sharp[..., 2] = texture
    smeared = image(GREEN)
    smeared[..., 2] = 130
    mesh = painted(wall, *([(smeared, camera())] * 2 + [(sharp, camera())] * IMAGES))
    assert mesh.colours[:, 1].max() < 100 < mesh.colours[:, 0].min()


def test_the_mean_of_a_few_images_hides_their_exposures(wall):
    dark, bright = ((image((level,) * 3), camera()) for level in (80, 140))
    assert painted(wall, dark, bright).colours == pytest.approx(110, abs=1)


def test_a_mesh_without_surface_stays(wall):
    empty = dataclasses.replace(
        wall,
        vertices=np.zeros((0, 3), np.float32),
        normals=np.zeros((0, 3), np.float32),
        colours=np.zeros((0, 3), np.uint8),
        triangles=np.zeros((0, 3), np.int32),
    )
    assert painted(empty, (image(RED), camera())).colours.shape == (0, 3)
