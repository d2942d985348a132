# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

from __future__ import annotations

import numpy as np
import pytest

from dvmvs_core.errors import DataError
from dvmvs_core.importers.registration import DepthRegistration, check_transform

K = np.array(((10.0, 0, 4), (0, 10.0, 3), (0, 0, 1)))


def test_the_same_camera_sees_the_same_depth(tools):
    depth = tools.depth(0, 7, 9)
    np.testing.assert_array_equal(DepthRegistration(K, np.eye(4), K)(depth, (7, 9)), depth)


def test_a_point_lands_where_it_is_seen_from_beside_and_farther_back():
    depth = np.zeros((7, 9), dtype=np.uint16)
    depth[3, 4] = 1000  # on the axis: (0, 0, 1) m
    colour_T_depth = np.eye(4)
    colour_T_depth[:3, 3] = (0.2, -0.1, 0.25)  # seen at (0.2, -0.1, 1.25) m: 1.6 px to the right, 0.8 px up
    registered = DepthRegistration(K, colour_T_depth, K)(depth, (7, 9))
    assert np.argwhere(registered).tolist() == [[2, 6]]
    assert registered[2, 6] == 1250


@pytest.mark.parametrize("order", [(1000, 2000), (2000, 1000)])
def test_where_two_surfaces_land_in_one_pixel_the_nearest_wins(order):
    depth = np.zeros((1, 9), dtype=np.uint16)
    depth[0, 3:5] = order
    wide_angle = np.array(((1.0, 0, 4), (0, 10.0, 3), (0, 0, 1)))  # columns 3 and 4 both become column 4
    registered = DepthRegistration(K, np.eye(4), wide_angle)(depth, (1, 9))
    assert registered.tolist() == [[0, 0, 0, 0, 1000, 0, 0, 0, 0]]


def test_a_near_surface_moves_over_the_far_one_behind_it():
    colour_T_depth = np.eye(4)
    colour_T_depth[0, 3] = 0.12  # the near surface moves by 1.2 px, the far one by 0.6 px
    depth = np.full((1, 9), 2000, dtype=np.uint16)
    depth[0, 3:5] = 1000
    registered = DepthRegistration(K, colour_T_depth, K)(depth, (1, 9))
    assert registered.tolist() == [[0, 2000, 2000, 2000, 1000, 1000, 2000, 2000, 2000]]


def test_any_transform_agrees_with_the_slow_loop(tools):
    K_colour = np.array(((8.3, 0, 5.1), (0, 7.9, 4.2), (0, 0, 1)))
    for seed in range(5):
        colour_T_depth = np.eye(4)
        angle = 0.1 * seed
        colour_T_depth[:2, :2] = ((np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle)))
        colour_T_depth[:3, 3] = np.random.default_rng(seed).uniform(-0.2, 0.2, 3)
        depth = tools.depth(seed)
        registered = DepthRegistration(K, colour_T_depth, K_colour)(depth, (9, 11))
        np.testing.assert_array_equal(registered, tools.register_slowly(depth, K, colour_T_depth, K_colour, (9, 11)))
        assert registered.any()


def test_points_behind_the_camera_and_too_deep_for_uint16_are_dropped():
    depth = np.array(((500, 65000),), dtype=np.uint16)
    colour_T_depth = np.eye(4)
    colour_T_depth[2, 3] = -0.6
    assert (DepthRegistration(K, colour_T_depth, K)(depth[:, :1], (7, 9)) == 0).all()
    colour_T_depth[2, 3] = 0.6
    assert (DepthRegistration(K, colour_T_depth, K)(depth[:, 1:], (7, 9)) == 0).all()


@pytest.mark.parametrize("wrong", [np.zeros((4, 4)), 2 * np.eye(4), np.full((4, 4), np.nan), np.eye(3)])
def test_only_a_rotation_and_a_translation_is_a_transform(wrong):
    with pytest.raises(DataError, match="the file must be a rotation and a translation"):
        check_transform(wrong, "the file")
