# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The loops of pose correction against the formulas of its docstring, in plain numpy, on random corners and tracks."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from scipy.optimize import minimize

pytest.importorskip("numba")

from dvmvs_core.config import MATCHING_PRESETS
from dvmvs_core.matching import pose_correction, pose_kernels, warm_up
from dvmvs_core.matching.pose_correction import MIN_TRACKS, Tracks, correction
from dvmvs_core.runtime.compiled import CompiledLoop

FOCAL = np.array(((140.0, 150.0), (120.0, 135.0)))
K = np.array(((120.0, 0, 80.0), (0, 135.0, 60.0), (0, 0, 1)))
SIZE = (128, 160)
STEPS = (*(np.deg2rad(0.5), 0.25), 0.6, 0.5, 6, 1e-5)


def random_tracks(seed, count, turn=(0.01, -0.006, 0.008)):
    """Tracks of a turned view, with half a cell of noise and a tenth of outliers, and its given pose (4, 4)."""
    rng = np.random.default_rng(seed)
    x = np.column_stack((rng.uniform(-0.5, 0.5, (count, 2)), np.ones(count)))
    view_T_ref = np.eye(4)
    view_T_ref[:3, :3] = cv2.Rodrigues(rng.normal(0, 0.1, 3))[0]
    view_T_ref[:3, 3] = rng.normal(0, 0.15, 3)
    depth = rng.uniform(1, 4, count)
    points = (x * depth[:, None]) @ view_T_ref[:3, :3].T + view_T_ref[:3, 3]
    y = points @ cv2.Rodrigues(np.array(turn))[0].T
    y = y / y[:, 2:]
    y[:, :2] += rng.normal(0, 0.5 / 130, (count, 2))
    y[: count // 10, :2] += rng.normal(0, 0.1, (count // 10, 2))
    return Tracks(x, y, depth, FOCAL, 10.0), view_T_ref


def skew(v):
    return np.column_stack([np.cross(v, axis) for axis in np.eye(3)])


def sampson(tracks, E):
    """Residuals (N,) and their derivatives (N, 3). The product is linear in each cell: differences are derivatives."""

    def product(moved_x=(0, 0), moved_y=(0, 0)):
        x, y = tracks.x.copy(), tracks.y.copy()
        x[:, :2] += np.array(moved_x) / tracks.focal[0]
        y[:, :2] += np.array(moved_y) / tracks.focal[1]
        return np.einsum("ni,ij,nj->n", y, E, x)

    slopes = [product(moved_x=way) - product() for way in np.eye(2)]
    slopes += [product(moved_y=way) - product() for way in np.eye(2)]
    length = np.maximum(np.linalg.norm(slopes, axis=0), 1e-12)
    turned = [np.einsum("ni,ij,nj->n", tracks.y, skew(axis) @ E, tracks.x) for axis in np.eye(3)]
    return product() / length, np.stack(turned, axis=1) / length[:, None]


def reference_turn(tracks, view_T_ref):
    R, t = view_T_ref[:3, :3], view_T_ref[:3, 3]
    expected_turn, expected_shift, noise, outlier, iterations, converged = STEPS
    line = tracks.x @ (skew(t) @ R).T
    along = np.column_stack((line[:, 1], -line[:, 0]))
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-12)
    shifts = []
    for axis in np.eye(3):
        moved = np.cross(axis, tracks.y)
        shifts.append(((moved - tracks.y * moved[:, 2:])[:, :2] * tracks.focal[1] * along).sum(axis=1))
    prior = np.eye(3) / expected_turn**2 + np.array(shifts) @ np.transpose(shifts) / len(along) / expected_shift**2
    w, turn = np.zeros(3), np.eye(3)
    for _ in range(iterations):
        r, J = sampson(tracks, skew(turn @ t) @ turn @ R)
        weights = np.diag(1 / (1 + (r / outlier) ** 2) / noise**2)
        step = np.linalg.solve(J.T @ weights @ J + prior, J.T @ weights @ r + prior @ w)
        w = w - step
        turn = cv2.Rodrigues(w)[0]
        if np.abs(step).max() < converged:
            break
    return turn


