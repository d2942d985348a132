# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

from __future__ import annotations

import torch

from dvmvs_core.model.patch_matching import PATCH_CHANNELS, full_patch_descriptors, patch_descriptors


def textured(seed=0):
    return torch.randn(1, 3, 16, 24, generator=torch.Generator().manual_seed(seed))


def test_shape_and_no_gradient():
    descriptors = patch_descriptors(textured().requires_grad_())
    assert descriptors.shape == (1, PATCH_CHANNELS, 8, 12)
    assert not descriptors.requires_grad


def test_product_with_itself_is_one_and_descriptors_have_no_mean():
    descriptors = patch_descriptors(textured())
    torch.testing.assert_close(descriptors.square().mean(dim=1), torch.ones(1, 8, 12), atol=0.05, rtol=0)
    assert descriptors.mean(dim=1).abs().max() < 1e-5


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
    at_the_point = patch_descriptors(image)[0, :, 4, 4].view(3, 3)
    torch.testing.assert_close(at_the_point, at_the_point.flip(0), msg="the patch is not symmetric about pixel 2x")
    torch.testing.assert_close(at_the_point, at_the_point.T)


def test_full_resolution_has_the_patch_around_every_pixel():
    image = textured()
    descriptors = full_patch_descriptors(image.requires_grad_())
    assert descriptors.shape == (1, PATCH_CHANNELS, 16, 24) and not descriptors.requires_grad
    to_grey = torch.tensor((0.299, 0.587, 0.114)) * torch.tensor((0.229, 0.224, 0.225))
    grey = torch.einsum("c,chw->hw", to_grey, image.detach()[0])
    for y, x in ((1, 1), (7, 12), (14, 22)):
        patch = grey[y - 1 : y + 2, x - 1 : x + 2].flatten()
        expected = (patch - patch.mean()) / patch.std(correction=0)
        torch.testing.assert_close(descriptors[0, :, y, x], expected, atol=1e-3, rtol=1e-3)
