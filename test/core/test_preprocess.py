# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Resizing an image and its intrinsics together."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dvmvs_core.errors import FrameError
from dvmvs_core.preprocess import Preprocessor, normalise, resized_tensor

K = np.array(((50.0, 3.0, 31.0), (0, 55.0, 22.0), (0, 0, 1)))


def test_stretching_scales_intrinsics_by_each_side():
    scaled = Preprocessor(K, (48, 64), (96, 32)).K
    np.testing.assert_allclose(scaled, ((25, 0, 15.5), (0, 110, 44), (0, 0, 1)))


def test_crop_keeps_the_aspect_ratio():
    """64×48 to a square: 8 columns leave on each side, and nothing is scaled."""
    preprocessor = Preprocessor(K, (48, 64), (48, 48), crop=True)
    np.testing.assert_allclose(preprocessor.K, ((50, 0, 23), (0, 55, 22), (0, 0, 1)))
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    np.testing.assert_array_equal(preprocessor.image(image), image[:, 8:56].astype(np.float32))


def test_depth_is_never_interpolated():
    depth = np.where(np.arange(64) < 31, 1.0, 5.0)[None].repeat(48, axis=0).astype(np.float32)
    assert set(np.unique(Preprocessor(K, (48, 64), (32, 32)).depth(depth))) == {1.0, 5.0}


def test_image_of_another_size_is_refused():
    with pytest.raises(FrameError, match=r"\(48, 64\).*got \(24, 32\)"):
        Preprocessor(K, (48, 64), (32, 32)).image(np.zeros((24, 32, 3), np.uint8))


def test_normalise_is_channels_first_and_centred():
    image = np.tile(np.array((0.485, 0.456, 0.406)) * 255, (4, 5, 1))
    normalised = normalise(image)
    assert normalised.shape == (3, 4, 5) and normalised.dtype == np.float32
    np.testing.assert_allclose(normalised, 0.0, atol=1e-6)


def test_convention_resizing_happens_in_float():
    """Halving a 0/255 checker of columns gives 127.5; rounding to uint8 in between would give 127 or 128."""
    image = np.zeros((4, 8, 3), np.uint8)
    image[:, 1::2] = 255
    np.testing.assert_array_equal(Preprocessor(K, (4, 8), (4, 4)).image(image), np.float32(127.5))


@pytest.mark.parametrize("crop", [True, False])
def test_the_network_gets_the_published_numbers_on_a_cpu(crop):
    raw = np.random.default_rng(0).integers(0, 256, (120, 200, 3), dtype=np.uint8)
    preprocessor = Preprocessor(K, (120, 200), (64, 96), crop=crop)
    normalised, resized = preprocessor.network_image(raw, torch.device("cpu"))
    np.testing.assert_array_equal(resized.numpy(), preprocessor.image(raw))
    np.testing.assert_array_equal(normalised[0].numpy(), normalise(preprocessor.image(raw)))
    assert normalised.is_contiguous() and normalised.dtype == torch.float32


@pytest.mark.parametrize(("size", "new_size"), [((120, 200), (64, 96)), ((40, 60), (64, 96)), ((64, 96), (64, 96))])
def test_a_device_resizes_as_opencv_does(size, new_size):
    raw = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    expected = Preprocessor(K, size, new_size).image(raw)
    np.testing.assert_allclose(resized_tensor(torch.from_numpy(raw), new_size).numpy(), expected, rtol=1e-4, atol=2e-3)
