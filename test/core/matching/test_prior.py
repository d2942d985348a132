# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The prior depth, its penalty, the evidence of few views, and which views are chosen."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from camera_poses import pose_at as moved

from dvmvs_core.evaluation.scoring.temporal_consistency import move_depth
from dvmvs_core.matching.prior import fuse_rows, parallax_rows, subtract_prior, weigh_evidence
from dvmvs_core.matching.relative_view import FULL, relative_views
from dvmvs_core.matching.view_selection import BEST_ANGLE_DEG, best_views
from dvmvs_core.runtime.reprojection_kernels import splat_maps

HEIGHT, WIDTH = 12, 16
K = np.array(((15.0, 0, 7.5), (0, 15.0, 5.5), (0, 0, 1)))


def fuse(own, nearest, weights, measured, own_weight=2.0, full_weight=6.0):
    fused, agreement = np.empty_like(own), np.empty_like(own)
    arguments = (np.float32(own_weight), nearest, weights, measured, np.float32(0.08), np.float32(full_weight))
    fuse_rows(0, len(own), own, *arguments, fused, agreement)
    return fused, agreement


def test_depth_is_splatted_as_points_move():
    rng = np.random.default_rng(1)
    depth = rng.uniform(1, 3, (HEIGHT, WIDTH)).astype(np.float32)
    depth[2, 3:6] = 0
    world_T_past, world_T_here = moved(0.2, -0.1, 0.3), moved(0.0)
    weights = rng.uniform(0.1, 1, depth.shape).astype(np.float32)
    nearest, nearest_weights = np.empty((1, *depth.shape), np.float32), np.empty((1, *depth.shape), np.float32)
    here_T_past = np.linalg.inv(world_T_here) @ world_T_past
    cameras = [matrix[None].astype(np.float32) for matrix in (here_T_past, K, K)]
    splat_maps(0, 1, depth[None], weights[None], *cameras, np.float32(0.1), False, nearest, nearest_weights)
    expected = move_depth(depth, here_T_past, K)
    np.testing.assert_allclose(nearest[0], expected, rtol=1e-5)
    y, x = np.argwhere(expected > 0)[7]
    from_cell = np.isclose(depth + 0.3, expected[y, x], rtol=1e-5)
    assert nearest_weights[0, y, x] == weights[from_cell]


def test_the_prior_is_the_weighted_median():
    own = np.full((2, 3), 5.0, np.float32)
    nearest = np.tile(np.array((1.0, 1.02, 2.0, 0.0), np.float32)[:, None, None], (1, 2, 3))
    weights = np.ones_like(nearest)
    weights[3] = 50  # of a depth that is not there
    fused, agreement = fuse(own, nearest, weights, measured=3)
    # 1, 1.02, 2 and twice 5: half of the weight, 2.5, is reached at 2.
    np.testing.assert_allclose(fused, 2.0, rtol=1e-4)
    np.testing.assert_allclose(agreement, 1 / 6, rtol=1e-4)
    weights[:2] = 2
    fused, agreement = fuse(own, nearest, weights, measured=3)
    np.testing.assert_allclose(fused, 1.01, rtol=0.02)
    np.testing.assert_allclose(agreement, 4 / 7, rtol=1e-4)


def test_what_the_network_predicted_is_no_agreement():
    own = np.full((1, 1), 2.0, np.float32)
    same = np.full((3, 1, 1), 2.0, np.float32)
    _, agreement = fuse(own, same, np.ones_like(same), measured=0)
    assert agreement == 0


def test_without_a_past_the_prior_is_the_network():
    own = np.random.default_rng(1).uniform(0.05, 40, (4, 5)).astype(np.float32)
    nothing = np.empty((0, 4, 5), np.float32)
    fused, agreement = fuse(own, nothing, nothing, measured=0)
    np.testing.assert_allclose(fused, own, rtol=1e-4)
    assert not agreement.any()


@pytest.mark.parametrize("z", [0.0, 0.2])
def test_parallax_is_the_largest_motion_of_a_step_in_depth(z):
    prior = np.random.default_rng(2).uniform(1, 3, (HEIGHT, WIDTH)).astype(np.float32)
    poses = [moved(0.05), moved(-0.1, 0.02, z)]
    to_views = relative_views([np.eye(4)] * 2, [K] * 2, poses, [K] * 2, FULL)
    parallax = np.empty_like(prior)
    parallax_rows(0, HEIGHT, prior, *to_views, np.float32(1), np.float32(0), parallax)
    for y, x in np.ndindex(HEIGHT, WIDTH):
        largest, on_a_border = 0.0, False
        for pose in poses:
            ray = np.linalg.inv(K) @ (x, y, 1)
            near, far = (K @ (ray * depth - pose[:3, 3]) for depth in (prior[y, x], prior[y, x] / 0.8))
            near, far = near[:2] / near[2], far[:2] / far[2]
            on_a_border |= np.abs(np.concatenate((near, near - (WIDTH - 1, HEIGHT - 1)))).min() < 1e-4
            if (near >= 0).all() and (near <= (WIDTH - 1, HEIGHT - 1)).all():
                largest = max(largest, np.linalg.norm(far - near))
        assert on_a_border or parallax[y, x] == pytest.approx(largest, abs=1e-4)


