# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Intrinsics and poses that are off by known amounts, in tracks that are exact but for noise."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

pytest.importorskip("numba")

from dvmvs_core.matching.corner_tracks import CornerTracks
from dvmvs_core.matching.measured_intrinsics import with_measured_intrinsics
from dvmvs_core.matching.pose_correction import corrections
from dvmvs_core.matching.self_calibration import (
    DISTORTION_STEP,
    EXPECTED_DISTORTION,
    EXPECTED_FOCAL,
    EXPECTED_TURN,
    KEYFRAME_DISTORTION,
    KEYFRAME_FOCAL,
    MAX_DISTORTION,
    MAX_FOCAL,
    REMOVED,
    SelfCalibration,
    known_from,
)

FOCAL = 140.0
CORNERS = 150


def keyframe(seed, log_focal=0.0, distortion=0.0, turn_deg=8.0, pose_error_deg=0.0, depth_factor=1.0):
    """Tracks with a focal length too short by that logarithm, and distortion, from six views that turn and move.

    The poses are turned by random rotations, components of that deviation.
    """
    rng = np.random.default_rng(seed)
    rays = np.column_stack((rng.uniform(-0.5, 0.5, (CORNERS, 2)), np.ones(CORNERS)))
    depth = rng.uniform(1, 4, CORNERS)
    given, y = np.tile(np.eye(4), (6, 1, 1)), np.empty((6, CORNERS, 2))
    of_reference = cv2.Rodrigues(rng.normal(0, np.deg2rad(pose_error_deg), 3))[0]
    for pose, places in zip(given, y, strict=True):
        exact = cv2.Rodrigues(rng.normal(0, np.deg2rad(turn_deg), 3))[0]
        pose[:3, 3] = rng.normal(0, 0.1, 3)
        points = (rays * depth[:, None]) @ exact.T + pose[:3, 3]
        places[:] = points[:, :2] / points[:, 2:] + rng.normal(0, 0.2 / FOCAL, (CORNERS, 2))
        pose[:3, :3] = cv2.Rodrigues(rng.normal(0, np.deg2rad(pose_error_deg), 3))[0] @ exact @ of_reference
    longer = math.exp(log_focal)
    prior = depth_factor * depth * np.exp(rng.normal(0, 0.2, CORNERS))
    seen, focal = np.ones(y.shape[:2], bool), np.full((6, 2), FOCAL)
    x = np.column_stack((distorted(rays[:, :2], distortion), rays[:, 2])) * (longer, longer, 1)
    return CornerTracks(x, prior, np.zeros(CORNERS), distorted(y, distortion) * longer, seen, focal, given)


def distorted(places, distortion):
    return places * (1 + distortion * np.square(places).sum(axis=-1, keepdims=True))


def after(keyframes, **how):
    """What is known of the camera after so many keyframes, each with the camera as it was known before."""
    calibration = SelfCalibration()
    for seed in range(keyframes):
        removed = calibration.removed_distortion
        remaining = {
            "log_focal": how.get("log_focal", 0.0) - calibration.log_focal,
            "distortion": how.get("distortion", 0.0) - removed,
        }
        calibration = with_measured_intrinsics(keyframe(seed, **{**how, **remaining}), calibration, removed)
    return calibration


@pytest.mark.parametrize("log_focal", [-0.05, 0.0, 0.05])
@pytest.mark.parametrize("depth_factor", [0.7, 1.0, 1.4])
def test_a_turning_camera_tells_its_focal_length(log_focal, depth_factor):
    how = {"log_focal": log_focal, "depth_factor": depth_factor}
    few, many = after(3, **how), after(30, **how)
    assert abs(few.log_focal - log_focal) < 0.6 * EXPECTED_FOCAL
    assert abs(many.log_focal - log_focal) < 0.006
    assert many.deviation < few.deviation < EXPECTED_FOCAL


