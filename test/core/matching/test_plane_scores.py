# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The plane sweep, averages over squares, semi-global matching and the choice of a plane, against plain references."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from camera_poses import pose_at

from dvmvs_core.evaluation.reconstruction.view_refinement import semi_global_scores
from dvmvs_core.matching.plane_scores import add_upsampled, best_planes, box_means
from dvmvs_core.matching.relative_view import HALF, PRETRAINED, relative_views
from dvmvs_core.matching.semi_global import jump_penalties, paths_across, paths_down
from dvmvs_core.runtime.sweep import repeat_edges
from dvmvs_core.runtime.sweep_kernels import FIRST_PLANE, ONE, ONE_METRE, sweep_rows

HEIGHT, WIDTH, PLANES = 11, 14, 16


@pytest.fixture
def scores():
    return np.random.default_rng(1).normal(size=(HEIGHT, WIDTH, PLANES)).astype(np.float32)


@pytest.mark.parametrize("radius", [0, 1, 3, 20])
def test_means_over_squares_cut_off_at_the_border(scores, radius):
    means = np.full_like(scores, 5)
    for first, last in ((0, 4), (4, 5), (5, HEIGHT)):
        box_means(first, last, scores, radius, np.float32(0.5), True, means)
    for y, x in np.ndindex(HEIGHT, WIDTH):
        square = scores[max(0, y - radius) : y + radius + 1, max(0, x - radius) : x + radius + 1]
        np.testing.assert_allclose(means[y, x], 5 + 0.5 * square.mean(axis=(0, 1)), atol=1e-5)


def test_semi_global_scores_are_those_of_the_plain_version(scores):
    grey = np.random.default_rng(2).uniform(0, 255, (HEIGHT, WIDTH)).astype(np.float32)
    image = np.repeat(grey[..., None], 3, axis=2)
    across, down = np.empty_like(grey), np.empty_like(grey)
    jump_penalties(0, HEIGHT, image, np.float32(4), np.float32(0.2), np.float32(30), across, down)
    agreed = np.empty_like(scores)
    paths_across(0, 6, scores, across, np.float32(0.2), np.float32(0.25), agreed)
    paths_across(6, HEIGHT, scores, across, np.float32(0.2), np.float32(0.25), agreed)
    paths_down(0, 5, scores, down, np.float32(0.2), np.float32(0.25), agreed)
    paths_down(5, WIDTH, scores, down, np.float32(0.2), np.float32(0.25), agreed)
    expected = semi_global_scores(torch.from_numpy(scores).permute(2, 0, 1), torch.from_numpy(grey))
    np.testing.assert_allclose(agreed, expected.permute(1, 2, 0), atol=2e-5)


def test_a_blank_stretch_takes_the_plane_of_what_it_belongs_to():
    """One cell in five knows its plane; an edge of the image parts the two surfaces."""
    scores = np.zeros((4, 30, PLANES), np.float32)
    scores[:, 2:15:5, 4] = 1
    scores[:, 17::5, 11] = 1
    image = np.zeros((4, 30, 3), np.float32)
    image[:, 15:] = 200
    across, down = np.empty((4, 30), np.float32), np.empty((4, 30), np.float32)
    jump_penalties(0, 4, image, np.float32(4), np.float32(0.2), np.float32(30), across, down)
    agreed = np.empty_like(scores)
    paths_across(0, 4, scores, across, np.float32(0.2), np.float32(0.25), agreed)
    paths_down(0, 30, scores, down, np.float32(0.2), np.float32(0.25), agreed)
    best = agreed.argmax(axis=2)
    assert (best[:, :15] == 4).all()
    assert (best[:, 15:] == 11).all()


