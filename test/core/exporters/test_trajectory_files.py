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
from dvmvs_core.exporters.trajectory_files import Trajectory

PATH = Path("groundtruth.txt")
HALF = np.sqrt(0.5)


def quarter_turn():
    """Stamps 100 and 200: one metre along x while turning by 90° about z."""
    quaternions = np.array(((0, 0, 0, 1), (0, 0, HALF, HALF)))
    return Trajectory(np.array((100, 200)), np.array(((0, 0, 0), (1.0, 0, 0))), quaternions, PATH)


def test_a_pose_between_two_is_linear_in_place_and_angle():
    (pose,) = quarter_turn().interpolate(np.array((125,)), 75)
    c, s = np.cos(np.pi / 8), np.sin(np.pi / 8)
    np.testing.assert_allclose(pose, ((c, -s, 0, 0.25), (s, c, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)), atol=1e-15)


def test_the_turn_takes_the_shorter_way_whatever_the_sign_of_the_quaternion():
    quaternions = np.array(((0, 0, 0, 1), (0, 0, -HALF, -HALF)))
    flipped = Trajectory(np.array((100, 200)), np.array(((0, 0, 0), (1.0, 0, 0))), quaternions, PATH)
    times = np.array((110, 150, 190))
    np.testing.assert_allclose(flipped.interpolate(times, 100), quarter_turn().interpolate(times, 100), atol=1e-15)


def test_a_pose_at_a_recorded_time_is_the_recorded_one_even_with_no_gap_allowed():
    poses = quarter_turn().interpolate(np.array((100, 200)), 0)
    np.testing.assert_allclose(poses[0], np.eye(4), atol=1e-15)
    np.testing.assert_allclose(poses[1, :, 0], (0, 1, 0, 0), atol=1e-15)
    assert poses[1, 0, 3] == 1


@pytest.mark.parametrize(("stamp", "gap"), [(99, 1000), (201, 1000), (125, 74), (175, 74)])
def test_nothing_is_invented_outside_or_across_a_gap(stamp, gap):
    assert np.isnan(quarter_turn().interpolate(np.array((stamp,)), gap)).all()


def test_quaternions_that_are_none_are_refused():
    with pytest.raises(DataError, match=r"groundtruth.txt must hold quaternions of length 1; pose 2 has 0\. "):
        Trajectory(np.array((1, 2)), np.zeros((2, 3)), np.array(((0, 0, 0, 1.0), (0, 0, 0, 0))), PATH)
    with pytest.raises(DataError, match="pose 1 has nan"):
        Trajectory(np.array((1,)), np.zeros((1, 3)), np.full((1, 4), np.nan), PATH)
    with pytest.raises(DataError, match="must hold finite positions"):
        Trajectory(np.array((1,)), np.full((1, 3), np.inf), np.array(((0, 0, 0, 1.0),)), PATH)