@pytest.mark.parametrize("distortion", [-0.15, 0.0, 0.1])
@pytest.mark.parametrize("log_focal", [0.0, 0.03])
def test_it_tells_its_distortion_too(distortion, log_focal):
    how = {"distortion": distortion, "log_focal": log_focal}
    few, many = after(3, **how), after(30, **how)
    assert abs(few.distortion - distortion) < 0.6 * max(abs(distortion), EXPECTED_DISTORTION)
    assert abs(many.distortion - distortion) < 0.02
    assert abs(many.log_focal - log_focal) < 0.006
    assert abs(many.removed_distortion - (many.distortion if distortion else 0)) < DISTORTION_STEP
    assert many.is_clearly_bent == (distortion != 0) and not SelfCalibration().is_clearly_bent


def test_small_changes_of_distortion_leave_images_as_they_are():
    known, steps = SelfCalibration(), []
    for _ in range(40):
        information = np.diag((1.0, 400.0))
        remaining = (0.0, 0.08 - known.removed_distortion)
        known = known.with_intrinsics(information, information @ remaining, known.removed_distortion)
        steps.append(known.removed_distortion)
        sure = known.distortion > REMOVED * known.distortion_deviation
        assert abs(known.distortion - steps[-1]) <= DISTORTION_STEP if sure else steps[-1] == 0
    assert steps[0] == 0, "a camera counts as rectified until it is sure not to be"
    assert steps == sorted(steps) and len(set(steps)) < 4 and steps[-1] == pytest.approx(0.08, abs=DISTORTION_STEP)


def test_no_more_is_removed_than_can_be():
    known, information = SelfCalibration(), 1e9 * np.eye(2)
    for _ in range(30):
        remaining = (0.0, -0.3 - known.removed_distortion)
        known = known.with_intrinsics(information, information @ remaining, known.removed_distortion, largest=0.12)
    assert known.distortion == pytest.approx(-0.3, abs=0.01) and known.removed_distortion == -0.12


def test_distortion_that_is_no_longer_sure_is_put_back():
    known = SelfCalibration(distortion=0.001, information=(1e4, 0, 1e5), removed_distortion=0.01)
    assert known.with_intrinsics(np.zeros((2, 2)), np.zeros(2), 0.01).removed_distortion == 0


def test_a_focal_length_that_distortion_may_explain_is_not_clearly_off():
    """Tracks that only tell of both together."""
    ridge = SelfCalibration(log_focal=-0.055, distortion=-0.055, information=(15000.0, 12000.0, 11000.0))
    assert ridge.deviation < 0.01 and not ridge.is_clearly_off
    assert SelfCalibration(log_focal=-0.055, information=(15000.0, 0.0, 11000.0)).is_clearly_off


def test_with_rough_poses_it_is_not_far_off():
    assert abs(after(30, pose_error_deg=0.4).log_focal) < 2.5 * after(30, pose_error_deg=0.4).deviation < 0.02


def test_a_camera_that_does_not_turn_tells_little():
    moving, turning = after(1, turn_deg=0.0, log_focal=0.04), after(1, log_focal=0.04)
    assert moving.deviation**-2 - EXPECTED_FOCAL**-2 < 0.5 * (turning.deviation**-2 - EXPECTED_FOCAL**-2)
    assert abs(moving.log_focal) < abs(turning.log_focal)


def test_a_camera_that_stands_still_tells_nothing():
    tracks = keyframe(0)
    still = replace(tracks, view_T_ref=np.tile(np.eye(4), (6, 1, 1)), y=np.tile(tracks.x[:, :2], (6, 1, 1)))
    told = with_measured_intrinsics(
        still, SelfCalibration(log_focal=0.02, distortion=0.03, removed_distortion=0.03), 0.03
    )
    assert told.log_focal == pytest.approx(0.02) and told.deviation == pytest.approx(EXPECTED_FOCAL, rel=1e-3)
    assert told.distortion == pytest.approx(0.03) and told.information[2] == pytest.approx(EXPECTED_DISTORTION**-2)


def test_one_keyframe_does_not_settle_it():
    """However exact its tracks: the first one counts for as much as what was expected."""
    exact = 1e12 * np.eye(2)
    known = SelfCalibration().with_intrinsics(exact, exact @ (0.04, 0.05), 0.0)
    assert known.log_focal == pytest.approx(0.02) and known.deviation == pytest.approx(KEYFRAME_FOCAL / 2**0.5)
    assert known.distortion == pytest.approx(0.05 / (1 + (KEYFRAME_DISTORTION / EXPECTED_DISTORTION) ** 2))


