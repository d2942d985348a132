# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Motion blur against points that are projected before, at and after the middle of the exposure."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from dvmvs_core.synthetic.motion_blur import blur_motion, image_motion

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
