# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What the regulariser is asked: scores around the matched plane, and planes fitted to clear matches around a cell."""

from __future__ import annotations

import numpy as np
import pytest

from dvmvs_core.matching.measured_around import fitted_depths
from dvmvs_core.matching.regularise import quarter_means, window_rows

CELLS, PLANES, REACH = (5, 7), 12, 4


@pytest.fixture
def scores() -> np.ndarray:
    return np.random.default_rng(3).normal(0, 0.8, (2 * CELLS[0], 2 * CELLS[1], PLANES)).astype(np.float32)


def blocks(values: np.ndarray) -> np.ndarray:
    """(q, r, 4, P) of (2q, 2r, P)."""
    return values.reshape(CELLS[0], 2, CELLS[1], 2, -1).transpose(0, 2, 1, 3, 4).reshape(*CELLS, 4, -1)


def test_means_of_four_cells(scores):
    means = np.empty((*CELLS, PLANES), np.float32)
    quarter_means(0, 2, scores, means)
    quarter_means(2, CELLS[0], scores, means)
    np.testing.assert_allclose(means, blocks(scores).mean(axis=2).clip(-1, 1), atol=1e-6)


def test_windows_and_evidence(scores):
    random = np.random.default_rng(4)
    alone = random.uniform(-1, 1, (*CELLS, PLANES)).astype(np.float32)
    # A parabola may point a little beyond the planes.
    position = random.uniform(-0.4, PLANES - 0.6, CELLS).astype(np.float32)
    position[0, :2] = -0.4, PLANES - 0.6
    windows = np.empty((*CELLS, 2 * REACH + 1), np.float32)
    windows_alone, evidence = np.empty_like(windows), np.empty((*CELLS, 2), np.float32)
    for rows in ((0, 2), (2, CELLS[0])):
        window_rows(*rows, position, scores, alone, REACH, windows, windows_alone, evidence)

    below_best = (blocks(scores) - blocks(scores).max(axis=-1, keepdims=True)).clip(-2).mean(axis=2)
    planes = np.arange(PLANES)
    for y, x in np.ndindex(CELLS):
        middle = int(np.rint(position[y, x]))
        padded = np.pad(below_best[y, x], 2 * REACH, constant_values=-2.0)
        padded_alone = np.pad(alone[y, x], 2 * REACH, constant_values=-1.0)
        shown = slice(middle + REACH, middle + 3 * REACH + 1)
        np.testing.assert_allclose(windows[y, x], padded[shown], atol=1e-6)
        np.testing.assert_array_equal(windows_alone[y, x], padded_alone[shown])
        chosen = np.clip(middle, 0, PLANES - 1)
        others = alone[y, x][np.abs(planes - chosen) > 2].max()
        np.testing.assert_allclose(evidence[y, x], (alone[y, x, chosen], alone[y, x, chosen] - others), atol=1e-6)


SIZE = (48, 64)


@pytest.fixture
def plane() -> np.ndarray:
    """Log depth of a slanted plane, 1.3 to 3.3 m away: inverse depth is linear in the pixel."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    return -np.log(0.3 + 0.004 * x + 0.003 * y).astype(np.float32)


def clear() -> tuple[np.ndarray, np.ndarray]:
    """Score and parallax that count in full."""
    return np.full(SIZE, 0.3, np.float32), np.full(SIZE, 4.0, np.float32)


def test_a_true_plane_is_found(plane):
    fits, weight = fitted_depths(plane, *clear())
    assert fits.shape == (2, *SIZE)
    np.testing.assert_allclose(fits[0], plane, atol=0.005)
    np.testing.assert_allclose(fits[1], plane, atol=0.02)
    np.testing.assert_allclose(weight, 1, atol=1e-5)


def test_a_plane_goes_through_where_matching_knows_nothing(plane):
    hole = (slice(20, 28), slice(26, 34))
    wrong = plane.copy()
    wrong[hole] += 0.7
    score, parallax = clear()
    score[19:29, 25:35] = 0
    fits, weight = fitted_depths(wrong, score, parallax)
    assert weight[22:26, 28:32].max() == 0
    np.testing.assert_allclose(fits[0][hole], plane[hole], atol=0.02)
    blind, _ = fitted_depths(wrong, *clear())
    assert np.abs(blind[0] - plane)[hole].max() > 0.2, "with clear scores it would have been believed"


def test_matches_along_a_diagonal_make_a_plane(plane):
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    score, parallax = clear()
    score[np.abs(x - y) > 4] = 0
    fits, _ = fitted_depths(plane, score, parallax)
    at_its_end = (slice(0, 3), slice(0, 3))
    np.testing.assert_allclose(fits[1][at_its_end], plane[at_its_end], atol=0.01)


def test_depth_stays_in_range():
    nearly_parallel = np.full(SIZE, np.log(30.0), np.float32)
    fits, _ = fitted_depths(nearly_parallel, *clear())
    np.testing.assert_allclose(np.exp(fits), 20.0, rtol=1e-5)
