# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Cameras: their paths and the rules that space keyframes on them, their intrinsics, colours and motion blur."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from dvmvs_core.geometry import is_rotation, pose_distance
from dvmvs_core.synthetic.camera import (
    Development,
    develop,
    sample_development,
    sample_exposure,
    sample_intrinsics,
)
from dvmvs_core.synthetic.motion_blur import blur_motion, image_motion
from dvmvs_core.synthetic.paths import ClipKind, WorldProbe, clip_path, parallax_px, sequence_path
from dvmvs_core.synthetic.trajectories import (
    CLEARANCE_M,
    NEAR_CLEARANCE_M,
    camera_poses,
    camera_velocity,
    choose_keyframes,
    drift,
    hover,
    misaligned,
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


def walks(seed: int, frames: int):
    """Paths of so many frames through one world after the other, all of which keep clear."""
    rng = np.random.default_rng(seed)
    while True:
        world = sample_world(rng, 24, 6)
        found = sequence_path(rng, world, sample_intrinsics(rng, 60, 80), 60, 80, frames)
        if found is not None:
            path = found.world_T_cam
            assert path.shape == (frames, 4, 4)
            assert WorldProbe(world).clearance(path[:, :3, 3]).min() >= CLEARANCE_M - 1e-5
            yield path


def test_a_long_walk_goes_there_and_back_and_keeps_clear():
    path = next(walks(3, 30 * 40))
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


def turns_deg(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    return np.rad2deg((Rotation.from_matrix(before).inv() * Rotation.from_matrix(after)).magnitude())


def test_misaligned_cameras_turn_by_the_angle_about_axes_of_their_own():
    path = slide(*np.arange(200) * 0.1)
    turned = misaligned(np.random.default_rng(1), path, 0.5)
    assert np.array_equal(turned[:, :3, 3], path[:, :3, 3])
    assert turns_deg(path[:, :3, :3], turned[:, :3, :3]) == pytest.approx(0.5)
    between = turns_deg(turned[:-1, :3, :3], turned[1:, :3, :3])  # `slide` does not turn
    assert between.min() < 0.2 and between.max() > 0.8
    assert misaligned(np.random.default_rng(1), path, 0.0) == pytest.approx(path)


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
    shares = []
    for path in itertools.islice(walks(2, 90), 3):
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


CLEAN = Development(
    target=0.2, follow=0.0, drift=0.0, balance=np.ones(3), vignetting=0.0, shoulder=1.0, white=50.0, gamma=2.2,
    contrast=0.0, side=0.0, noise=0.0, exposure_s=0.0,
)  # fmt: skip


def test_intrinsics_are_those_of_resized_hand_held_cameras():
    rng = np.random.default_rng(0)
    Ks = np.stack([sample_intrinsics(rng, 128, 160) for _ in range(300)])
    view = np.rad2deg(2 * np.arctan(80 / Ks[:, 0, 0]))
    ratio = Ks[:, 1, 1] / Ks[:, 0, 0]
    assert view.min() >= 45 and view.max() <= 75 and np.ptp(view) > 25
    assert ratio.min() >= 0.9 and ratio.max() <= 1.25 and np.ptp(ratio) > 0.3
    assert Ks[:, 0, 2].mean() == pytest.approx(79.5, abs=1) and 1 < Ks[:, 0, 2].std() < 5
    assert (Ks[:, 2] == [0, 0, 1]).all() and (Ks[:, 0, 1] == 0).all()


def test_a_clean_camera_aims_at_its_target():
    image = develop(torch.full((2, 3, 4, 5), 7.0), CLEAN, np.random.default_rng(0))
    expected = round(255 * (1 - np.exp(-0.2)) ** (1 / 2.2))
    assert image.dtype == torch.uint8 and image.shape == (2, 3, 4, 5)
    assert (image == expected).all()


def test_exposure_holds_still_or_follows():
    light = torch.cat([torch.full((1, 3, 4, 4), 1.0), torch.full((1, 3, 4, 4), 3.0)])
    still = develop(light, CLEAN, np.random.default_rng(0))
    follows = develop(light, replace(CLEAN, follow=1.0), np.random.default_rng(0))
    assert still[1].float().mean() > still[0].float().mean() + 30
    assert abs(int(follows[1].float().mean()) - int(follows[0].float().mean())) <= 1
    # A reference brightness fixes the exposure whatever else is in the batch.
    alone = develop(light[1:], CLEAN, np.random.default_rng(0), reference=light.mean())
    assert torch.equal(alone[0], still[1])


def test_vignetting_darkens_corners_and_noise_is_seeded():
    light = torch.ones(1, 3, 21, 21)
    dim = develop(light, replace(CLEAN, vignetting=0.2), np.random.default_rng(0))[0, 0]
    assert dim[0, 0] < dim[10, 10] - 10
    noisy = [develop(light, replace(CLEAN, noise=0.02), np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert torch.equal(noisy[0], noisy[1]) and not torch.equal(noisy[0], noisy[2])
    assert 2 < noisy[0].float().std() < 10


def test_no_camera_washes_a_scene_out():
    rng = np.random.default_rng(3)
    light = torch.rand(1, 3, 16, 16).pow(3.0)
    for _ in range(40):
        image = develop(light, sample_development(rng), rng).float()
        assert 20 < image.mean() < 225
        assert image.std() > 15


def test_exposures_last_up_to_a_frame_and_some_freeze_motion():
    rng = np.random.default_rng(1)
    times = np.array([sample_exposure(rng) for _ in range(400)])
    assert 0.25 < (times == 0).mean() < 0.45
    assert times.max() <= 1 / 30 and times[times > 0].min() >= 0.003 and (times > 0.02).mean() > 0.05
    assert sample_development(np.random.default_rng(1), strength=0.0).exposure_s == 0.0


K = torch.tensor([[40.0, 0.0, 20.0], [0.0, 50.0, 15.0], [0.0, 0.0, 1.0]])
SIZE = (30, 41)


def project(point: np.ndarray) -> np.ndarray:
    seen = K.double().numpy() @ point
    return seen[:2] / seen[2]


def test_image_motion_is_that_of_a_moving_pinhole():
    rng = np.random.default_rng(0)
    depth = torch.from_numpy(rng.uniform(0.5, 4.0, (1, *SIZE))).float()
    velocity = rng.normal(0.0, 0.7, 6)
    motion = image_motion(depth, K, torch.from_numpy(velocity).float()[None])
    step = 1e-5
    for y, x in ((0, 0), (15, 20), (29, 40), (7, 33)):
        z = float(depth[0, y, x])
        point = np.array([(x - 20) / 40 * z, (y - 15) / 50 * z, z])
        ahead, behind = (
            project(Rotation.from_rotvec(velocity[3:] * t).as_matrix().T @ (point - velocity[:3] * t))
            for t in (step, -step)
        )
        assert motion[0, :, y, x].numpy() == pytest.approx((ahead - behind) / (2 * step), rel=1e-3, abs=1e-3)


def test_near_things_blur_more_and_a_turn_blurs_all_alike():
    depth = torch.full((1, *SIZE), 1.0)
    depth[..., 20:] = 4.0
    sideways = image_motion(depth, K, torch.tensor([[1.0, 0, 0, 0, 0, 0]]))
    assert sideways[0, 0, 15, 10] == pytest.approx(-40.0) and sideways[0, 0, 15, 30] == pytest.approx(-10.0)
    turn = image_motion(depth, K, torch.tensor([[0.0, 0, 0, 0, 0.5, 0]]))
    assert turn[0, 0, 15, 20] == pytest.approx(-20.0)
    nearer = image_motion(depth / 2, K, torch.tensor([[0.0, 0, 0, 0, 0.5, 0]]))
    assert torch.equal(turn, nearer)


def line_image() -> torch.Tensor:
    image = torch.zeros(1, 3, *SIZE)
    image[..., 20] = 1.0
    return image


def test_a_line_is_smeared_as_far_as_it_moves_and_keeps_its_light():
    depth = torch.full((1, *SIZE), 2.0)
    velocity = torch.tensor([[1.0, 0, 0, 0, 0, 0]])  # 20 pixels a second
    blurred = blur_motion(line_image(), depth, K, velocity, 0.3)[0, 0, 15]  # 6 pixels
    assert blurred.sum() == pytest.approx(1.0, abs=0.02)
    lit = (blurred > 0.02).nonzero()[:, 0]
    assert (lit.min(), lit.max()) in ((17, 23), (18, 22))
    assert blurred[lit.min() : 21].flip(0) == pytest.approx(blurred[20 : lit.max() + 1], abs=1e-4)
    # Along the line nothing changes.
    assert blur_motion(line_image(), depth, K, torch.tensor([[0.0, 1, 0, 0, 0, 0]]), 0.3).allclose(line_image())


def test_no_exposure_and_no_motion_leave_frames_as_they_are():
    depth = torch.full((1, *SIZE), 2.0)
    moving, still = torch.tensor([[1.0, 0, 0, 0, 0, 0]]), torch.zeros(1, 6)
    assert blur_motion(line_image(), depth, K, moving, 0.0).equal(line_image())
    assert blur_motion(line_image(), depth, K, still, 0.03).equal(line_image())


def test_a_pixel_without_depth_stays_finite():
    blurred = blur_motion(line_image(), torch.zeros(1, *SIZE), K, torch.tensor([[1.0, 0, 0, 0, 0, 0]]), 0.03)
    assert torch.isfinite(blurred).all()