def test_the_penalty_is_capped_where_there_is_parallax_and_is_not_where_there_is_none():
    log_depths = np.log(np.array((1.0, 1.2, 2.0, 4.0, 8.0), np.float32))
    scores = np.zeros((2, 4, 5), np.float32)
    prior = np.array(((1.0, 2.0),), np.float32)
    agreement = np.array(((0.0, 0.5),), np.float32)
    parallax = np.array(((0.0, 100.0),), np.float32)
    strength, trust, reach, scale, far = (np.float32(x) for x in (0.3, 0.3, 0.35, 2, 0.1))
    subtract_prior(0, 2, prior, agreement, parallax, log_depths, strength, trust, reach, scale, far, scores)
    off = log_depths
    expected = 0.3 * np.minimum(off, 0.35) + np.minimum(off, 1) + 0.1 * off
    np.testing.assert_allclose(-scores[1, 1], expected, atol=1e-6)
    off = log_depths - np.log(2)
    expected = 0.45 * np.minimum(np.abs(off), 0.35) + 0.1 * np.maximum(off, 0)
    np.testing.assert_allclose(-scores[0, 2], expected, atol=1e-6)


def test_planes_that_few_views_see_do_not_win_by_chance():
    scores = np.array((0.2, 0.75, 0.7, 0.0), np.float32).reshape(1, 1, 4)
    counts = np.array((4, 1, 4, 0), np.uint8).reshape(1, 1, 4)
    mean = (4 * 0.2 + 0.75 + 4 * 0.7) / 9
    weigh_evidence(0, 1, counts, np.float32(2), scores)
    assert scores.argmax() == 2
    np.testing.assert_allclose(
        scores.ravel(), [0.2 - mean, (0.75 - mean) * (1 / 3) / (4 / 6), 0.7 - mean, 0], atol=1e-6
    )


def test_cells_that_no_view_sees_have_no_preference():
    scores = np.zeros((1, 2, 4), np.float32)
    weigh_evidence(0, 1, np.zeros((1, 2, 4), np.uint8), np.float32(2), scores)
    assert not scores.any()


WALL_SIZE = (128, 160)
WALL_K = np.array(((120.0, 0.0, 79.5), (0.0, 120.0, 63.5), (0.0, 0.0, 1.0)))
DISTANCE_M = 2.0
WALL = np.full(WALL_SIZE, DISTANCE_M, np.float32)
# On the axis of the camera; points beside it are seen at smaller angles, which is why the best lies a little above.
BEST_BASELINE_M = DISTANCE_M * np.tan(np.radians(BEST_ANGLE_DEG))


def best(others: list[np.ndarray], count: int, depth: np.ndarray = WALL) -> list[int]:
    return best_views(depth, WALL_K, np.eye(4), [WALL_K] * len(others), others, count, step=16)


def test_the_best_baseline_is_taken_first():
    """And the widest last; a somewhat smaller one keeps more of the wall in view."""
    baselines = (0.09, BEST_BASELINE_M, 0.03, 0.4, 0.8)
    for better, worse in pairwise(baselines):
        assert best([moved(worse), moved(better)], 1) == [1]
    others = [moved(x) for x in (*baselines[1:], baselines[0])]
    assert best(others, 1) == [4] and sorted(best(others, 9)) == [0, 1, 2, 3, 4]


def test_what_is_seen_already_counts_little():
    """Three that stand where the best one does, and one that sees less, but sees what they do not."""
    turned = [moved(BEST_BASELINE_M, turned=np.radians(a)) for a in (25, 26, 27, -35)]
    assert best(turned, 1) == [0]
    assert best(turned, 2) == [0, 3]
    assert sorted(best(turned, 4)) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "other",
    (
        pytest.param(moved(BEST_BASELINE_M, turned=np.pi), id="looks the other way"),
        pytest.param(moved(BEST_BASELINE_M, turned=np.pi / 2), id="looks aside"),
        pytest.param(moved(BEST_BASELINE_M, z=DISTANCE_M + 1), id="stands behind the wall"),
    ),
)
def test_a_view_that_sees_none_of_it_is_not_taken(other):
    assert best([other], 1) == []


def test_of_two_at_one_angle_the_one_that_sees_more_is_better():
    assert best([moved(BEST_BASELINE_M, turned=np.radians(35)), moved(BEST_BASELINE_M)], 2) == [1, 0]


def test_of_two_in_one_direction_the_one_as_far_off_is_better():
    """From nearby the same patch of the wall covers more pixels, and looks different."""
    twice_as_near = moved(BEST_BASELINE_M / 2, z=DISTANCE_M / 2)
    assert best([twice_as_near, moved(BEST_BASELINE_M)], 2) == [1, 0]


def test_a_view_without_depth_has_nothing_to_be_compared():
    assert best([moved(0.1)], 3, np.zeros_like(WALL)) == []
    assert best([], 3) == []
