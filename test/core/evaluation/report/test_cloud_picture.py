# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.


from __future__ import annotations

import numpy as np

from dvmvs_core.evaluation.prediction.virtual_camera import VirtualCamera
from dvmvs_core.evaluation.report.cloud_picture import (
    BACKGROUND,
    PATH_COLOUR,
    SIDES_DEG,
    Cloud,
    draw_cloud,
    draw_sides,
)

RED, BLUE = (200, 20, 20), (20, 20, 200)
SIZE = (240, 320)


def poses() -> list[np.ndarray]:
    """A camera that moves 1 m to the right and looks along the world's y, z up."""
    found = []
    for x in np.linspace(-0.5, 0.5, 5):
        world_T_cam = np.eye(4)
        world_T_cam[:3, :3] = np.array(((1, 0, 0), (0, 0, 1), (0, -1, 0)))
        world_T_cam[:3, 3] = (x, 0.0, 1.0)
        found.append(world_T_cam)
    return found


def wall(x0: float, x1: float, colour: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """A patch 3 m in front of the camera, 1 m high, as points of the camera and colours."""
    x, y = np.meshgrid(np.arange(x0, x1, 0.014), np.arange(-0.5, 0.5, 0.014))
    points = np.stack((x, y, np.full_like(x, 3.0)), axis=-1).reshape(-1, 3)
    return points, np.tile(np.array(colour, np.uint8), (len(points), 1))


def two_walls() -> Cloud:
    cloud = Cloud()
    for patch in (wall(-1.0, 0.0, RED), wall(0.0, 1.0, BLUE)):
        cloud.add(*patch, poses()[2])
    return cloud


def pixels_of(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return np.argwhere((picture == colour).all(axis=-1))


def test_points_go_into_the_world_and_one_stays_of_each_cube():
    cloud = Cloud()
    points = np.array(((0.205, 0.1, 2.0), (0.2051, 0.1, 2.0), (0.305, 0.1, 2.0)))
    cloud.add(points, np.zeros((3, 3), np.uint8), poses()[0])
    assert len(cloud.points) == 2
    np.testing.assert_allclose(sorted(cloud.points.tolist()), [[-0.295, 2.0, 0.9], [-0.195, 2.0, 0.9]], atol=2e-4)
    cloud.add(points[:1], np.full((1, 3), 7, np.uint8), poses()[0])
    assert len(cloud.points) == 2 and (cloud.colours == 7).all(axis=1).sum() == 1  # the latest


def test_cubes_of_negative_coordinates_are_told_apart():
    grid = np.stack(np.meshgrid(*[np.arange(-3, 3) * 0.1 + 0.007] * 3), axis=-1).reshape(-1, 3)
    cloud = Cloud()
    cloud.add(grid, np.zeros((len(grid), 3), np.uint8), np.eye(4))
    assert len(cloud.points) == len(grid)


def test_each_side_shows_the_whole_cloud_upright_and_the_path():
    cloud = two_walls()
    for side in SIDES_DEG:
        picture = draw_cloud(cloud, VirtualCamera.of_side(cloud.points, poses(), side, SIZE), poses())
        assert picture.shape == (*SIZE, 3)
        red, blue, path = (pixels_of(picture, colour) for colour in (RED, BLUE, PATH_COLOUR))
        assert len(red) > 300 and len(blue) > 300 and len(path) > 20
        assert red[:, 1].mean() < blue[:, 1].mean()  # left stays left
        view = VirtualCamera.of_side(cloud.points, poses(), side, SIZE)
        top, bottom = view.project(np.array(((0.0, 3.0, 1.5), (0.0, 3.0, 0.5))))[0][:, 1]
        assert top < bottom
        assert (picture[:2] == BACKGROUND).all()  # nothing is cut off


def test_near_points_cover_far_ones():
    cloud = Cloud()
    far, near = wall(-1.0, 1.0, RED), wall(-0.2, 0.2, BLUE)
    cloud.add(far[0], far[1], poses()[2])
    cloud.add(near[0] * (0.5, 0.5, 0.5), near[1], poses()[2])
    view = VirtualCamera.of_side(cloud.points, poses(), 0.0, SIZE)
    (x, y), *_ = view.project(np.array(((0.0, 1.5, 1.0),)))[0].round().astype(int)
    assert tuple(draw_cloud(cloud, view, poses())[y, x]) == BLUE


def test_the_two_sides_stand_next_to_each_other():
    picture = draw_sides(two_walls(), poses(), SIZE)
    assert picture.shape == (*SIZE, 3)
    assert len(pixels_of(picture[:, :160], RED)) > 100 and len(pixels_of(picture[:, 160:], RED)) > 100


def test_an_empty_cloud_is_a_picture_all_the_same():
    view = VirtualCamera(np.eye(4), 100.0, np.array((160.0, 120.0)), SIZE)
    assert draw_cloud(Cloud(), view, poses()).shape == (*SIZE, 3)
