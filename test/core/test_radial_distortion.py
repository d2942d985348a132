# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Images and depth with radial distortion and without, against OpenCV."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from dvmvs_core.radial_distortion import bent, removable, straightened

HEIGHT, WIDTH = 96, 128
K = np.array(((110.0, 0, 66), (0, 105, 45), (0, 0, 1)))


@pytest.fixture
def image():
    noise = np.random.default_rng(3).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 3)


@pytest.mark.parametrize("distortion", [-0.2, -0.05, 0.1])
def test_an_image_is_straightened_as_opencv_does_it(image, distortion):
    found = straightened(torch.from_numpy(image).float(), K, distortion)
    expected = cv2.undistort(image, K, np.array((distortion, 0, 0, 0)))
    inner = (slice(16, -16), slice(20, -20))
    np.testing.assert_allclose(found.numpy()[inner], expected[inner], atol=2)
    assert found.shape == image.shape and np.isfinite(found.numpy()).all()


@pytest.mark.parametrize("distortion", [-0.2, -0.05, 0.1])
def test_what_was_straightened_is_bent_to_where_it_was(image, distortion):
    ramp = torch.from_numpy(np.mgrid[:HEIGHT, :WIDTH]).float()
    straight = straightened(ramp.permute(1, 2, 0), K, distortion).permute(2, 0, 1)
    inner = (slice(None), slice(8, -8), slice(8, -8))
    assert (straight - ramp)[inner].abs().max() > 1
    assert (bent(straight, K, distortion, "border") - ramp)[inner].abs().max() < 0.75, "the nearest pixel"


def test_depth_outside_the_straightened_image_repeats_its_border_and_has_no_confidence():
    ones = torch.ones(1, HEIGHT, WIDTH)
    assert (bent(ones, K, -0.2, "border") == 1).all()
    confidence = bent(ones, K, -0.2, "zeros")[0]
    assert confidence[0, 0] == confidence[-1, -1] == 0
    assert (confidence[16:-16, 20:-20] == 1).all()
    assert (bent(ones, K, 0.1, "zeros") == 1).all(), "all of it is in view"


def test_no_distortion_changes_nothing(image):
    np.testing.assert_allclose(straightened(torch.from_numpy(image).float(), K, 0.0).numpy(), image, atol=1e-3)


@pytest.mark.parametrize("distortion", [-9.0, 9.0])
@pytest.mark.parametrize("focal", [50.0, 110.0, 400.0])
def test_as_much_as_can_be_removed_leads_there_and_back(distortion, focal):
    """Each pixel has its own depth again, or no confidence."""
    wide = np.array(((focal, 0, 66), (0, focal, 45), (0, 0, 1)))
    largest = removable(distortion, wide, (HEIGHT, WIDTH))
    assert 0 < abs(largest) < abs(distortion) and largest * distortion > 0
    ramp = torch.from_numpy(np.mgrid[:HEIGHT, :WIDTH]).float()
    straight = straightened(ramp.permute(1, 2, 0), wide, largest).permute(2, 0, 1)
    assert (straight[1].diff(dim=1) >= -1e-3).all(), "no pixel is seen twice"
    confidence = bent(torch.ones(1, HEIGHT, WIDTH), wide, largest, "zeros")[0] > 0
    off = (bent(straight, wide, largest, "border") - ramp).abs().amax(dim=0)
    assert off[confidence].max() < 2 and confidence.float().mean() > 0.5


def test_small_distortions_can_be_removed_whole():
    assert removable(-0.07, K, (HEIGHT, WIDTH)) == -0.07
