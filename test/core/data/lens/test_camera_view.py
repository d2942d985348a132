# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""When images are rectified, and that a rectified one is left alone."""

from __future__ import annotations

import numpy as np
import pytest

from dvmvs_core.data.lens.camera_info import camera_model
from dvmvs_core.data.lens.camera_view import Rectification, is_rectified_topic
from dvmvs_core.data.lens.rectification import Rectifier

RAW_K = (60.0, 0.0, 32.0, 0.0, 61.0, 24.0, 0.0, 0.0, 1.0)
P = (55.0, 0.0, 31.0, 0.0, 0.0, 55.0, 23.0, 0.0, 0.0, 0.0, 1.0, 0.0)
BENT = camera_model(48, 64, RAW_K, P, (-0.3, 0.1, 0.0, 0.0, 0.0))
STRAIGHT = camera_model(48, 64, RAW_K, P, (0.0,) * 5)
IMAGE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("topic", "rectified"),
    (
        ("/camera/image_rect", True),
        ("/camera/image_rect_color", True),
        ("/camera/infra1/image_rect_raw", True),
        ("/zed/zed_node/rgb/color/rect/image", True),
        ("/camera/rectified", True),
        ("/camera/image_raw", False),
        ("/camera/color/image", False),
        ("/director/image_raw", False),
        ("/colour_corrected/image", False),
    ),
)
def test_a_topics_name_says_whether_its_images_are_rectified(topic, rectified):
    assert is_rectified_topic(topic) == rectified


@pytest.mark.parametrize(
    ("mode", "topic", "camera", "rectifies"),
    (
        ("auto", "/camera/image_raw", BENT, True),
        ("auto", "/camera/image_rect", BENT, False),
        ("auto", "/camera/image_raw", STRAIGHT, False),
        ("always", "/camera/image_rect", BENT, True),
        ("always", "/camera/image_raw", STRAIGHT, False),
        ("never", "/camera/image_raw", BENT, False),
    ),
)
def test_who_rectifies(mode, topic, camera, rectifies):
    said = []
    rectification = Rectification(mode, topic, (32, 64), False, said.append)
    for _ in range(2):
        image, K = rectification(IMAGE, camera)
        if rectifies:
            rectifier = Rectifier(camera, (32, 64))
            np.testing.assert_array_equal(image, rectifier.image(IMAGE))
            np.testing.assert_array_equal(K, rectifier.K)
        else:
            assert image is IMAGE and K is camera.K, "the very image: not a bit of it may change"
    assert len(said) == 1, "once for each camera, not for each image"


def test_new_intrinsics_make_a_new_rectification():
    rectification = Rectification("auto", "image_raw", (32, 64), False, lambda _: None)
    first, _ = rectification(IMAGE, BENT)
    second, _ = rectification(IMAGE, camera_model(48, 64, RAW_K, P, (0.2, 0.1, 0.0, 0.0, 0.0)))
    assert not np.array_equal(first, second)