def found_turn(tracks, E):
    turn, turned_E = np.full((3, 3), np.nan), np.full((3, 3), np.nan)
    pose_kernels.best_turn(tracks.x, tracks.y, tracks.focal, E, *STEPS, turn, turned_E)
    return turn, turned_E


def found_distance(tracks, E):
    median = np.full(1, np.nan)
    pose_kernels.median_distance(tracks.x, tracks.y, tracks.focal, E, median)
    return median[0]


def test_the_constants_are_those_of_the_correction():
    names = ("EXPECTED_TURN", "EXPECTED_SHIFT", "TRACK_NOISE", "OUTLIER", "ITERATIONS", "CONVERGED")
    assert tuple(getattr(pose_correction, name) for name in names) == STEPS


@pytest.mark.parametrize("count", [MIN_TRACKS, MIN_TRACKS + 1, 200])
@pytest.mark.parametrize("seed", range(4))
def test_turns_and_distances_are_those_of_the_formulas(count, seed):
    tracks, view_T_ref = random_tracks(seed, count)
    R, t = view_T_ref[:3, :3], view_T_ref[:3, 3]
    E = skew(t) @ R
    expected = reference_turn(tracks, view_T_ref)
    turn, turned_E = found_turn(tracks, E)
    assert np.linalg.norm(cv2.Rodrigues(expected)[0]) > 1e-3
    np.testing.assert_allclose(turn, expected, atol=1e-9, rtol=0)
    np.testing.assert_allclose(turned_E, skew(expected @ t) @ expected @ R, atol=1e-9, rtol=0)
    for essential in (E, turned_E):
        distance = np.median(np.abs(sampson(tracks, essential)[0]))
        np.testing.assert_allclose(found_distance(tracks, essential), distance, atol=1e-9, rtol=0)


def off_expected(tracks, view_T_ref, solution):
    """Cells (N, 2) along and across epipolar lines, and parallax (N,), by a rotation vector, a and b."""
    turn = cv2.Rodrigues(np.array(solution[:3], dtype=np.float64))[0]
    far = tracks.x @ (turn @ view_T_ref[:3, :3]).T
    off_mean = np.log(tracks.depth) - np.log(tracks.depth).mean()
    depth = tracks.depth * np.exp(solution[3] + solution[4] * off_mean)
    points = depth[:, None] * far + turn @ view_T_ref[:3, 3]
    expected, infinite, found = (tracks.focal[1] * p[:, :2] / p[:, 2:] for p in (points, far, tracks.y))
    line = expected - infinite
    parallax = np.linalg.norm(line, axis=1)
    line = line / parallax[:, None]
    off = found - expected
    return np.stack(((off * line).sum(axis=1), off[:, 1] * line[:, 0] - off[:, 0] * line[:, 1]), axis=1), parallax


def cost_by_depth(tracks, view_T_ref, solution):
    turn, scale, exponent, corner, noise, outlier, correlated = BY_DEPTH
    off, _ = off_expected(tracks, view_T_ref, solution)
    _, parallax = off_expected(tracks, view_T_ref, np.zeros(5))
    variance = noise**2 + (parallax * corner) ** 2
    squares = off[:, 0] ** 2 / variance + off[:, 1] ** 2 / noise**2
    prior = np.sum(np.square(solution[:3])) / turn**2 + (solution[3] / scale) ** 2 + (solution[4] / exponent) ** 2
    return (outlier * np.log1p(squares / outlier).sum() / correlated + prior) / 2


BY_DEPTH = (np.deg2rad(0.5), 0.8, 0.3, 0.4, 0.6, 3.0, 4.0)


def found_by_depth(tracks, view_T_ref, iterations=8):
    turn, gain = np.full((3, 3), np.nan), np.full(1, np.nan)
    how = (*BY_DEPTH, iterations, 1e-9)
    pose_kernels.best_turn_by_depth(tracks.x, tracks.y, tracks.depth, tracks.focal, view_T_ref, *how, turn, gain)
    return turn, gain[0]


