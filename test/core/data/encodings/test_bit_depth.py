# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

from __future__ import annotations

import numpy as np
import pytest

from dvmvs_core.data.encodings.bit_depth import BitDepth
from dvmvs_core.data.encodings.image_message import decode_image


def values(bits: int) -> np.ndarray:
    """(2, 2) uint16: black, a half, three quarters and white of so many bits."""
    white = (1 << bits) - 1
    return np.array(((0, white // 2), (white * 3 // 4, white)), np.uint16)


@pytest.mark.parametrize("bits", (8, 10, 12, 14, 16))
def test_white_of_any_number_of_bits_is_255(bits):
    np.testing.assert_allclose(BitDepth().eight_bits(values(bits)), ((0, 127), (191, 255)), atol=1)
    flat = np.full((8, 8), values(bits)[1, 0])
    np.testing.assert_allclose(decode_image("bayer_rggb16", 8, 8, 16, 0, flat.tobytes()), 255 * 0.75, atol=64)
    data = values(bits).tobytes()
    np.testing.assert_allclose(decode_image("mono16", 2, 2, 4, 0, data)[..., 0], ((0, 127), (191, 255)), atol=1)


def test_a_dark_image_is_not_brightened_once_a_bright_one_was_seen(caplog):
    caplog.set_level("INFO")
    bits = BitDepth("images of /camera")
    bits.eight_bits(values(12))
    dark = np.full((2, 2), 500, np.uint16)
    assert bits.eight_bits(dark)[0, 0] == round(500 / 4095 * 255)
    bits.eight_bits(values(12))
    assert caplog.messages == ["images of /camera of 16 bits use the lower 12 of them: 4095 is white"]
    assert bits.eight_bits(values(16))[1, 1] == 255
    assert bits.eight_bits(dark)[0, 0] == round(500 / 65535 * 255)


def test_eight_bits_are_left_as_they_are():
    image = np.full((2, 2, 3), 7, np.uint8)
    assert BitDepth().eight_bits(image) is image
