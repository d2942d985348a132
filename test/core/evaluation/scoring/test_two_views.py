# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What several views of a scene give: parallax, depth that agrees over time, and a classical plane sweep."""

from __future__ import annotations

import json

import numpy as np
import pytest

from dvmvs_core.config import preset
from dvmvs_core.evaluation.scoring.bins import BinnedErrors
from dvmvs_core.evaluation.scoring.classical_plane_sweep import PlaneSweep
from dvmvs_core.evaluation.scoring.parallax import parallax_px
from dvmvs_core.evaluation.scoring.temporal_consistency import ComparedDepth, move_depth, temporal_disagreement
from dvmvs_core.geometry import backproject, inverse_pose, project
from dvmvs_core.types import Frame

PARALLAX_K = np.array(((100.0, 0, 20), (0, 100.0, 10), (0, 0, 1)))


def camera(x: float = 0.0, z: float = 0.0, turned: float = 0.0) -> np.ndarray:
    pose = np.eye(4)
    pose[:3, :3] = ((np.cos(turned), 0, np.sin(turned)), (0, 1, 0), (-np.sin(turned), 0, np.cos(turned)))
    pose[:3, 3] = (x, 0, z)
    return pose


def test_a_camera_to_the_side_by_hand():
    # f b / d at 2 m and at 2.5 m: 100 · 0.1 / 2 = 5 px and 4 px.
    parallax = parallax_px(np.full((21, 41), 2.0), PARALLAX_K, camera(), [camera(x=0.1)])
    assert parallax[:, 5:] == pytest.approx(np.full((21, 36), 1.0))


def test_the_largest_of_several_frames_counts():
    depth = np.full((21, 41), 2.0)
    parallax = parallax_px(depth, PARALLAX_K, camera(), [camera(x=0.1), camera(x=0.3), camera(x=0.2)])
    assert parallax[10, 30] == pytest.approx(3.0)


def test_turning_gives_none_and_going_forward_gives_more_at_the_border():
    depth = np.full((21, 41), 2.0)
    assert parallax_px(depth, PARALLAX_K, camera(), [camera(turned=0.05)]).max() == pytest.approx(0.0, abs=1e-9)
    forward = parallax_px(depth, PARALLAX_K, camera(), [camera(z=-0.5)])
    assert forward[10, 20] == pytest.approx(0.0, abs=1e-9)
    # 20 px from the centre: 20 · 2 / 2.5 against 20 · 2.5 / 3.
    assert forward[10, 40] == pytest.approx(20 * 2.5 / 3 - 16)


def test_a_frame_that_does_not_see_the_point_gives_none():
    depth = np.full((21, 41), 2.0)
    parallax = parallax_px(depth, PARALLAX_K, camera(), [camera(x=0.1)])
    # 5 px to the left: the points of the first five columns are outside.
    assert not parallax[:, :5].any() and parallax[:, 5:].all()
    assert not parallax_px(depth, PARALLAX_K, camera(), [camera(z=3.0)]).any()  # behind the camera
    assert not parallax_px(depth, PARALLAX_K, camera(), []).any()


def test_invalid_depth_gives_zero():
    depth = np.full((21, 41), 2.0)
    depth[3, 30] = 0.0
    parallax = parallax_px(depth, PARALLAX_K, camera(), [camera(x=0.1)])
    assert parallax[3, 30] == 0.0 and parallax[3, 31] > 0


def test_it_is_what_projecting_both_points_gives():
    depth = np.random.default_rng(0).uniform(1.0, 4.0, (21, 41))
    reference, measurement = camera(0.3, 0.1, 0.2), camera(0.2, -0.3, 0.25)
    meas_T_ref = inverse_pose(measurement) @ reference
    pixels = [
        project(backproject(factor * depth, PARALLAX_K) @ meas_T_ref[:3, :3].T + meas_T_ref[:3, 3], PARALLAX_K)
        for factor in (1, 1.25)
    ]
    inside = ((pixels[0] >= 0) & (pixels[0] <= (40, 20))).all(axis=2)
    distance = np.hypot(*np.moveaxis(pixels[1] - pixels[0], 2, 0))
    assert 0 < inside.mean() < 1
    assert parallax_px(depth, PARALLAX_K, reference, [measurement]) == pytest.approx(np.where(inside, distance, 0.0))