@pytest.mark.parametrize("count", [MIN_TRACKS, 200])
@pytest.mark.parametrize("seed", range(3))
def test_turn_and_scale_have_the_least_cost(count, seed):
    """Gauss-Newton leaves out that lines turn with the view: hence the tolerance."""
    tracks, view_T_ref = random_tracks(seed, count, (0.008, 0.012, -0.005))
    view_T_ref[:3, 3] *= 0.2
    points = (tracks.x * tracks.depth[:, None]) @ view_T_ref[:3, :3].T + view_T_ref[:3, 3]
    y = points @ cv2.Rodrigues(np.array((0.008, 0.012, -0.005)))[0].T
    y = y / y[:, 2:] + np.random.default_rng(seed).normal(0, 0.2 / 130, y.shape) * (1, 1, 0)
    tracks = replace(tracks, y=y, depth=tracks.depth * 1.3 * np.exp(np.random.default_rng(seed).normal(0, 0.1, count)))
    turn, gain = found_by_depth(tracks, view_T_ref, iterations=40)

    def cost(solution):
        return cost_by_depth(tracks, view_T_ref, solution)

    how = {"method": "Nelder-Mead", "options": {"xatol": 1e-9, "fatol": 1e-12, "maxiter": 20000}}
    best = minimize(cost, np.zeros(5), **how)
    alone = minimize(lambda change: cost((0, 0, 0, *change)), np.zeros(2), **how)
    assert np.linalg.norm(cv2.Rodrigues(turn @ cv2.Rodrigues(best.x[:3])[0].T)[0]) < np.deg2rad(0.05)
    assert gain == pytest.approx(alone.fun - best.fun, rel=0.05)


def test_the_constants_by_depth_are_those_of_the_correction():
    names = ("EXPECTED_TURN", "EXPECTED_SCALE", "EXPECTED_EXPONENT", "EXPECTED_DEPTH", "TRACK_NOISE")
    names += ("FAR_OUTLIER", "CORRELATED")
    assert tuple(getattr(pose_correction, name) for name in names) == BY_DEPTH


def test_a_view_that_did_not_move_is_turned_by_depth():
    tracks, view_T_ref = random_tracks(6, 60)
    view_T_ref[:3, 3] = 0
    far = tracks.x @ view_T_ref[:3, :3].T @ cv2.Rodrigues(np.array((0.004, -0.01, 0.006)))[0].T
    turn, gain = found_by_depth(replace(tracks, y=far / far[:, 2:]), view_T_ref)
    np.testing.assert_allclose(cv2.Rodrigues(turn)[0][:, 0], (0.004, -0.01, 0.006), atol=1e-3)
    assert gain > 10


def test_points_behind_the_view_and_no_numbers_are_no_reason_to_turn():
    tracks, view_T_ref = random_tracks(7, 60)
    behind = np.diag((-1.0, 1.0, -1.0, 1.0)) @ view_T_ref
    turn, gain = found_by_depth(tracks, behind)
    np.testing.assert_array_equal(turn, np.eye(3))
    assert gain == 0
    broken = tracks.y.copy()
    broken[3] = np.nan
    assert correction(replace(tracks, parallax=1.0, y=broken), view_T_ref) is None


def test_a_correction_needs_enough_tracks():
    tracks, view_T_ref = random_tracks(0, MIN_TRACKS, (0.02, -0.006, 0.008))
    np.testing.assert_allclose(correction(tracks, view_T_ref), reference_turn(tracks, view_T_ref), atol=1e-9, rtol=0)
    fewer = Tracks(tracks.x[1:], tracks.y[1:], tracks.depth[1:], FOCAL, 10.0)
    assert correction(fewer, view_T_ref) is None


def test_without_translation_there_are_no_lines():
    tracks, view_T_ref = random_tracks(1, 50)
    view_T_ref[:3, 3] = 0
    turn, turned_E = found_turn(tracks, np.zeros((3, 3)))
    np.testing.assert_array_equal(turn, np.eye(3))
    np.testing.assert_array_equal(turned_E, 0)
    assert found_distance(tracks, np.zeros((3, 3))) == 0
    assert correction(tracks, view_T_ref) is None


