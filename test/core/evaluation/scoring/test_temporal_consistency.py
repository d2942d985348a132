# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

from __future__ import annotations

import numpy as np
import pytest

from dvmvs_core.evaluation.scoring.temporal_consistency import ComparedDepth, move_depth, temporal_disagreement

K = np.array(((40.0, 0.0, 31.5), (0.0, 40.0, 23.5), (0.0, 0.0, 1.0)))
SIZE = (48, 64)


def moved(x: float = 0.0, z: float = 0.0) -> np.ndarray:
    pose = np.eye(4)
    pose[(0, 2), 3] = x, z
    return pose


def plane(depth_m: float) -> np.ndarray:
    return np.full(SIZE, depth_m)


def test_a_plane_comes_nearer_by_what_the_camera_moves_towards_it():
    b_T_a = moved(z=-0.5)  # b stands half a metre before a
    seen = move_depth(plane(2.0), b_T_a, K)
    assert set(np.unique(seen)) == {0.0, 1.5}  # enlarged, so some pixels get no point
    assert (seen > 0).mean() > 0.4


def test_the_nearest_of_several_points_is_seen():
    depth = plane(0.0)
    depth[24, 32], depth[24, 36] = 4.0, 2.0
    b_T_a = moved(x=-0.4)  # shifts 40·0.4/4 = 4 pixels at 4 m, 8 pixels at 2 m: both to column 28
    seen = move_depth(depth, b_T_a, K)
    assert seen[24, 28] == 2.0
    assert np.count_nonzero(seen) == 1


def test_points_behind_the_camera_are_not_seen():
    assert not move_depth(plane(1.0), moved(z=-1.5), K).any()


def test_two_right_predictions_agree_and_a_scaled_one_disagrees_by_its_scale():
    before = ComparedDepth(plane(2.0), plane(2.0), moved())
    after = ComparedDepth(plane(1.9), plane(1.9), moved(z=0.1))
    assert temporal_disagreement(before, after, K) == pytest.approx(0.0, abs=1e-9)
    flickering = ComparedDepth(plane(1.9) / 1.2, plane(1.9), moved(z=0.1))
    assert temporal_disagreement(before, flickering, K) == pytest.approx(0.2)


def test_a_constant_bias_is_an_error_but_no_flicker():
    views = [ComparedDepth(plane(2.0) * 1.3, plane(2.0), moved(x)) for x in (0.0, 0.05)]
    assert temporal_disagreement(*views, K) == pytest.approx(0.0, abs=1e-9)


def test_what_moved_in_the_scene_does_not_count():
    """An object appears at 1 m in the left half; the prediction there is wrong, and must not be held against it."""
    truth = plane(2.0)
    truth[:, :32] = 1.0
    depth = plane(2.0)
    depth[:, :32] = 7.0
    before, after = ComparedDepth(plane(2.0), plane(2.0), moved()), ComparedDepth(depth, truth, moved())
    assert temporal_disagreement(before, after, K) == 0.0


def test_without_overlap_there_is_no_figure():
    before, after = ComparedDepth(plane(2.0), plane(2.0), moved()), ComparedDepth(plane(2.0), plane(2.0), moved(x=50.0))
    assert np.isnan(temporal_disagreement(before, after, K))
