# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Intrinsics, the way from light to colours, and motion blur."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from dvmvs_core.synthetic.camera import (
    Development,
    develop,
    sample_development,
    sample_exposure,
    sample_intrinsics,
)
from dvmvs_core.synthetic.motion_blur import blur_motion, image_motion

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
