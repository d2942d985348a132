# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Camera paths and the rules that space keyframes on them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dvmvs_core.geometry import is_rotation, pose_distance
from dvmvs_core.synthetic.camera import sample_intrinsics
from dvmvs_core.synthetic.paths import ClipKind, WorldProbe, clip_path, parallax_px, sequence_path
from dvmvs_core.synthetic.trajectories import (
    CLEARANCE_M,
    NEAR_CLEARANCE_M,
    camera_poses,
    camera_velocity,
    choose_keyframes,
    drift,
    hover,
    pose_distances,
    sample_style,
    walk,
)
from dvmvs_core.synthetic.worlds import sample_world


def test_convention_camera_axes_are_right_down_forward():
    pose = camera_poses(np.array([1.0, 2.0, 3.0]), np.array(0.0), np.array(0.0), np.array(0.0))
    right, down, forward = pose[:3, :3].T
    assert (right, down, forward) == (
        pytest.approx([0, -1, 0], abs=1e-12),
        pytest.approx([0, 0, -1], abs=1e-12),
        pytest.approx([1, 0, 0], abs=1e-12),
    )
    assert pose[:3, 3].tolist() == [1, 2, 3]


def test_pitch_looks_up_and_roll_keeps_the_view():
    pitched = camera_poses(np.zeros(3), np.array(0.7), np.array(0.3), np.array(0.0))
    rolled = camera_poses(np.zeros(3), np.array(0.7), np.array(0.3), np.array(0.2))
    assert pitched[2, 2] == pytest.approx(np.sin(0.3))
    assert rolled[:3, 2] == pytest.approx(pitched[:3, 2])
    assert is_rotation(rolled[:3, :3])
    assert np.arccos(rolled[:3, 0] @ pitched[:3, 0]) == pytest.approx(0.2)
    assert rolled[2, 0] < 0  # turned to its right: the camera's right side went down


def test_pose_distances_are_those_of_the_engine():
    rng = np.random.default_rng(0)
    poses = camera_poses(rng.normal(size=(6, 3)), rng.normal(size=6), rng.normal(size=6), rng.normal(size=6))
    combined, translation = pose_distances(poses[0], poses[1:])
    for index in range(5):
        expected = pose_distance(poses[0], poses[index + 1])
        assert combined[index] == pytest.approx(expected.combined)
        assert translation[index] == pytest.approx(expected.translation)


def slide(*positions: float) -> np.ndarray:
    poses = np.tile(np.eye(4), (len(positions), 1, 1))
    poses[:, 0, 3] = positions
    return poses


def test_keyframes_are_the_first_in_range_of_the_last():
    path = slide(0.0, 0.05, 0.13, 0.2, 0.26, 0.3, 0.7)
    assert choose_keyframes(path, 3).tolist() == [0, 2, 4]
    assert choose_keyframes(path, 4) is None  # 0.44 m to the last is out of range
    assert choose_keyframes(path, 4, high=0.5).tolist() == [0, 2, 4, 6]
    assert choose_keyframes(slide(0.0), 1).tolist() == [0]


def test_velocity_is_in_the_axes_of_each_camera():
    path = camera_poses(np.zeros((5, 3)), 0.2 * np.arange(5), np.zeros(5), np.zeros(5))
    path[:, :3, 3] = path[0, :3, 2] * 0.1 * np.arange(5)[:, None]  # along the first camera's view
    velocity = camera_velocity(path, 10.0)
    assert velocity[0] == pytest.approx([0, 0, 1, 0, -2, 0], abs=1e-9)
    # Turned left by 0.4 rad, the camera sees the same motion go to its right. Turning left is about -y, which is up.
    assert velocity[2] == pytest.approx([np.sin(0.4), 0, np.cos(0.4), 0, -2, 0], abs=1e-9)
    assert (camera_velocity(path[:1], 10.0) == 0).all()


def test_a_turn_alone_is_no_keyframe():
    path = camera_poses(np.zeros((20, 3)), np.linspace(0.0, 1.0, 20), np.array(0.0), np.array(0.0))
    assert choose_keyframes(path, 2) is None


def test_a_walker_stops_to_look_around_or_to_stand_still():
    rng = np.random.default_rng(5)
    style = replace(sample_style(rng, brisk=True), shake=0.0)
    starts = np.zeros((1, 3)) + [0.0, 0.0, style.height_m]
    paths, _ = walk(rng, style, starts, 40.0, 30.0, lambda points: np.full(len(points), 9.0), pauses=True)
    velocity = camera_velocity(paths[0], 30.0)
    speed, turn = np.linalg.norm(velocity[:, :3], axis=1), np.linalg.norm(velocity[:, 3:], axis=1)
    assert 0.08 < (speed < 0.02).mean() < 0.5
    assert ((speed < 0.02) & (turn < 0.02)).mean() > 0.03
    assert ((speed < 0.02) & (turn > 0.1)).mean() > 0.03
    assert np.abs(np.diff(speed)).max() < 0.3  # no jolt
    unhurried, _ = walk(rng, style, starts, 8.0, 30.0, lambda points: np.full(len(points), 9.0))
    assert (np.linalg.norm(camera_velocity(unhurried[0], 30.0)[:, :3], axis=1) > 0.05).all()


