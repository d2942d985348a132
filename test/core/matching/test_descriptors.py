# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What pixels are compared by."""

from __future__ import annotations

import numpy as np
import torch

from dvmvs_core.matching.descriptors import INT8_SCALE, joined_maps, patch_rows
from dvmvs_core.model.patch_matching import full_patch_descriptors
from dvmvs_core.preprocess import normalise


def test_patches_are_those_of_the_plain_version():
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (12, 14, 1), dtype=np.uint8).repeat(3, axis=2)
    image[:, :5] = 77
    patches = np.full((12, 14, 16), np.nan, np.float32)
    patch_rows(0, 12, image[..., 0].astype(np.float32), np.float32(1), patches)
    plain = full_patch_descriptors(torch.from_numpy(normalise(image))[None])[0].permute(1, 2, 0).numpy() / 3
    np.testing.assert_allclose(patches[..., :9], plain, atol=2e-3)
    assert not patches[..., 9:].any()
    assert np.abs(patches[:, :4]).max() < 1e-6


def test_the_eighth_map_is_joined_where_its_cells_are_centred():
    """Its cells, at pixels 8x + 7, coincide with the odd ones of the 1/4 map, at pixels 4x + 3."""
    torch.manual_seed(1)
    quarter, eighth = torch.randn(1, 24, 8, 12), torch.randn(1, 40, 4, 6)
    joined = joined_maps(quarter, eighth)
    assert joined.shape == (8, 12, 64)
    torch.testing.assert_close(joined.norm(dim=-1), torch.ones(8, 12))
    centred = eighth - eighth.mean(dim=(2, 3), keepdim=True)
    expected = (centred / centred.norm(dim=1, keepdim=True))[0].permute(1, 2, 0) * 0.5**0.5
    torch.testing.assert_close(joined[1::2, 1::2, 24:], expected)


def test_descriptors_are_small_and_of_unit_length(wall, describer):
    descriptors = describer(wall.images[0])
    assert descriptors.patches.dtype == descriptors.maps.dtype == np.int8
    assert descriptors.patches.shape == (48, 64, 16)
    assert descriptors.maps.shape == (24, 32, 64)
    for part in (descriptors.patches, descriptors.maps):
        lengths = np.linalg.norm(part.astype(float) / INT8_SCALE, axis=-1)
        np.testing.assert_allclose(lengths[2:-2, 2:-2], 1, atol=0.1)
