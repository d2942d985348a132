# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Intrinsics, and the way from light to colours."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from dvmvs_core.synthetic.camera import (
    Development,
    develop,
    sample_development,
    sample_exposure,
    sample_intrinsics,
)

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