def test_errors_by_hand_fall_into_their_bins():
    errors = BinnedErrors((0.0, 1.0, 2.0, np.inf))
    truth = np.array((0.5, 1.0, 1.5, 9.0))
    errors.add(truth, np.array((1.0, 1.0, 3.0, 9.9)), truth)
    near, middle, far = errors.bins()
    assert (near.pixels, near.abs_error, near.abs_relative_error, near.ratio_125) == (1, 0.5, 1.0, 0.0)
    assert (middle.pixels, middle.abs_error, middle.abs_relative_error, middle.ratio_125) == (2, 0.75, 0.5, 0.5)
    assert (far.low, far.high, far.ratio_125) == (2.0, np.inf, 1.0)
    assert (near.share, middle.share, far.share) == (0.25, 0.5, 0.25)
    assert far.abs_relative_error == pytest.approx(0.1)
    assert json.loads(json.dumps(far.to_dict(), allow_nan=False))["high"] is None


def test_bins_without_pixels_and_pixels_without_a_bin_are_left_out():
    errors = BinnedErrors((1.0, 2.0, 3.0))
    errors.add(np.array((0.5, 2.5, 3.0)), np.ones(3), np.ones(3))
    (only,) = errors.bins()
    assert (only.low, only.pixels) == (2.0, 1)


def test_adding_in_parts_is_adding_at_once():
    generator = np.random.default_rng(0)
    truth, prediction = generator.uniform(0.5, 5, (2, 200))
    whole, left, right = (BinnedErrors((0.0, 1.0, 3.0, 6.0)) for _ in range(3))
    whole.add(truth, prediction, truth)
    left.add(truth[:50], prediction[:50], truth[:50])
    right.add(truth[50:], prediction[50:], truth[50:])
    left.include(right)
    for a, b in zip(left.bins(), whole.bins(), strict=True):
        assert list(a.__dict__.values()) == pytest.approx(list(b.__dict__.values()))


K = np.array(((40.0, 0.0, 31.5), (0.0, 40.0, 23.5), (0.0, 0.0, 1.0)))
SIZE = (48, 64)


def plane(depth_m: float) -> np.ndarray:
    return np.full(SIZE, depth_m)


def test_a_plane_comes_nearer_by_what_the_camera_moves_towards_it():
    b_T_a = camera(z=-0.5)  # b stands half a metre before a
    seen = move_depth(plane(2.0), b_T_a, K)
    assert set(np.unique(seen)) == {0.0, 1.5}  # enlarged, so some pixels get no point
    assert (seen > 0).mean() > 0.4


def test_the_nearest_of_several_points_is_seen():
    depth = plane(0.0)
    depth[24, 32], depth[24, 36] = 4.0, 2.0
    b_T_a = camera(x=-0.4)  # shifts 40·0.4/4 = 4 pixels at 4 m, 8 pixels at 2 m: both to column 28
    seen = move_depth(depth, b_T_a, K)
    assert seen[24, 28] == 2.0
    assert np.count_nonzero(seen) == 1


def test_points_behind_the_camera_are_not_seen():
    assert not move_depth(plane(1.0), camera(z=-1.5), K).any()


def test_two_right_predictions_agree_and_a_scaled_one_disagrees_by_its_scale():
    before = ComparedDepth(plane(2.0), plane(2.0), camera())
    after = ComparedDepth(plane(1.9), plane(1.9), camera(z=0.1))
    assert temporal_disagreement(before, after, K) == pytest.approx(0.0, abs=1e-9)
    flickering = ComparedDepth(plane(1.9) / 1.2, plane(1.9), camera(z=0.1))
    assert temporal_disagreement(before, flickering, K) == pytest.approx(0.2)


