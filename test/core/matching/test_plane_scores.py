# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Averages over squares, finer grids, semi-global matching and the choice of a plane, against plain references."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dvmvs_core.evaluation.reconstruction.view_refinement import semi_global_scores
from dvmvs_core.matching.plane_scores import add_upsampled, best_planes, box_means
from dvmvs_core.matching.semi_global import jump_penalties, paths_across, paths_down

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
