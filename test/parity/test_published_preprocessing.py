# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Resized images, depth and intrinsics equal the published implementation's."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from dvmvs_core.preprocess import Preprocessor, normalise


@pytest.fixture(scope="module")
def units(reference):
    return np.load(reference / "goldens" / "units.npz")


@pytest.fixture(scope="module")
def K(hololens):
    return np.loadtxt(hololens / "K.txt").astype(np.float32)


def test_crops_and_intrinsics(units, K):
    for case, expected in zip(units["pp_cases"].tolist(), units["pp_out"], strict=True):
        old_width, old_height, new_width, new_height, border, crop = case
        preprocessor = Preprocessor(K, (old_height, old_width), (new_height, new_width), bool(crop), border)
        got = preprocessor.K
        np.testing.assert_array_equal((preprocessor.crop_x, preprocessor.crop_y), expected[:2])
        np.testing.assert_allclose((got[0, 0], got[1, 1], got[0, 2], got[1, 2]), expected[2:], rtol=1e-7)


def test_cropped_and_resized_image_and_depth(units, K):
    preprocessor = Preprocessor(K, (45, 70), (24, 32), crop=True, distortion_crop=2)
    np.testing.assert_allclose(preprocessor.K, units["pp_K_out"], rtol=1e-7)
    image = preprocessor.image(units["pp_img_in"].astype(np.uint8))
    np.testing.assert_allclose(normalise(image).transpose(1, 2, 0), units["pp_img_out"], atol=2e-6)
    np.testing.assert_array_equal(preprocessor.depth(units["pp_depth_in"]), units["pp_depth_out"])


def test_real_image(units, K, hololens):
    image = cv2.cvtColor(cv2.imread(str(sorted((hololens / "images").iterdir())[6])), cv2.COLOR_BGR2RGB)
    preprocessor = Preprocessor(K, image.shape[:2], (256, 320))
    np.testing.assert_allclose(preprocessor.K, units["pp_real6_K"], rtol=1e-7)
    normalised = normalise(preprocessor.image(image)).transpose(1, 2, 0)
    np.testing.assert_allclose(normalised[::8, ::8], units["pp_real6_stride8"], atol=2e-6)
