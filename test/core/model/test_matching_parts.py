# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

from __future__ import annotations

import pytest
import torch
from camera_poses import pose_tensor as pose_at

from dvmvs_core.model.patch_matching import PATCH_BASIS, PATCH_CHANNELS, full_patch_descriptors, patch_descriptors
from dvmvs_core.model.ray_matching import NeighbourhoodMeans, look_up, match_along_rays
from dvmvs_core.model.warping import sampling_grid

HALF_K = torch.tensor([[[20.0, 0, 12], [0, 20.0, 8], [0, 0, 1]]])
SIZE = (17, 25)


def test_a_point_looks_like_the_pixel_that_sees_it_and_no_other():
    """A point 2 m ahead, from 0.4 m to the right: 20 px / m · 0.4 m / 2 m = 4 px to the left of the centre."""
    generator = torch.Generator().manual_seed(0)
    measurement = torch.rand(1, 6, *SIZE, generator=generator) - 0.5
    reference = 7.0 * measurement[:, :, 8, 8, None]  # only its direction counts
    ray = torch.tensor([[[0.0], [0.0], [1.0]]])
    inverse_depths = 1 / torch.tensor([[[2.0], [1.0], [0.2]]])
    views = [(measurement, pose_at(0.4)), (measurement, pose_at(100.0))]
    total, count = match_along_rays(ray, inverse_depths, HALF_K, pose_at(0.0), reference, views)
    assert total[0, 0, 0] == pytest.approx(1.0, abs=1e-5)
    assert total[0, 1, 0] < 0.99
    assert count[0, :, 0].tolist() == [1.0, 1.0, 0.0]  # at 0.2 m it is 40 px to the left, out of view
    assert total[0, 2, 0] == 0.0


def test_rounding_errors_of_one_colour_match_nothing():
    noise = 1e-5 * torch.randn(1, 6, *SIZE, generator=torch.Generator().manual_seed(0))
    ray = torch.tensor([[[0.0], [0.0], [1.0]]])
    total, count = match_along_rays(
        ray, torch.full((1, 1, 1), 0.5), HALF_K, pose_at(0.0), noise[:, :, 8, 8, None], [(noise, pose_at(0.0))]
    )
    assert count.item() == 1.0
    assert abs(total.item()) < 1e-3


def test_a_camera_sees_points_of_the_world_where_they_are():
    points = torch.tensor([[[0.5, 0.5, 0.0], [0.0, 0.0, 0.0], [2.0, -2.0, 4.0]]])
    grid, depth, in_view = look_up(points, HALF_K, pose_at(0.5), SIZE)
    assert depth[0].tolist() == [2.0, -2.0, 4.0]
    assert in_view[0].tolist() == [True, False, True]
    x, y = (grid[0, 0] + 1).mul(torch.tensor((12.0, 8.0)))[2].tolist()
    assert (x, y) == pytest.approx((12 - 20 * 0.5 / 4, 8.0))


def test_corners_are_in_view_and_nothing_beyond_them():
    xy = torch.tensor([[[0.0, 24.0, 24.5, -0.5]], [[0.0, 16.0, 0.0, 0.0]]]).permute(1, 0, 2)[:, :, None]
    _, in_view = sampling_grid(xy, torch.ones(1, 1, 4), SIZE)
    assert in_view[0, 0].tolist() == [True, True, False, False]


@pytest.mark.parametrize("side", (3, 5, 9))
def test_means_over_neighbourhoods_are_those_of_a_plain_loop(side):
    generator = torch.Generator().manual_seed(0)
    count = torch.randint(0, 3, (1, 2, 12, 14), generator=generator).float()
    total = torch.rand(1, 2, 12, 14, generator=generator) * count
    means = NeighbourhoodMeans(total, count, 9).over(side)
    reach = side // 2
    for plane, y, x in ((0, 0, 0), (1, 5, 6), (0, 11, 13), (1, 0, 7)):
        part = (0, plane, slice(max(0, y - reach), y + reach + 1), slice(max(0, x - reach), x + reach + 1))
        expected = total[part].sum() / count[part].sum().clamp(min=1)
        assert means[0, plane, y, x] == pytest.approx(float(expected), abs=1e-5)


def textured(seed=0):
    return torch.randn(1, 3, 16, 24, generator=torch.Generator().manual_seed(seed))


def test_shape_and_no_gradient():
    descriptors = patch_descriptors(textured().requires_grad_())
    assert descriptors.shape == (1, PATCH_CHANNELS, 8, 12)
    assert not descriptors.requires_grad


def as_patch(descriptor):
    """3×3 pixels without their mean, of deviation 1, from the eight numbers of a descriptor."""
    return (descriptor @ torch.from_numpy(PATCH_BASIS)).view(3, 3) * (9 / 8) ** 0.5


def test_product_with_itself_is_one_and_patches_have_no_mean():
    descriptors = patch_descriptors(textured())
    torch.testing.assert_close(descriptors.square().mean(dim=1), torch.ones(1, 8, 12), atol=0.05, rtol=0)
    patches = torch.stack([as_patch(descriptor) for descriptor in descriptors[0].flatten(1).T])
    assert patches.mean(dim=(1, 2)).abs().max() < 1e-5


def test_brightness_and_contrast_do_not_matter():
    torch.testing.assert_close(
        patch_descriptors(textured()), patch_descriptors(1.5 * textured() + 0.3), atol=0.02, rtol=0
    )


def test_flat_patches_match_nothing():
    wall = torch.full((1, 3, 16, 24), 0.7) + 1e-4 * textured()
    assert patch_descriptors(wall).square().mean(dim=1).max() < 1e-3


def test_half_resolution_pixel_is_centred_on_every_second_pixel():
    image = torch.zeros(1, 3, 16, 16)
    image[0, :, 8, 8] = 5.0
    at_the_point = as_patch(patch_descriptors(image)[0, :, 4, 4])
    torch.testing.assert_close(at_the_point, at_the_point.flip(0), msg="the patch is not symmetric about pixel 2x")
    torch.testing.assert_close(at_the_point, at_the_point.T)


def test_full_resolution_has_the_patch_around_every_pixel():
    image = textured()
    descriptors = full_patch_descriptors(image.requires_grad_())
    assert descriptors.shape == (1, PATCH_CHANNELS, 16, 24) and not descriptors.requires_grad
    to_grey = torch.tensor((0.299, 0.587, 0.114)) * torch.tensor((0.229, 0.224, 0.225))
    grey = torch.einsum("c,chw->hw", to_grey, image.detach()[0])
    for y, x in ((1, 1), (7, 12), (14, 22)):
        patch = grey[y - 1 : y + 2, x - 1 : x + 2]
        expected = (patch - patch.mean()) / patch.std(correction=0)
        torch.testing.assert_close(as_patch(descriptors[0, :, y, x]), expected, atol=1e-3, rtol=1e-3)
