# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Conventions of the plane sweep that released weights depend on, each next to the answer it must not give."""

from __future__ import annotations

import pytest
import torch
from camera_poses import pose_tensor as moved

from dvmvs_core.model.cost_volume import cost_volume, inverse_depth_planes

HEIGHT, WIDTH = 4, 6
IDENTITY = torch.eye(4)[None]
# Full resolution; at half resolution the focal length is 2 and the centre (3, 2).
K = torch.tensor([[[4.0, 0.0, 6.0], [0.0, 4.0, 4.0], [0.0, 0.0, 1.0]]])
ONES = torch.ones(1, 1, HEIGHT, WIDTH)
COLUMN = torch.arange(WIDTH, dtype=torch.float32).expand(1, 1, HEIGHT, WIDTH)
ROW = torch.arange(HEIGHT, dtype=torch.float32)[:, None].expand(1, 1, HEIGHT, WIDTH)
ONE_METRE = torch.tensor([1.0])


def test_convention_plane_0_is_the_farthest_and_planes_are_even_in_inverse_depth():
    planes = inverse_depth_planes(0.25, 20.0, 64)
    torch.testing.assert_close(planes[[0, -1]], torch.tensor([0.05, 4.0]))
    torch.testing.assert_close(planes.diff(), torch.full((63,), 3.95 / 63))
    assert not planes[0] == 4.0, "plane 0 would be the nearest"
    assert not torch.allclose((1 / planes).diff(), (1 / planes).diff()[:1]), "planes would be even in depth"


@pytest.mark.parametrize(("ramp", "size"), [(COLUMN, WIDTH), (ROW, HEIGHT)])
def test_convention_grid_is_normalised_by_half_the_width(ramp, size):
    sampled = cost_volume(ONES, [ramp], IDENTITY, [IDENTITY], K, ONE_METRE)
    torch.testing.assert_close(sampled, ramp * (size - 1) / size)
    exact = cost_volume(ONES, [ramp], IDENTITY, [IDENTITY], K, ONE_METRE, exact_sampling=True)
    torch.testing.assert_close(exact, ramp)
    assert not torch.allclose(sampled, exact, atol=1e-2), "the sampler would be the exact one"


def test_convention_points_behind_the_measurement_camera_are_sampled():
    turned_around = torch.diag(torch.tensor([-1.0, 1.0, -1.0, 1.0]))[None]
    far_away = torch.tensor([1e-6])
    published = cost_volume(ONES, [ONES], IDENTITY, [turned_around], K, far_away)
    assert published[0, 0, 2, 3] == pytest.approx(1.0), "a sign test on q_z would give 0"
    masked = cost_volume(ONES, [ONES], IDENTITY, [turned_around], K, far_away, mask_out_of_view=True)
    assert masked.abs().max() == 0


def test_convention_samples_out_of_view_count_as_zeros_in_the_mean():
    poses = [IDENTITY, moved(x=100.0)]
    published = cost_volume(ONES, [ONES, ONES], IDENTITY, poses, K, ONE_METRE)
    torch.testing.assert_close(published, torch.full_like(published, 0.5))
    masked = cost_volume(ONES, [ONES, ONES], IDENTITY, poses, K, ONE_METRE, mask_out_of_view=True)
    torch.testing.assert_close(masked, torch.ones_like(masked))


def test_convention_half_resolution_K_is_K_halved_without_half_pixel_term():
    # The camera turns by 90° about its axis, so the result depends on the centre: pixel (3, 2) stays where it is.
    rolled = torch.tensor([[0.0, -1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]])[
        None
    ]
    sampled = cost_volume(ONES, [COLUMN], IDENTITY, [rolled], K, ONE_METRE, exact_sampling=True)
    assert sampled[0, 0, 2, 3].item() == pytest.approx(3.0, abs=1e-5), "a half-pixel term would give 2.5"


def test_convention_pose_direction():
    # The measurement camera stands 0.5 m to the right, so a point at 1 m is seen 2 · 0.5 / 1 = 1 pixel further left.
    sampled = cost_volume(ONES, [COLUMN], IDENTITY, [moved(x=0.5)], K, ONE_METRE, exact_sampling=True)
    torch.testing.assert_close(sampled[..., 1:5], COLUMN[..., 1:5] - 1)
    assert not torch.allclose(sampled[..., 1:5], COLUMN[..., 1:5] + 1), "the pose would be inverted"


def test_convention_cost_is_the_mean_product_over_channels():
    reference = torch.stack([ONES, 3 * ONES], dim=1).view(1, 2, HEIGHT, WIDTH)
    cost = cost_volume(reference, [reference], IDENTITY, [IDENTITY], K, ONE_METRE)
    assert cost[0, 0, 0, 0] == pytest.approx((1 + 9) / 2), "a sum would give 10, an absolute difference 0"
