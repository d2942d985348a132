# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""A mask as a message: what is taken, and that nothing else hides depth."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from dvmvs_core.data.lens.valid_mask import (
    MaskChanges,
    decode_mask,
    decode_mask_png,
    hidden_percent,
    mask_topic,
)
from dvmvs_core.errors import MessageError

MASK = np.full((4, 6), 255, np.uint8)
MASK[:, :2], MASK[0, 5] = 0, 1
VALID = MASK > 0


def test_what_is_not_0_shows_the_scene_in_one_channel_or_three():
    padded = np.pad(MASK, ((0, 0), (0, 2)))
    np.testing.assert_array_equal(decode_mask("mono8", 4, 6, 8, 0, padded.tobytes()), VALID)
    np.testing.assert_array_equal(decode_mask("8UC1", 4, 6, 6, 1, MASK.tobytes()), VALID)
    np.testing.assert_array_equal(decode_mask("bgr8", 4, 6, 18, 0, np.dstack([MASK] * 3).tobytes()), VALID)
    blue = np.dstack((MASK, np.zeros_like(MASK), np.zeros_like(MASK)))
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
        decode_mask("mono8", 4, 6, 6, 0, MASK.tobytes(), max_pixels=23)


def test_a_jpeg_is_no_mask():
    with pytest.raises(MessageError, match="it must be a PNG; got a JPEG"):
        decode_mask_png(cv2.imencode(".jpg", MASK)[1].tobytes())
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
