# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Rigid transforms, pose distance and the pinhole camera."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from dvmvs_core.geometry import (
    backproject,
    inverse_pose,
    is_finite_pose,
    is_rotation,
    pose_distance,
    project,
    scale_intrinsics,
)

finite = st.floats(-3.0, 3.0)
vectors = st.tuples(finite, finite, finite)


def make_pose(rotation_vector=(0.0, 0.0, 0.0), translation=(0.0, 0.0, 0.0)) -> np.ndarray:
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_rotvec(rotation_vector).as_matrix()
    pose[:3, 3] = translation
    return pose


@given(vectors, vectors)
def test_inverse_pose_undoes_the_pose(rotation_vector, translation):
    pose = make_pose(rotation_vector, translation)
    np.testing.assert_allclose(inverse_pose(pose) @ pose, np.eye(4), atol=1e-12)


def test_pose_distance_of_a_pure_translation_is_its_length():
    distance = pose_distance(np.eye(4), make_pose(translation=(0.3, 0.0, 0.4)))
    assert distance.translation == pytest.approx(0.5)
    assert distance.rotation == 0.0
    assert distance.combined == pytest.approx(0.5)


@given(st.floats(0.0, np.pi))
def test_pose_distance_of_a_pure_rotation_follows_its_closed_form(angle):
    distance = pose_distance(np.eye(4), make_pose(rotation_vector=(0.0, angle, 0.0)))
    assert distance.rotation == pytest.approx(np.sqrt(4 / 3 * (1 - np.cos(angle))), abs=1e-7)
    assert distance.translation == pytest.approx(0.0, abs=1e-12)


@given(vectors, vectors)
def test_pose_distance_does_not_depend_on_the_order_or_on_the_world(rotation_vector, translation):
    a, b = make_pose((0.1, 0.2, 0.3), (1.0, 2.0, 3.0)), make_pose(rotation_vector, translation)
    moved = make_pose((-0.4, 0.9, 0.2), (5.0, -2.0, 1.0))
    forward = pose_distance(a, b)
    assert pose_distance(b, a).combined == pytest.approx(forward.combined, abs=1e-7)
    assert pose_distance(moved @ a, moved @ b).combined == pytest.approx(forward.combined, abs=1e-7)


def test_is_rotation_refuses_scale_shear_and_mirrors():
    rotation = make_pose((0.3, -0.2, 1.0))[:3, :3]
    assert is_rotation(rotation)
    assert is_rotation(np.round(rotation, 4))
    assert not is_rotation(1.02 * rotation)
    assert not is_rotation(rotation @ np.diag((1.0, 1.0, -1.0)))
    assert not is_rotation(rotation + np.array(((0, 0.05, 0), (0, 0, 0), (0, 0, 0))))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_is_finite_pose_sees_every_entry(bad):
    for row in range(4):
        for column in range(4):
            pose = np.eye(4)
            pose[row, column] = bad
            assert not is_finite_pose(pose)
    assert is_finite_pose(np.eye(4))


def test_project_undoes_backproject_and_depth_is_z():
    K = np.array(((50.0, 0, 7.5), (0, 60.0, 4.5), (0, 0, 1)))
    depth = np.random.default_rng(0).uniform(0.5, 9.0, (10, 16))
    points = backproject(depth, K)
    np.testing.assert_allclose(points[..., 2], depth)
    grid = np.stack(np.meshgrid(np.arange(16), np.arange(10)), axis=-1)
    np.testing.assert_allclose(project(points, K), grid, atol=1e-9)
    np.testing.assert_allclose(points[4, 8], ((8 - 7.5) / 50 * depth[4, 8], (4 - 4.5) / 60 * depth[4, 8], depth[4, 8]))


def test_scale_intrinsics_leaves_its_argument_alone():
    K = np.array(((100.0, 0, 40.0), (0, 90.0, 30.0), (0, 0, 1)))
    np.testing.assert_allclose(scale_intrinsics(K, 0.5, 2.0), ((50, 0, 20), (0, 180, 60), (0, 0, 1)))
    assert K[0, 0] == 100.0
