# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""A camera that looks at a wall two metres away, and others beside it."""

from __future__ import annotations

import numpy as np
import pytest

from dvmvs_core.matching.view_selection import BEST_ANGLE_DEG, best_views

HEIGHT, WIDTH = 128, 160
K = np.array(((120.0, 0.0, 79.5), (0.0, 120.0, 63.5), (0.0, 0.0, 1.0)))
DISTANCE_M = 2.0
WALL = np.full((HEIGHT, WIDTH), DISTANCE_M, np.float32)
# On the axis of the camera; points beside it are seen at smaller angles, which is why the best lies a little above.
BEST_BASELINE_M = DISTANCE_M * np.tan(np.radians(BEST_ANGLE_DEG))


def pose(x: float = 0.0, z: float = 0.0, turned_deg: float = 0.0) -> np.ndarray:
    angle = np.radians(turned_deg)
    world_T_cam = np.eye(4)
    world_T_cam[:3, :3] = ((np.cos(angle), 0, np.sin(angle)), (0, 1, 0), (-np.sin(angle), 0, np.cos(angle)))
    world_T_cam[:3, 3] = x, 0, z
    return world_T_cam


def best(others: list[np.ndarray], count: int, depth: np.ndarray = WALL) -> list[int]:
    return best_views(depth, K, np.eye(4), [K] * len(others), others, count, step=16)


def test_the_best_baseline_comes_first_and_the_widest_last():
    baselines = (0.03, 0.8, BEST_BASELINE_M, 0.09, 0.4)
    others = [pose(x) for x in baselines]
    assert [baselines[i] for i in best(others, 5)] == [BEST_BASELINE_M, 0.09, 0.4, 0.03, 0.8]
    assert best(others, 2) == [2, 3]


@pytest.mark.parametrize(
    "other",
    (
        pytest.param(pose(BEST_BASELINE_M, turned_deg=180), id="looks the other way"),
        pytest.param(pose(BEST_BASELINE_M, turned_deg=90), id="looks aside"),
        pytest.param(pose(BEST_BASELINE_M, z=DISTANCE_M + 1), id="stands behind the wall"),
    ),
)
def test_a_view_that_sees_none_of_it_is_not_taken(other):
    assert best([other], 1) == []


def test_of_two_at_one_angle_the_one_that_sees_more_is_better():
    assert best([pose(BEST_BASELINE_M, turned_deg=35), pose(BEST_BASELINE_M)], 2) == [1, 0]


def test_of_two_in_one_direction_the_one_as_far_off_is_better():
    """From nearby the same patch of the wall covers more pixels, and looks different."""
    twice_as_near = pose(BEST_BASELINE_M / 2, z=DISTANCE_M / 2)
    assert best([twice_as_near, pose(BEST_BASELINE_M)], 2) == [1, 0]


def test_a_view_without_depth_has_nothing_to_be_compared():
    assert best([pose(0.1)], 3, np.zeros_like(WALL)) == []
    assert best([], 3) == []