def test_a_track_on_the_epipoles_is_no_division_by_zero():
    """Both rays of one track run along the translation."""
    tracks, view_T_ref = random_tracks(2, 50)
    view_T_ref[:3, :3], view_T_ref[:3, 3] = np.eye(3), (0, 0, 0.2)
    tracks.x[0] = tracks.y[0] = (0, 0, 1)
    turn, turned_E = found_turn(tracks, skew(view_T_ref[:3, 3]))
    assert np.isfinite(turn).all() and np.isfinite(turned_E).all()
    np.testing.assert_allclose(turn, reference_turn(tracks, view_T_ref), atol=1e-9, rtol=0)


@pytest.mark.parametrize("turn", [(0, 0, 0), (1e-13, 0, 0), (0.02, 0, 0), (0.6, -0.9, 1.1)])
def test_rotations_are_those_of_opencv(turn):
    R = np.full((3, 3), np.nan)
    pose_kernels._rotation(np.array(turn, dtype=np.float64), R)
    np.testing.assert_allclose(R, cv2.Rodrigues(np.array(turn, dtype=np.float64))[0], atol=1e-12, rtol=0)


@pytest.mark.parametrize("count", [1, 2, 15, 16])
def test_medians_are_those_of_numpy(count):
    values = np.random.default_rng(count).normal(0, 1, count)
    assert pose_kernels._median(values) == np.median(values)
    values[count // 2] = np.nan
    assert np.isnan(pose_kernels._median(values))


def test_a_pose_or_track_that_is_no_number_leaves_the_pose():
    tracks, view_T_ref = random_tracks(3, 50, (0.02, 0, 0))
    assert correction(tracks, view_T_ref) is not None
    assert correction(tracks, np.full((4, 4), np.nan)) is None
    tracks.y[7, 0] = np.nan
    assert correction(tracks, view_T_ref) is None


def test_visible_corners_are_in_front_of_the_camera_and_in_its_image():
    """Wide cameras, of which one is turned by 60 degrees: many points are behind it. Two have no depth."""
    rng = np.random.default_rng(4)
    K = np.array(((20.0, 0, 80.0), (0, 30.0, 60.0), (0, 0, 1)))
    cells = rng.uniform(0, (SIZE[1] - 1, SIZE[0] - 1), (200, 2)).astype(np.float32)
    rays = np.column_stack((cells, np.ones(200))).astype(np.float64) @ np.linalg.inv(K).T
    depth = rng.uniform(0.02, 3, 200)
    depth[:2] = 0, np.nan
    for degrees, backwards in ((0.0, -0.04), (60.0, 0.5)):
        view_T_ref = np.eye(4)
        view_T_ref[:3, :3] = cv2.Rodrigues(np.deg2rad((0.0, degrees, 0.0)))[0]
        view_T_ref[:3, 3] = (0.1, -0.05, backwards)
        far = rays @ view_T_ref[:3, :3].T
        points = depth[:, None] * far + view_T_ref[:3, 3]
        expected, infinite = ((p @ K.T)[:, :2] / p[:, 2:] for p in (points, far))
        inside = (expected >= 2).all(axis=1) & (expected[:, 0] <= SIZE[1] - 3) & (expected[:, 1] <= SIZE[0] - 3)
        visible = (points[:, 2] > 0.05) & (far[:, 2] > 0) & inside
        assert 10 < visible.sum() < 190
        near, behind = (inside & (points[:, 2] <= 0.05)).any(), (inside & (points[:, 2] > 0.05) & (far[:, 2] < 0)).any()
        assert near and behind == (degrees > 0), (
            "what is too near or behind the camera is projected into its image, too"
        )

        starts, found, x = np.empty((200, 2), np.float32), np.empty((200, 2), np.float32), np.empty((200, 3))
        own_depth, parallax, count = np.empty(200), np.empty(200), np.empty(1, np.int64)
        kept = (starts, found, x, own_depth, parallax)
        pose_kernels.keep_visible(cells, rays, depth, view_T_ref, K, *SIZE, 2, 0.05, *kept, count)
        assert count[0] == visible.sum()
        starts, found, x, own_depth, parallax = (values[: count[0]] for values in kept)
        np.testing.assert_array_equal(starts, cells[visible])
        np.testing.assert_array_equal(x, rays[visible])
        np.testing.assert_array_equal(own_depth, depth[visible])
        np.testing.assert_allclose(found, expected[visible], rtol=1e-6)
        moved = np.linalg.norm(expected - infinite, axis=1)[visible]
        np.testing.assert_allclose(parallax, moved, atol=1e-9, rtol=1e-12)


def test_corners_are_kept_that_are_found_off_the_border_and_return():
    rng = np.random.default_rng(5)
    starts = rng.uniform(0, 120, (60, 2)).astype(np.float32)
    found = rng.uniform(-5, (SIZE[1] + 5, SIZE[0] + 5), (60, 2)).astype(np.float32)
    found[:5] = (2, 2), (SIZE[1] - 3, SIZE[0] - 3), (1.99, 50), (SIZE[1] - 2.9, 50), (50, SIZE[0] - 2.9)
    status = (rng.uniform(0, 1, (60, 1)) < 0.8).astype(np.uint8)
    status[:5] = 1
    x, depth, parallax = rng.normal(0, 1, (60, 3)), rng.uniform(1, 4, 60), rng.uniform(0, 9, 60)
    inside = (found >= 2).all(axis=1) & (found[:, 0] <= SIZE[1] - 3) & (found[:, 1] <= SIZE[0] - 3)
    good = (status[:, 0] > 0) & inside
    assert good[:5].tolist() == [True, True, False, False, False]
    expected = [values[good] for values in (found, starts, x, depth, parallax)]
    count = np.empty(1, np.int64)
    pose_kernels.keep_found(status, *SIZE, 2, found, starts, x, depth, parallax, count)
    assert count[0] == good.sum()
    for values, wanted in zip((found, starts, x, depth, parallax), expected, strict=True):
        np.testing.assert_array_equal(values[: count[0]], wanted)

    n = count[0]
    found, starts = found[:n], starts[:n]
    returned = (starts + rng.uniform(-0.4, 0.4, (n, 2))).astype(np.float32)
    status = (rng.uniform(0, 1, (n, 1)) < 0.8).astype(np.uint8)
    returned[0, 0] = returned[1, 1] = np.nan
    good = (status[:, 0] > 0) & (np.abs(returned - starts) <= np.float32(0.3)).all(axis=1)
    expected_x, expected_depth, expected_parallax = x[:n][good], depth[:n][good], parallax[:n][good]
    y, median = np.empty((n, 3)), np.empty(1)
    corners = (found, starts, K, x, y, depth, parallax)
    pose_kernels.keep_returned(status, returned, np.float32(0.3), *corners, median, count)
    assert 0 < count[0] == good.sum() < n
    np.testing.assert_array_equal(x[: count[0]], expected_x)
    np.testing.assert_array_equal(depth[: count[0]], expected_depth)
    np.testing.assert_allclose(y[: count[0]] @ K.T, np.column_stack((found, np.ones(n)))[good], atol=1e-9, rtol=0)
    np.testing.assert_allclose(median[0], np.median(expected_parallax), atol=1e-12, rtol=0)


def test_corners_that_all_get_lost_leave_none():
    count, median = np.empty(1, np.int64), np.zeros(1)
    lost, cells = np.zeros((20, 1), np.uint8), np.full((20, 2), 50, np.float32)
    x, y, depth, parallax = np.ones((20, 3)), np.empty((20, 3)), np.ones(20), np.ones(20)
    pose_kernels.keep_found(lost, *SIZE, 2, cells, cells.copy(), x, depth, parallax, count)
    assert count[0] == 0
    pose_kernels.keep_returned(lost, cells, np.float32(0.3), cells, cells, K, x, y, depth, parallax, median, count)
    assert count[0] == 0 and np.isnan(median[0])


def test_warming_up_calls_every_loop(monkeypatch):
    """Correction calls all of them where it turns a view; each is compiled for one signature, tests included."""
    turned = []

    def recorded(reference, views, prior):
        result = pose_correction.corrected_views(reference, views, prior)
        turned.extend(one is not other for one, other in zip(result, views, strict=True))
        return result

    monkeypatch.setattr(warm_up, "corrected_views", recorded)
    warm_up.match_noise(MATCHING_PRESETS["fast"])
    assert turned == [True, True]
    loops = [value for value in vars(pose_kernels).values() if isinstance(value, CompiledLoop)]
    assert len(loops) == 6
    assert all(len(loop.signatures) == 1 for loop in loops)