def test_a_constant_bias_is_an_error_but_no_flicker():
    views = [ComparedDepth(plane(2.0) * 1.3, plane(2.0), camera(x)) for x in (0.0, 0.05)]
    assert temporal_disagreement(*views, K) == pytest.approx(0.0, abs=1e-9)


def test_what_moved_in_the_scene_does_not_count():
    """An object appears at 1 m in the left half; the prediction there is wrong, and must not be held against it."""
    truth = plane(2.0)
    truth[:, :32] = 1.0
    depth = plane(2.0)
    depth[:, :32] = 7.0
    before, after = ComparedDepth(plane(2.0), plane(2.0), camera()), ComparedDepth(depth, truth, camera())
    assert temporal_disagreement(before, after, K) == 0.0


def test_without_overlap_there_is_no_figure():
    before, after = (
        ComparedDepth(plane(2.0), plane(2.0), camera()),
        ComparedDepth(plane(2.0), plane(2.0), camera(x=50.0)),
    )
    assert np.isnan(temporal_disagreement(before, after, K))


SWEEP_SIZE = (64, 96)
SWEEP_K = np.array(((80.0, 0.0, 47.5), (0.0, 80.0, 31.5), (0.0, 0.0, 1.0)))


@pytest.fixture(scope="module")
def wall() -> np.ndarray:
    """A smooth random texture, wider than any view."""
    import cv2

    noise = np.random.default_rng(0).uniform(0, 255, (SWEEP_SIZE[0], 4 * SWEEP_SIZE[1], 3)).astype(np.float32)
    blurred = cv2.GaussianBlur(noise, (0, 0), 1.5)
    return np.clip((blurred - 127) * 4 + 127, 0, 255).astype(np.uint8)


def view(wall: np.ndarray, x: float, depth_m: float, index: int) -> Frame:
    """What a camera at x sees of a wall at that depth: the texture moved by whole pixels."""
    shift = round(SWEEP_K[0, 0] * x / depth_m)
    world_T_cam = camera(x=shift * depth_m / SWEEP_K[0, 0])
    left = SWEEP_SIZE[1] + shift
    return Frame(wall[:, left : left + SWEEP_SIZE[1]].copy(), SWEEP_K, world_T_cam, stamp_ns=index + 1, index=index)


@pytest.mark.parametrize("depth_m", (1.0, 2.0))
def test_a_textured_wall_is_found_at_its_depth(wall, depth_m):
    sweep = PlaneSweep(preset("small", network="pairnet", height=SWEEP_SIZE[0], width=SWEEP_SIZE[1]))
    prediction = sweep.predict(
        view(wall, 0.0, depth_m, 2), [view(wall, -0.2, depth_m, 0), view(wall, 0.15, depth_m, 1)]
    )
    assert prediction.depth.shape == SWEEP_SIZE
    middle = prediction.depth[8:-8, 12:-12]
    assert np.median(middle) == pytest.approx(depth_m, rel=0.1)  # planes lie 6 % and 12 % apart there
    assert (np.abs(middle / depth_m - 1) < 0.15).mean() > 0.9
    assert (prediction.frame_index, prediction.measurement_index) == (2, (0, 1))
    assert prediction.image.shape == (*SWEEP_SIZE, 3)


def test_it_holds_nothing_from_call_to_call(wall):
    sweep = PlaneSweep(preset("small", network="pairnet", height=SWEEP_SIZE[0], width=SWEEP_SIZE[1]))
    pair = view(wall, 0.0, 2.0, 1), [view(wall, 0.2, 2.0, 0)]
    first = sweep.predict(*pair).depth
    sweep.predict(view(wall, 0.3, 1.0, 3), [view(wall, 0.0, 1.0, 2)])
    assert np.array_equal(sweep.predict(*pair).depth, first)
