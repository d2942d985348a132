# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Bundle adjustment against a general minimiser of its cost, in plain numpy, on random tracks."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from scipy.optimize import minimize

pytest.importorskip("numba")

from dvmvs_core.config import MATCHING_PRESETS
from dvmvs_core.matching import bundle_kernels, pose_correction, track_kernels, warm_up
from dvmvs_core.matching.corner_tracks import CornerTracks
from dvmvs_core.runtime.compiled import CompiledLoop

NOISE, OUTLIER, CORRELATED = 0.5, 4.0, 3.0
TURN, SHIFT_M = np.deg2rad(0.7), 0.012


def random_tracks(seed, views=3, corners=24):
    """Tracks with noise, outliers and gaps; prior depth and poses are off."""
    rng = np.random.default_rng(seed)
    x = np.column_stack((rng.uniform(-0.5, 0.5, (corners, 2)), np.ones(corners)))
    depth = rng.uniform(1, 4, corners)
    poses, y = np.tile(np.eye(4), (views, 1, 1)), np.empty((views, corners, 2))
    focal = rng.uniform(110, 150, (views, 2))
    for pose, places, f in zip(poses, y, focal, strict=True):
        pose[:3, :3] = cv2.Rodrigues(rng.normal(0, 0.1, 3))[0]
        pose[:3, 3] = rng.normal(0, 0.12, 3)
        points = (x * depth[:, None]) @ pose[:3, :3].T + pose[:3, 3]
        points = points @ cv2.Rodrigues(rng.normal(0, 0.008, 3))[0].T + rng.normal(0, 0.006, 3)
        places[:] = points[:, :2] / points[:, 2:] + rng.normal(0, 0.3, (corners, 2)) / f
        places[: corners // 10] += rng.normal(0, 0.1, (corners // 10, 2))
    prior = 1.2 * depth * np.exp(rng.normal(0, 0.15, corners))
    return CornerTracks(x, prior, rng.uniform(0, 1, corners), y, rng.uniform(0, 1, y.shape[:2]) < 0.8, focal, poses)


def of_depth(tracks):
    """Doubt, and deviation of log depth, by agreement."""
    return 1 - tracks.agreement, 0.8 - 0.6 * tracks.agreement


def expected(views):
    """Deviations of all parameters."""
    return np.append(np.tile(np.repeat((TURN, SHIFT_M), 3), views), (0.8, 0.3, 0.05, 0.15))


def random_precision(seed, size):
    """Of errors that depend on each other."""
    rng = np.random.default_rng(seed)
    deviations = expected((size - 4) // 6)
    mixed = np.eye(size) + 0.1 * rng.normal(0, 1, (size, size))
    return np.linalg.inv(mixed @ mixed.T) / np.outer(deviations, deviations)


def cost(tracks, precision, solution, changes):
    def robust(squares):
        return OUTLIER * np.log1p(squares / OUTLIER).sum() / CORRELATED / 2

    logs = np.log(tracks.depth)
    doubt, deviation = of_depth(tracks)
    depth = np.exp(logs + doubt * (solution[-4] + solution[-3] * (logs - logs.mean())) + changes)
    total = solution @ precision @ solution / 2 + robust((changes / deviation) ** 2)
    longer, distortion = np.exp(solution[-2]), solution[-1]
    rays = tracks.x / (longer, longer, 1)
    rays[:, :2] *= 1 - distortion * np.square(rays[:, :2]).sum(axis=1, keepdims=True)
    moves = solution[:-4].reshape(-1, 6)
    for move, pose, y, seen, f in zip(moves, tracks.view_T_ref, tracks.y, tracks.seen, tracks.focal, strict=True):
        points = (rays * depth[:, None]) @ pose[:3, :3].T + pose[:3, 3]
        points = points @ cv2.Rodrigues(move[:3])[0].T + move[3:]
        straight = points[:, :2] / points[:, 2:]
        off = (y - longer * straight * (1 + distortion * np.square(straight).sum(axis=1, keepdims=True))) * f
        total += robust(((off**2).sum(axis=1) / NOISE**2)[seen])
    return total


def found(tracks, precision, free=None, iterations=60):
    """Solution, information and cost with some of the parameters free, by default all."""
    free = range(len(precision)) if free is None else free
    solution, information = np.full(len(precision), np.nan), np.full((len(free), len(free)), np.nan)
    of_solution = np.full(1, np.nan)
    seen = (tracks.x, tracks.y, tracks.seen, tracks.depth, tracks.focal, tracks.view_T_ref)
    noise = (NOISE, OUTLIER, CORRELATED, iterations, 1e-12)
    how = (*of_depth(tracks), *noise, free.start, free.stop)
    bundle_kernels.adjust(*seen, precision, *how, solution, information, of_solution)
    return solution, information, of_solution[0]


@pytest.mark.parametrize("views", [1, 2])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("free", ["all", "all but the intrinsics", "depth"])
def test_what_is_free_has_the_least_cost(seed, views, free):
    tracks = random_tracks(seed, views)
    size, corners = 6 * views + 4, len(tracks.x)
    precision = random_precision(seed, size)
    places = {"all": range(size), "all but the intrinsics": range(size - 2), "depth": range(size - 4, size - 2)}[free]
    scales = np.append(expected(views), np.full(corners, 0.5))

    def all_of(values):
        everything = np.zeros(size + corners)
        everything[places.start : places.stop], everything[size:] = np.split(values, [len(places)])
        return cost(tracks, precision, *np.split(scales * everything, [size]))

    solution, _, least = found(tracks, precision, places)
    here = (solution / expected(views))[places.start : places.stop]
    start = np.zeros(len(places) + corners)
    if free != "depth":  # from 0 it takes half a minute
        start[: len(places)] = here
    best = minimize(all_of, start, method="BFGS", options={"gtol": 1e-6})
    free_best = best.x[: len(places)]
    assert np.abs(free_best).max() > (0.02 if free == "depth" else 0.3)
    np.testing.assert_allclose(here, free_best, atol=5e-3, rtol=0)
    assert np.delete(solution, places).tolist() == [0] * (size - len(places))
    assert least == pytest.approx(best.fun, rel=1e-5)


def test_information_is_the_curvature_of_the_cost_where_no_track_is_an_outlier():
    """Of the cost that is least over the corners' changes."""
    tracks = random_tracks(1)
    tracks = replace(tracks, y=tracks.y.copy())
    for places, pose in zip(tracks.y, tracks.view_T_ref, strict=True):
        points = (tracks.x * tracks.depth[:, None]) @ pose[:3, :3].T + pose[:3, 3]
        places[:] = points[:, :2] / points[:, 2:]
    precision = random_precision(1, 22)
    solution, information, at_rest = found(tracks, precision)
    np.testing.assert_allclose(solution, 0, atol=1e-9)
    assert at_rest == pytest.approx(0, abs=1e-12)
    for k in (0, 5, 17, 18, 19, 20, 21):
        step = 1e-3 / np.sqrt(information[k, k])
        values = np.zeros(22)
        values[k] = step

        def over_corners(changes, values=values):
            return cost(tracks, precision, values, changes)

        least = minimize(over_corners, np.zeros(len(tracks.x)), method="BFGS", options={"gtol": 1e-12}).fun
        assert 2 * least / step**2 == pytest.approx(information[k, k], rel=1e-3)


def test_without_a_step_nothing_moves():
    tracks = random_tracks(5)
    solution, _, unmoved = found(tracks, random_precision(5, 22), iterations=0)
    np.testing.assert_array_equal(solution, 0)
    assert unmoved - found(tracks, random_precision(5, 22))[2] > 1


def test_places_that_no_view_shows_say_nothing():
    tracks = random_tracks(6)
    precision = random_precision(6, 22)
    y = np.where(tracks.seen[..., None], tracks.y, np.nan)
    np.testing.assert_array_equal(found(tracks, precision)[0], found(replace(tracks, y=y), precision)[0])


def test_points_behind_the_view_are_no_reason_to_move():
    tracks = random_tracks(7)
    behind = np.diag((-1.0, 1.0, -1.0, 1.0)) @ tracks.view_T_ref
    solution, _, least = found(replace(tracks, view_T_ref=behind), random_precision(7, 22))
    np.testing.assert_array_equal(solution, 0)
    assert least == 0


def test_no_numbers_move_nothing():
    tracks = random_tracks(8)
    precision = random_precision(8, 22)
    for name in ("y", "depth"):
        values = getattr(tracks, name).copy()
        values[0] = np.nan
        solution, _, least = found(replace(tracks, **{name: values}), precision)
        np.testing.assert_array_equal(solution, 0)
        assert not least > 0


@pytest.mark.parametrize("turn", [(0, 0, 0), (1e-13, 0, 0), (0.02, 0, 0), (0.6, -0.9, 1.1)])
def test_rotations_are_those_of_opencv(turn):
    R = np.full((3, 3), np.nan)
    bundle_kernels._rotation(np.array(turn, dtype=np.float64), R)
    np.testing.assert_allclose(R, cv2.Rodrigues(np.array(turn, dtype=np.float64))[0], atol=1e-12, rtol=0)


def test_warming_up_calls_every_loop(monkeypatch):
    """Correction calls all of them where it moves a view; each is compiled for one signature, tests included."""
    moved = []

    def recorded(reference, views, *rest):
        result, calibration = pose_correction.corrected_views(reference, views, *rest)
        moved.extend(one is not other for one, other in zip(result, views, strict=True))
        return result, calibration

    monkeypatch.setattr(warm_up, "corrected_views", recorded)
    warm_up.match_noise(MATCHING_PRESETS["fast"])
    assert moved == [True]
    modules = (bundle_kernels, track_kernels)
    loops = [value for module in modules for value in vars(module).values() if isinstance(value, CompiledLoop)]
    assert len(loops) == 4
    assert all(len(loop.signatures) == 1 for loop in loops)
