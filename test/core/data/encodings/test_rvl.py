# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""RVL against an encoder that goes pixel by pixel and digit by digit, as its paper describes it."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from dvmvs_core.data.encodings.rvl import decode_rvl
from dvmvs_core.errors import MessageError

RANDOM = np.random.default_rng(0)
IMAGES = {
    "nothing": np.zeros((4, 6), np.uint16),
    "one pixel": np.full((1, 1), 7, np.uint16),
    "noise": RANDOM.integers(0, 65536, (24, 40), dtype=np.uint16),
    "smooth": (2000 + 300 * np.sin(np.arange(960).reshape(24, 40) / 50)).astype(np.uint16),
    "holes": RANDOM.integers(500, 4000, (24, 40), dtype=np.uint16) * (RANDOM.random((24, 40)) < 0.5).astype(np.uint16),
    "largest steps": np.array([[65535, 1, 65535, 0, 0, 1, 32768, 1]], np.uint16),
    "ends with zeros": np.array([[5, 6, 0, 0, 0]], np.uint16),
}


def encode(image: np.ndarray) -> bytes:
    """The image as RVL, with its size in front."""
    numbers, pixels, at, previous = [], image.reshape(-1).tolist(), 0, 0
    while at < len(pixels):
        zeros = next((i for i, value in enumerate(pixels[at:]) if value), len(pixels) - at)
        others = next((i for i, value in enumerate(pixels[at + zeros :]) if not value), len(pixels) - at - zeros)
        numbers += [zeros, others]
        for value in pixels[at + zeros : at + zeros + others]:
            step = value - previous
            numbers.append(2 * step if step >= 0 else -2 * step - 1)
            previous = value
        at += zeros + others
    digits = ""
    for number in numbers:
        octal = f"{number:o}"[::-1]
        digits += "".join(f"{int(digit) + 8:x}" for digit in octal[:-1]) + octal[-1]
    digits += "0" * (-len(digits) % 8)
    words = [int(digits[i : i + 8], 16) for i in range(0, len(digits), 8)]
    return struct.pack(f"<II{len(words)}I", image.shape[1], image.shape[0], *words)


def test_the_encoder_of_this_test_makes_the_bytes_of_the_transports_own_codec():
    millimetres = np.array(((0, 1, 1234), (2001, 65535, 800)), np.uint16)
    assert encode(millimetres).hex() == "03000000020000004ece2a158fb92cff30cffe3d"


@pytest.mark.parametrize("name", IMAGES)
def test_every_pixel_comes_back(name):
    image = decode_rvl(encode(IMAGES[name]))
    assert image.dtype == np.uint16
    np.testing.assert_array_equal(image, IMAGES[name])


@pytest.mark.parametrize("name", IMAGES)
def test_a_cut_is_refused_wherever_it_is(name):
    data = encode(IMAGES[name])
    for size in {0, 3, 8, *range(8, len(data) - 3, max(1, len(data) // 20))}:
        with pytest.raises(MessageError, match="cut off|8 bytes of size"):
            decode_rvl(data[:size])


@pytest.mark.parametrize(
    ("data", "said"),
    (
        (struct.pack("<III", 0, 5, 0), "its header says 0×5"),
        (struct.pack("<III", 1 << 31, 1 << 31, 0), "must have 1 to"),
        (struct.pack("<III", 4, 4, 0), "runs that fill it"),
        (struct.pack("<III", 4, 4, 0x70000000), "ends after 7|runs that fill it"),
        (struct.pack("<IIIII", 4, 4, 0xFFFFFFFF, 0xFFFFFFFF, 0), "at most 10 digits"),
    ),
)
def test_damage_is_one_clear_error(data, said):
    with pytest.raises(MessageError, match=said):
        decode_rvl(data)
