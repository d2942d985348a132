# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""When images are rectified, and that a rectified one is left alone; masks of them, and messages of masks."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from dvmvs_core.data.lens.camera_info import camera_model
from dvmvs_core.data.lens.camera_view import Rectification, is_rectified_topic
from dvmvs_core.data.lens.rectification import Rectifier
from dvmvs_core.data.lens.valid_mask import (
    MaskChanges,
    apply_valid_mask,
    decode_mask,
    decode_mask_png,
    hidden_percent,
    mask_topic,
)
from dvmvs_core.errors import MessageError
from dvmvs_core.preprocess import Preprocessor
from dvmvs_core.types import DepthPrediction

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


MASK = np.ones((48, 64), bool)
MASK[30:, 20:40] = False


def test_a_mask_of_the_images_hides_their_pixels_rectified_or_not():
    view = Rectification("auto", "image_raw", (32, 64), False, lambda _: None)
    view.raw_mask = MASK
    view(IMAGE, STRAIGHT)
    assert view.valid_mask is MASK and not view.mask_fault
    for _ in range(2):
        view(IMAGE, BENT)
        lens = Rectifier(BENT, (32, 64))
        # An image that is white where the mask hides: rectified alike, no white may be left where something is seen.
        white = lens.image(np.repeat(np.where(MASK, 0, 255).astype(np.uint8)[..., None], 3, axis=2))[..., 0]
        shown = np.ones((32, 64), bool) if lens.in_view is None else lens.in_view
        assert not white[view.valid_mask].any()
        np.testing.assert_array_equal(view.valid_mask, shown & (white == 0))
    view.raw_mask = None
    view(IMAGE, BENT)
    assert view.valid_mask is lens.in_view or np.array_equal(view.valid_mask, lens.in_view)


@pytest.mark.parametrize("camera", (BENT, STRAIGHT), ids=("raw", "rectified"))
def test_a_mask_of_another_size_hides_nothing_and_is_named(camera):
    view = Rectification("auto", "image_raw", (32, 64), False, lambda _: None)
    view(IMAGE, camera)
    without = view.valid_mask
    view.raw_mask = MASK[:-1]
    view(IMAGE, camera)
    assert view.valid_mask is without
    assert view.mask_fault == "it must have the size of the images, 64×48; got 64×47"
    view.raw_mask = MASK
    view(IMAGE, camera)
    assert not view.mask_fault and not view.valid_mask[-1, view.valid_mask.shape[1] // 2 - 3]


def test_a_mask_follows_the_crop_to_the_networks_aspect_ratio():
    preprocessor = Preprocessor(np.eye(3), (48, 64), (24, 24), crop=True)
    empty = np.zeros((24, 24, 3), np.uint8)
    prediction = DepthPrediction(np.ones((24, 24), np.float32), preprocessor.K, empty, np.eye(4), 0, 0, (), (), 0.0)
    left = np.ones((48, 64), bool)
    left[:, :8] = False  # just what the crop removes
    assert apply_valid_mask(prediction, left, crop=True).depth.all()
    left[:, 8:20] = False
    np.testing.assert_array_equal(apply_valid_mask(prediction, left, crop=True).depth[5] > 0, np.arange(24) >= 6)


MESSAGE = np.full((4, 6), 255, np.uint8)
MESSAGE[:, :2], MESSAGE[0, 5] = 0, 1
VALID = MESSAGE > 0


def test_what_is_not_0_shows_the_scene_in_one_channel_or_three():
    padded = np.pad(MESSAGE, ((0, 0), (0, 2)))
    np.testing.assert_array_equal(decode_mask("mono8", 4, 6, 8, 0, padded.tobytes()), VALID)
    np.testing.assert_array_equal(decode_mask("8UC1", 4, 6, 6, 1, MESSAGE.tobytes()), VALID)
    np.testing.assert_array_equal(decode_mask("bgr8", 4, 6, 18, 0, np.dstack([MESSAGE] * 3).tobytes()), VALID)
    blue = np.dstack((MESSAGE, np.zeros_like(MESSAGE), np.zeros_like(MESSAGE)))
    np.testing.assert_array_equal(decode_mask("bgr8", 4, 6, 18, 0, blue.tobytes()), VALID)
    assert hidden_percent(VALID) == pytest.approx(100 * 8 / 24)


@pytest.mark.parametrize(
    ("layout", "said"),
    (
        (("16UC1", 4, 6, 12, 0, bytes(48)), "its encoding must be mono8; got '16UC1'"),
        (("bayer_rggb8", 4, 6, 6, 0, bytes(24)), "its encoding must be mono8; got 'bayer_rggb8'"),
        (("mono8", 4, 6, 6, 0, bytes(24)), "0 everywhere"),
        (("mono8", 0, 0, 0, 0, b""), "image"),
        (("mono8", 4, 6, 6, 0, b"\1" * 23), "cut off"),
        (("mono8", 4, 6, 5, 0, b"\1" * 24), "step"),
        (("mono8", 2**32 - 1, 2**32 - 1, 2**32 - 1, 0, b"\1" * 24), "cut off"),
    ),
    ids=("16 bits", "Bayer", "all 0", "empty", "short", "narrow", "bomb"),
)
def test_a_mask_that_is_none_is_refused(layout, said):
    with pytest.raises(MessageError, match=said):
        decode_mask(*layout)


def test_a_mask_of_more_pixels_than_allowed_is_refused():
    with pytest.raises(MessageError, match="pixels"):
        decode_mask("mono8", 4, 6, 6, 0, MESSAGE.tobytes(), max_pixels=23)


def test_a_jpeg_is_no_mask():
    with pytest.raises(MessageError, match="it must be a PNG; got a JPEG"):
        decode_mask_png(cv2.imencode(".jpg", MESSAGE)[1].tobytes())
    with pytest.raises(MessageError, match="it must be a whole PNG"):
        decode_mask_png(b"none")


def test_it_is_next_to_the_images():
    assert mask_topic("/camera/color/image_rect") == "/camera/color/valid_mask"
    assert mask_topic("/image") == "/valid_mask" and mask_topic("image") == "valid_mask"


def test_a_mask_is_published_when_it_changes_and_taken_back_when_there_is_none():
    changes = MaskChanges()
    assert changes.changed(None, (4, 6)) is None, "who has no mask publishes none"
    np.testing.assert_array_equal(changes.changed(VALID, (4, 6)), np.where(VALID, 255, 0))
    assert changes.changed(VALID.copy(), (4, 6)) is None
    assert (changes.changed(None, (4, 6)) == 255).all()
    assert changes.changed(None, (4, 6)) is None
    assert changes.changed(VALID, (4, 6)) is not None