def test_the_best_plane_lies_at_the_top_of_a_parabola():
    planes = np.arange(PLANES, dtype=np.float32)
    tops = np.array(((5.3, 9.8, 0.0, 15.0),))
    scores = (-((planes - tops[..., None]) ** 2)).astype(np.float32)
    scores[0, 0, 12] = scores[0, 0, 5] - 0.25
    counts = np.tile(np.arange(PLANES, dtype=np.uint8), (1, 4, 1))
    position, margin = np.empty((1, 4), np.float32), np.empty((1, 4), np.float32)
    views = np.empty((1, 4), np.uint8)
    best_planes(0, 1, scores, counts, position, margin, views)
    np.testing.assert_allclose(position, tops, atol=1e-4)
    np.testing.assert_array_equal(views, [[5, 10, 0, 15]])
    # The second best counts from three planes on.
    expected = [0.25, scores[0, 1, 10] - scores[0, 1, 7], 9.0, 9.0]
    np.testing.assert_allclose(margin[0], expected, atol=1e-4)


def test_scores_of_the_pretrained_maps_land_where_their_cells_are_centred():
    """A score that is linear in the pixel stays so: cells at pixels 4x + 3 to cells at pixels 2x."""
    y, x = np.mgrid[:6, :8]
    coarse = np.stack((4.0 * x + 3, 4.0 * y + 3), axis=-1).astype(np.float32)
    scores = np.ones((12, 16, 2), np.float32)
    add_upsampled(0, 7, coarse, np.float32(0.5), scores)
    add_upsampled(7, 12, coarse, np.float32(0.5), scores)
    y, x = np.mgrid[:12, :16]
    expected = np.stack((2.0 * x, 2.0 * y), axis=-1).clip(3, (4 * 7 + 3, 4 * 5 + 3))
    np.testing.assert_allclose(scores, 1 + 0.5 * expected, atol=1e-4)


SWEPT, CHANNELS = (9, 12), 16
K = np.array(((20.0, 0, 11.5), (0, 21.0, 8.5), (0, 0, 1)))
MIN_NORM = np.float32(1e-3)


def bordered(maps):
    """Maps (h, w, C) as (M, h+2, w+2, C), edges repeated."""
    stacked = np.pad(np.stack(maps), ((0, 0), (1, 1), (1, 1), (0, 0)))
    repeat_edges(stacked)
    return stacked


def plain_sweep(reference, others, homographies, translations, centres, factors, margin):
    """One sample at a time."""
    h, w, _ = reference.shape
    scores, counts = np.zeros((h, w, len(factors))), np.zeros((h, w, len(factors)), int)
    for y, x, p in np.ndindex(scores.shape):
        inverse_depth = np.broadcast_to(centres, (h, w))[y, x] * factors[p]
        for other, H, t in zip(others, homographies, translations, strict=True):
            q = H @ (x, y, 1.0) + inverse_depth * t
            if q[2] <= 1e-6:
                continue
            u, v = q[:2] / q[2]
            if not (-margin <= u <= w - 1 + margin and -margin <= v <= h - 1 + margin):
                continue
            u, v = np.clip(u, 0, w - 1), np.clip(v, 0, h - 1)
            left, top = min(int(u), w - 2), min(int(v), h - 2)
            a, b = u - left, v - top
            sample = (1 - b) * ((1 - a) * other[top, left] + a * other[top, left + 1])
            sample = sample + b * ((1 - a) * other[top + 1, left] + a * other[top + 1, left + 1])
            scores[y, x, p] += reference[y, x] @ sample / max(np.linalg.norm(sample), 1e-3)
            counts[y, x, p] += 1
    return scores / np.maximum(counts, 1), counts