@pytest.mark.parametrize(
    "told", [(np.nan, 0.01), (0.01, np.nan), (3 * MAX_FOCAL, 0.01), (-1.0, 0.01), (0.01, 2 * MAX_DISTORTION)]
)
def test_a_keyframe_that_cannot_be_right_tells_nothing(told):
    exact = 1e12 * np.eye(2)
    assert SelfCalibration().with_intrinsics(exact, exact @ told, 0.0) == SelfCalibration()
    assert SelfCalibration().with_intrinsics(np.full((2, 2), np.nan), np.zeros(2), 0.0) == SelfCalibration()


def test_tracks_that_are_no_numbers_tell_nothing():
    tracks = keyframe(0, log_focal=0.05)
    tracks.y[0, 3] = np.nan
    assert with_measured_intrinsics(tracks, SelfCalibration()) == SelfCalibration()
    poses, told = corrections(tracks, SelfCalibration())
    assert poses is None and told == SelfCalibration()


@pytest.mark.parametrize("pose_error_deg", [0.0, 0.1, 0.5, 1.0])
def test_how_far_poses_are_turned_is_learned(pose_error_deg):
    calibration = SelfCalibration()
    for seed in range(40):
        _, calibration = corrections(keyframe(seed, pose_error_deg=pose_error_deg), calibration)
    expected = math.degrees(calibration.expected_turn)
    assert 0.7 * pose_error_deg < expected < 1.3 * pose_error_deg + 0.2


def test_before_the_first_keyframe_poses_are_expected_to_be_rough():
    assert SelfCalibration().expected_turn == pytest.approx(EXPECTED_TURN)
    _, told = corrections(keyframe(0), SelfCalibration())
    assert 0.7 * EXPECTED_TURN < told.expected_turn < EXPECTED_TURN, "one good keyframe may be chance"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_only_the_focal_length_of_intrinsics_changes(dtype):
    K = np.array(((250, 0, 160), (0, 240, 128), (0, 0, 1)), dtype)
    found = SelfCalibration(log_focal=math.log(1.1)).K(K)
    np.testing.assert_allclose(found, ((275, 0, 160), (0, 264, 128), (0, 0, 1)), rtol=1e-6)
    assert found.dtype == dtype
    np.testing.assert_array_equal(SelfCalibration().K(K), K)


def test_the_newest_matched_keyframe_knows_most():
    def view(log_focal):
        matched = None if log_focal is None else SimpleNamespace(calibration=SelfCalibration(log_focal))
        return SimpleNamespace(matched=matched)

    assert known_from([]) == known_from([view(None)]) == SelfCalibration()
    assert known_from([view(0.01), view(0.02), view(None)]).log_focal == 0.02


def test_poses_count_for_less_as_long_as_focal_length_and_rotations_are_uncertain():
    def view(degrees):
        world_T_cam = np.eye(4)
        world_T_cam[:3, :3] = cv2.Rodrigues(np.deg2rad(degrees) * np.array((0.6, 0.8, 0)))[0]
        return SimpleNamespace(K=np.diag((200.0, 200.0, 1)), world_T_cam=world_T_cam)

    exact = SelfCalibration(information=(1e12, 0, 1e12), turn_squares=1e-12)
    focal, turn = replace(exact, information=(0.01**-2, 0, 1e12)), replace(exact, turn_squares=2 * np.deg2rad(0.4) ** 2)
    straight, turning = [view(0)], [view(20), view(-20)]
    assert exact.pose_error_px(view(0), turning) < 1e-3
    assert turn.pose_error_px(view(0), straight) == pytest.approx(200 * np.deg2rad(0.2), rel=1e-3)
    assert focal.pose_error_px(view(0), straight) < 1e-3
    assert focal.pose_error_px(view(0), turning) == pytest.approx(200 * np.deg2rad(20) * 0.01, rel=1e-3)
    assert focal.pose_error_px(view(20), turning) == pytest.approx(200 * np.deg2rad(40) * 0.01 / 2**0.5, rel=1e-3)
