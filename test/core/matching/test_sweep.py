# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The compiled plane sweep does what plain loops do."""

from __future__ import annotations

import numpy as np
import pytest

from dvmvs_core.matching.relative_view import HALF, PRETRAINED, relative_views
from dvmvs_core.runtime.sweep import repeat_edges
from dvmvs_core.runtime.sweep_kernels import FIRST_PLANE, ONE, ONE_METRE, sweep_rows

HEIGHT, WIDTH, CHANNELS = 9, 12, 16
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
    reference, *others = (unit(rng.normal(size=(HEIGHT, WIDTH, CHANNELS))) for _ in range(4))
    poses = []
    for shift in ((0.1, 0, 0), (-0.3, 0.2, 0.1), (0.0, 0.0, -1.5)):
        pose = np.eye(4)
        pose[:3, 3] = shift
        pose[0, 0], pose[0, 2], pose[2, 0], pose[2, 2] = np.cos(0.1), np.sin(0.1), -np.sin(0.1), np.cos(0.1)
        poses.append(pose)
    to_views = relative_views([np.eye(4)] * 3, [K] * 3, poses, [K] * 3, grid)
    centres = np.ones((1, 1), np.float32)
    if about_a_depth:
        centres = rng.uniform(0.5, 2, (HEIGHT, WIDTH)).astype(np.float32)
    factors = np.array((2.0, 1.0, 0.4), np.float32)
    scores = np.full((HEIGHT, WIDTH, 3), np.nan, np.float32)
    counts = np.full((HEIGHT, WIDTH, 3), 99, np.uint8)
    arguments = (0, 1, reference, bordered(others), *to_views, centres, factors, FIRST_PLANE, 3, grid.margin, True)
    sweep_rows(0, 5, *arguments, ONE, MIN_NORM, scores, counts)
    sweep_rows(5, HEIGHT, *arguments, ONE, MIN_NORM, scores, counts)
    expected, expected_counts = plain_sweep(reference, others, *to_views, centres, factors, grid.margin)
    assert len(np.unique(expected_counts)) > 2
    # Samples within rounding of the border may fall on either side.
    same = counts == expected_counts
    assert same.mean() > 0.99
    np.testing.assert_allclose(scores[same], expected[same], atol=2e-5)


def test_a_window_of_planes_is_swept_and_the_others_are_neutral():
    rng = np.random.default_rng(6)
    reference, other = (unit(rng.normal(size=(HEIGHT, WIDTH, CHANNELS))) for _ in range(2))
    pose = np.eye(4)
    pose[0, 3] = 0.2
    to_views = relative_views([np.eye(4)], [K], [pose], [K], HALF)
    factors = np.linspace(0.2, 2, 7).astype(np.float32)
    arguments = (0, HEIGHT, 0, 1, reference, bordered([other]), *to_views, ONE_METRE, factors)
    rest = (HALF.margin, True, ONE, MIN_NORM)
    everything, counts = np.empty((HEIGHT, WIDTH, 7), np.float32), np.empty((HEIGHT, WIDTH, 7), np.uint8)
    sweep_rows(*arguments, FIRST_PLANE, 7, *rest, everything, counts)
    starts = rng.integers(0, 5, (HEIGHT, WIDTH)).astype(np.int32)
    scores, window_counts = np.full_like(everything, np.nan), np.full_like(counts, 9)
    sweep_rows(*arguments, starts, 3, *rest, scores, window_counts)
    for y, x in np.ndindex(HEIGHT, WIDTH):
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
    angle = 0.2
    world_T_b = np.eye(4)
    world_T_b[:3, :3] = ((np.cos(angle), 0, np.sin(angle)), (0, 1, 0), (-np.sin(angle), 0, np.cos(angle)))
    world_T_b[:3, 3] = 0.3, -0.1, 0.2
    world_T_a = np.eye(4)
    world_T_a[:3, 3] = rng.normal(size=3)
    homographies, translations = relative_views([world_T_a], [K], [world_T_b], [K + np.diag((1, 2, 0))], PRETRAINED)
    cell, depth = np.array((3.0, 2.0)), 1.7
    pixel = 4 * cell + 3
    point = world_T_a[:3, 3] + depth * np.linalg.inv(K) @ (*pixel, 1)
    in_b = np.linalg.inv(world_T_b) @ (*point, 1)
    there = (K + np.diag((1, 2, 0))) @ in_b[:3]
    expected = (there[:2] / there[2] - 3) / 4
    q = homographies[0] @ (*cell, 1) + translations[0] / depth
    np.testing.assert_allclose(q[:2] / q[2], expected, rtol=1e-5)