def unit(x):
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("grid", [HALF, PRETRAINED])
@pytest.mark.parametrize("about_a_depth", [False, True])
def test_it_does_what_plain_loops_do(grid, about_a_depth):
    rng = np.random.default_rng(3)
    reference, *others = (unit(rng.normal(size=(*SWEPT, CHANNELS))) for _ in range(4))
    poses = [pose_at(*shift, turned=0.1) for shift in ((0.1, 0, 0), (-0.3, 0.2, 0.1), (0, 0, -1.5))]
    to_views = relative_views([np.eye(4)] * 3, [K] * 3, poses, [K] * 3, grid)
    centres = np.ones((1, 1), np.float32)
    if about_a_depth:
        centres = rng.uniform(0.5, 2, SWEPT).astype(np.float32)
    factors = np.array((2.0, 1.0, 0.4), np.float32)
    scores = np.full((*SWEPT, 3), np.nan, np.float32)
    counts = np.full((*SWEPT, 3), 99, np.uint8)
    arguments = (0, 1, reference, bordered(others), *to_views, centres, factors, FIRST_PLANE, 3, grid.margin, True)
    sweep_rows(0, 5, *arguments, ONE, MIN_NORM, scores, counts)
    sweep_rows(5, SWEPT[0], *arguments, ONE, MIN_NORM, scores, counts)
    expected, expected_counts = plain_sweep(reference, others, *to_views, centres, factors, grid.margin)
    assert len(np.unique(expected_counts)) > 2
    # Samples within rounding of the border may fall on either side.
    same = counts == expected_counts
    assert same.mean() > 0.99
    np.testing.assert_allclose(scores[same], expected[same], atol=2e-5)


def test_a_window_of_planes_is_swept_and_the_others_are_neutral():
    rng = np.random.default_rng(6)
    reference, other = (unit(rng.normal(size=(*SWEPT, CHANNELS))) for _ in range(2))
    to_views = relative_views([np.eye(4)], [K], [pose_at(0.2)], [K], HALF)
    factors = np.linspace(0.2, 2, 7).astype(np.float32)
    arguments = (0, SWEPT[0], 0, 1, reference, bordered([other]), *to_views, ONE_METRE, factors)
    rest = (HALF.margin, True, ONE, MIN_NORM)
    everything, counts = np.empty((*SWEPT, 7), np.float32), np.empty((*SWEPT, 7), np.uint8)
    sweep_rows(*arguments, FIRST_PLANE, 7, *rest, everything, counts)
    starts = rng.integers(0, 5, SWEPT).astype(np.int32)
    scores, window_counts = np.full_like(everything, np.nan), np.full_like(counts, 9)
    sweep_rows(*arguments, starts, 3, *rest, scores, window_counts)
    for y, x in np.ndindex(SWEPT):
        window = slice(starts[y, x], starts[y, x] + 3)
        outside = np.delete(scores[y, x], np.arange(7)[window])
        assert not outside.any()
        np.testing.assert_array_equal(window_counts[y, x, window], counts[y, x, window])
        seen = counts[y, x, window] > 0
        expected = everything[y, x, window] - (everything[y, x, window][seen].mean() if seen.any() else 0)
        np.testing.assert_allclose(scores[y, x, window][seen], expected[seen], atol=1e-5)
        assert not scores[y, x, window][~seen].any()


def test_points_map_as_projection_says():
    rng = np.random.default_rng(4)
    world_T_a, world_T_b = pose_at(*rng.normal(size=3)), pose_at(0.3, -0.1, 0.2, turned=0.2)
    homographies, translations = relative_views([world_T_a], [K], [world_T_b], [K + np.diag((1, 2, 0))], PRETRAINED)
    cell, depth = np.array((3.0, 2.0)), 1.7
    pixel = 4 * cell + 3
    point = world_T_a[:3, 3] + depth * np.linalg.inv(K) @ (*pixel, 1)
    in_b = np.linalg.inv(world_T_b) @ (*point, 1)
    there = (K + np.diag((1, 2, 0))) @ in_b[:3]
    expected = (there[:2] / there[2] - 3) / 4
    q = homographies[0] @ (*cell, 1) + translations[0] / depth
    np.testing.assert_allclose(q[:2] / q[2], expected, rtol=1e-5)
