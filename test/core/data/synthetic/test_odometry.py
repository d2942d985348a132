# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Poses of an odometry that drifts and whose clock is not that of the camera."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from dvmvs_core.data.synthetic.odometry import drift, mistime, sample_odometry_error
from dvmvs_core.data.synthetic.trajectories import camera_velocity

RATE_HZ = 100.0


@pytest.fixture
def path() -> np.ndarray:
    """(200, 4, 4): 0.5 m/s along the camera's own x axis while it turns by 1 rad/s about its y axis."""
    turn_rad = np.arange(200) / RATE_HZ
    poses = np.tile(np.eye(4), (200, 1, 1))
    poses[:, :3, :3] = Rotation.from_rotvec(turn_rad[:, None] * [0.0, 1.0, 0.0]).as_matrix()
    poses[:, 0, 3], poses[:, 2, 3] = 0.5 * np.sin(turn_rad), 0.5 * (np.cos(turn_rad) - 1.0)
    return poses


def test_drift_grows_with_its_scale_and_leaves_the_first_pose(path) -> None:
    noisy = drift(np.random.default_rng(1), path, 1.0)
    assert np.array_equal(noisy[0], path[0])
    steps = np.diff(noisy[:, :3, 3] - path[:, :3, 3], axis=0)
    assert np.linalg.norm(steps, axis=1).mean() == pytest.approx(0.0037, rel=0.15)
    assert np.allclose(noisy[:, :3, :3] @ noisy[:, :3, :3].transpose(0, 2, 1), np.eye(3))


def test_a_pose_from_another_moment_lies_on_the_path(path) -> None:
    """The clock is off by a few ms, during which position and rotation move as the velocity says."""
    noisy = mistime(np.random.default_rng(2), path, camera_velocity(path, RATE_HZ), 2.0)
    turn_rad = np.arctan2(noisy[:, 0, 2], noisy[:, 2, 2])[1:-1]
    late_s = turn_rad - np.arange(200)[1:-1] / RATE_HZ  # 1 rad/s
    assert 0.001 < late_s.std() < 0.003 and 1e-4 < abs(late_s.mean()) < 0.01
    expected = np.stack([0.5 * np.sin(turn_rad), 0.0 * turn_rad, 0.5 * (np.cos(turn_rad) - 1.0)], axis=1)
    assert np.abs(noisy[1:-1, :3, 3] - expected).max() < 1e-4


def test_a_camera_that_stands_still_has_no_wrong_moment(path) -> None:
    assert np.array_equal(mistime(np.random.default_rng(2), path, np.zeros((200, 6)), 4.0), path)


def test_most_odometries_are_good_and_some_are_bad() -> None:
    rng = np.random.default_rng(3)
    scales = np.array([sample_odometry_error(rng) for _ in range(4000)])
    assert (scales == 0).mean() == pytest.approx(0.3, abs=0.03)
    assert np.median(scales) < 0.1
    assert (scales > 1).mean() == pytest.approx(0.215, abs=0.03)
    assert 2.9 < scales.max() <= 3.0
