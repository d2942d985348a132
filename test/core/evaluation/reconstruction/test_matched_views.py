# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""A camera that looks at a wall two metres away, and others beside it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from dvmvs_core.evaluation.reconstruction.depth_views import DepthView
from dvmvs_core.evaluation.reconstruction.matched_views import BEST_ANGLE_DEG, best_views

HEIGHT, WIDTH = 128, 160
K = np.array(((120.0, 0.0, 79.5), (0.0, 120.0, 63.5), (0.0, 0.0, 1.0)))
DISTANCE_M = 2.0
# On the axis of the camera; points beside it are seen at smaller angles, which is why the best lies a little above.
BEST_BASELINE_M = DISTANCE_M * np.tan(np.radians(BEST_ANGLE_DEG))


def view_from(x: float = 0.0, z: float = 0.0, turned_deg: float = 0.0) -> DepthView:
    angle = np.radians(turned_deg)
    world_T_cam = np.eye(4)
    world_T_cam[:3, :3] = ((np.cos(angle), 0, np.sin(angle)), (0, 1, 0), (-np.sin(angle), 0, np.cos(angle)))
    world_T_cam[:3, 3] = x, 0, z
    depth = np.full((HEIGHT, WIDTH), DISTANCE_M, np.float32)
    return DepthView(0, depth, np.zeros((HEIGHT, WIDTH, 3), np.uint8), K, world_T_cam)


def test_the_best_baseline_comes_first_and_the_widest_last():
    baselines = (0.03, 0.8, BEST_BASELINE_M, 0.09, 0.4)
    others = [view_from(x) for x in baselines]
    assert [baselines[i] for i in best_views(view_from(), others, 5)] == [BEST_BASELINE_M, 0.09, 0.4, 0.03, 0.8]
    assert best_views(view_from(), others, 2) == [2, 3]


@pytest.mark.parametrize(
    "other",
    (
        pytest.param(view_from(BEST_BASELINE_M, turned_deg=180), id="looks the other way"),
        pytest.param(view_from(BEST_BASELINE_M, turned_deg=90), id="looks aside"),
        pytest.param(view_from(BEST_BASELINE_M, z=DISTANCE_M + 1), id="stands behind the wall"),
    ),
)
def test_a_view_that_sees_none_of_it_is_not_taken(other):
    assert best_views(view_from(), [other], 1) == []


def test_of_two_at_one_angle_the_one_that_sees_more_is_better():
    half = view_from(BEST_BASELINE_M, turned_deg=35)
    assert best_views(view_from(), [half, view_from(BEST_BASELINE_M)], 2) == [1, 0]


def test_of_two_in_one_direction_the_one_as_far_off_is_better():
    """From nearby the same patch of the wall covers more pixels, and looks different."""
    twice_as_near = view_from(BEST_BASELINE_M / 2, z=DISTANCE_M / 2)
    assert best_views(view_from(), [twice_as_near, view_from(BEST_BASELINE_M)], 2) == [1, 0]


def test_a_view_without_depth_has_nothing_to_be_compared():
    without = dataclasses.replace(view_from(), depth=np.zeros((HEIGHT, WIDTH), np.float32))
    assert best_views(without, [view_from(0.1)], 3) == []
    assert best_views(view_from(), [], 3) == []
