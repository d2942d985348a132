# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation, Slerp

from dvmvs_core.data.poses.quaternion import multiply, normalised, pose_matrix, quaternion_of, rotate, slerp

unit = st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: sum(v * v for v in q) > 1e-3).map(normalised)
vector = st.tuples(*[st.floats(-100, 100)] * 3)


@given(unit, vector)
def test_rotation_and_matrix_agree_with_scipy(q, v):
    rotation = Rotation.from_quat(q)
    assert np.allclose(pose_matrix(v, q)[:3, :3], rotation.as_matrix(), atol=1e-14)
    assert np.allclose(pose_matrix(v, q)[:3, 3], v)
    assert np.allclose(rotate(q, v), rotation.apply(v), atol=1e-12)


@given(unit, unit)
def test_a_product_rotates_by_the_right_factor_first(a, b):
    expected = (Rotation.from_quat(a) * Rotation.from_quat(b)).as_matrix()
    assert np.allclose(pose_matrix((0, 0, 0), multiply(a, b))[:3, :3], expected, atol=1e-14)


@given(unit)
def test_a_matrix_gives_its_quaternion_back_with_positive_w(q):
    found = quaternion_of(pose_matrix((0, 0, 0), q)[:3, :3])
    sign = 1.0 if sum(a * b for a, b in zip(found, q, strict=True)) >= 0 else -1.0
    assert found == pytest.approx([sign * v for v in q], abs=1e-14)
    assert found[3] >= 0


@pytest.mark.parametrize("axis", range(3))
def test_half_turns_have_no_preferred_sign_but_are_found(axis):
    R = -np.eye(3)
    R[axis, axis] = 1.0
    assert np.abs(quaternion_of(R)) == pytest.approx(np.eye(4)[axis], abs=1e-15)


@given(unit, unit, st.floats(0, 1))
def test_slerp_agrees_with_scipy(a, b, ratio):
    if abs(sum(x * y for x, y in zip(a, b, strict=True))) < 1e-6:
        return  # half a turn apart: both ways round are shortest
    expected = Slerp((0, 1), Rotation.from_quat((a, b)))(ratio).as_matrix()
    assert np.allclose(pose_matrix((0, 0, 0), slerp(a, b, ratio))[:3, :3], expected, atol=1e-9)


def test_slerp_moves_through_an_angle_too_small_for_an_arc_cosine():
    angle = 1e-8
    end = (0.0, 0.0, np.sin(angle / 2), np.cos(angle / 2))
    assert slerp((0, 0, 0, 1), end, 0.25)[2] == pytest.approx(angle / 8, rel=1e-6)