def test_a_long_walk_goes_there_and_back_and_keeps_clear():
    rng = np.random.default_rng(3)
    for _ in range(20):
        world, K = sample_world(rng, 24, 6), sample_intrinsics(rng, 60, 80)
        found = sequence_path(rng, world, K, 60, 80, 30 * 40)
        if found is not None:
            break
    path = found.world_T_cam
    assert path.shape == (1200, 4, 4)
    assert WorldProbe(world).clearance(path[:, :3, 3]).min() >= CLEARANCE_M - 1e-5
    combined, translation = pose_distances(path[:-1], path[1:])
    assert combined.max() < 0.2 and np.diff(translation).max() < 0.02
    assert translation[900:].sum() > 2.0  # still on its feet after half a minute


def test_drift_grows_with_its_scale_and_leaves_the_first_pose():
    path = slide(*np.arange(200) * 0.1)
    noisy = drift(np.random.default_rng(1), path, 1.0)
    assert np.array_equal(noisy[0], path[0])
    steps = np.diff(noisy[:, :3, 3] - path[:, :3, 3], axis=0)
    assert np.linalg.norm(steps, axis=1).mean() == pytest.approx(0.0037, rel=0.15)
    assert all(is_rotation(pose[:3, :3]) for pose in noisy)


@pytest.mark.parametrize("length", (3, 8))
@pytest.mark.parametrize("kind", ClipKind)
def test_clips_keep_clear_see_something_and_follow_their_rule(kind, length):
    rng = np.random.default_rng(length)
    near = kind in (ClipKind.NEAR, ClipKind.NEAR_AND_STILL)
    medians = []
    for _ in range(8):
        world = sample_world(rng, 24, 6)
        K = sample_intrinsics(rng, 60, 80)
        found = clip_path(rng, world, K, 60, 80, length, kind)
        if found is None:
            continue
        path = found.world_T_cam
        assert found.velocity.shape == (length, 6)
        assert np.linalg.norm(found.velocity[:, :3], axis=1).max() < 3.0  # a person's hand, metres a second
        probe = WorldProbe(world)
        clear = NEAR_CLEARANCE_M if near else CLEARANCE_M
        assert probe.clearance(path[:, :3, 3]).min() >= clear - 1e-5
        assert all(is_rotation(pose[:3, :3]) for pose in path)
        combined, translation = pose_distances(path[:-1], path[1:])
        depth, _ = probe.view(path, K, 60, 80)
        if kind in (ClipKind.STILL, ClipKind.NEAR_AND_STILL):
            assert parallax_px(translation.max(), np.median(depth[0]), K, 80) < 2.5
            assert combined.max() < 0.4
        else:
            least, most = (0.3, 1.0) if near else (0.666, 1.5)
            assert (combined >= least * 0.125 - 1e-9).all() and (combined <= most * 0.325 + 1e-9).all()
            assert (translation >= least * 0.0625 - 1e-9).all()
        medians.append(np.median(depth))
    assert len(medians) >= 3
    assert (0.25 if near else 1.0) < np.median(medians) < (1.2 if near else 6.0)


def test_convention_parallax_is_that_of_a_step_of_a_quarter_at_320_pixels():
    K = np.diag([140.0, 140.0, 1.0])
    at = [140.0 * 2 * 0.1 / depth for depth in (2.0, 2.5)]  # a point 0.1 m aside, on an image twice as wide
    assert parallax_px(0.1, 2.0, K, 160) == pytest.approx(at[0] - at[1])


def test_a_hovering_camera_looks_at_its_target_and_moves_at_its_speed():
    targets = np.random.default_rng(0).uniform(-1.0, 1.0, (20, 3))
    paths = hover(np.random.default_rng(1), targets, 0.3, 2.0, 30.0)
    assert paths.shape == (20, 60, 4, 4)
    cam_t_target = (np.linalg.inv(paths[:, 0]) @ np.append(targets, np.ones((20, 1)), 1)[..., None])[:, :3, 0]
    assert (cam_t_target[:, 2] > 0.29).all() and (cam_t_target[:, 2] < 1.11).all()
    assert np.abs(cam_t_target[:, :2] / cam_t_target[:, 2:]).max() < 0.2
    pace = np.linalg.norm(np.diff(paths[..., :3, 3], axis=1), axis=-1).mean() * 30.0
    assert 0.1 < pace < 0.6
    assert np.array_equal(paths, hover(np.random.default_rng(1), targets, 0.3, 2.0, 30.0))


def test_a_sequence_is_smooth_and_makes_keyframes_at_a_usual_pace():
    rng, paths = np.random.default_rng(2), []
    while len(paths) < 3:
        world = sample_world(rng, 24, 6)
        path = sequence_path(rng, world, sample_intrinsics(rng, 60, 80), 60, 80, 90)
        if path is not None:
            assert WorldProbe(world).clearance(path.world_T_cam[:, :3, 3]).min() >= CLEARANCE_M - 1e-5
            paths.append(path.world_T_cam)
    shares = []
    for path in paths:
        assert path.shape == (90, 4, 4)
        combined, translation = pose_distances(path[:-1], path[1:])
        assert translation.max() < 0.12 and combined.max() < 0.2  # at 30 frames a second
        assert np.linalg.norm(np.diff(path[:, :3, 3], 2, axis=0), axis=1).max() < 0.02
        assert translation.sum() > 1.5
        last, keyframes = 0, 0
        for index in range(1, 90):
            if pose_distances(path[last], path[index])[0] >= 0.1:
                last, keyframes = index, keyframes + 1
        shares.append(keyframes / 90)
    assert 0.25 < np.mean(shares) < 0.7
