# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

from __future__ import annotations

import struct

import numpy as np
import pytest
from format_writers import encode_rvl, encoded

from dvmvs_core.data.encodings.compressed_depth import decode_compressed_depth, is_compressed_depth
from dvmvs_core.data.encodings.rvl import decode_rvl
from dvmvs_core.errors import MessageError

MILLIMETRES = np.array(((0, 1, 1234), (2001, 65535, 800)), np.uint16)
RVL = bytes.fromhex("03000000020000004ece2a158fb92cff30cffe3d")
"""What rvl_codec of compressed_depth_image_transport makes of them, with their size in front."""


def header(a=0.0, b=0.0) -> bytes:
    return struct.pack("<iff", 0, a, b)


@pytest.mark.parametrize(
    ("image_format", "data"),
    (
        ("16UC1; compressedDepth png", header() + encoded(".png", MILLIMETRES)),
        ("16UC1; compressedDepth", header() + encoded(".png", MILLIMETRES)),
        ("16UC1; png compressed", encoded(".png", MILLIMETRES)),
        ("mono16; png compressed ", encoded(".png", MILLIMETRES)),
        ("16UC1; compressedDepth rvl", header() + RVL),
    ),
)
def test_millimetres_come_back_as_the_metres_of_a_png_file(image_format, data):
    assert is_compressed_depth(image_format)
    depth = decode_compressed_depth(image_format, data)
    assert depth.dtype == np.float32
    assert np.array_equal(depth, (MILLIMETRES / 1000.0).astype(np.float32))


def test_quantised_inverse_depth_comes_back_as_metres():
    # The transport's own choice for 100 as its png_level of depth_max 10 m: a = q² · quantum, b = 1 − a / depth_max.
    a = 100.0 * 101.0
    b = 1.0 - a / 10.0
    metres = np.array(((0.0, 0.5, 1.0), (2.5, 7.0, 9.9)))
    q = np.zeros(metres.shape, np.uint16)
    q[metres > 0] = np.rint(a / metres[metres > 0] + b)
    depth = decode_compressed_depth("32FC1; compressedDepth png", header(a, b) + encoded(".png", q))
    assert depth[0, 0] == 0
    assert np.allclose(depth, metres, rtol=1e-3, atol=0)
    assert depth[0, 2] == pytest.approx(a / (q[0, 2] - b))


def test_rvl_and_png_hold_the_same_quantised_depth():
    a, b = 10100.0, -1009.0
    depths = [
        decode_compressed_depth(f"32FC1; compressedDepth {kind}", header(a, b) + data)
        for kind, data in (("png", encoded(".png", MILLIMETRES)), ("rvl", RVL))
    ]
    assert np.array_equal(*depths)
    assert depths[0][0, 0] == 0 and depths[0][0, 2] == pytest.approx(a / (1234 - b))


@pytest.mark.parametrize(
    ("image_format", "data", "said"),
    (
        ("16UC1; compressedDepth jpg", header() + b"\0" * 40, "must be a PNG or RVL, .* set to png or rvl"),
        ("16UC1; compressedDepth rvl", header() + RVL[:-4], "damaged or cut off"),
        ("16UC1; compressedDepth rvl", header() + RVL[:6], "8 bytes of size; got 6 in all"),
        ("16UC1; compressedDepth png", b"\0" * 5, "12 bytes of header; got 5 in all"),
        ("16UC1; compressedDepth png", header() + encoded(".png", MILLIMETRES)[:-5], "was cut off"),
        ("16UC1; png compressed", encoded(".png", MILLIMETRES.astype(np.uint8)), "16 bits and one channel; got uint8"),
        ("32FC1; compressedDepth png", header() + encoded(".png", MILLIMETRES), "positive quantisation; got a = 0.0"),
        ("32FC1; png compressed", encoded(".png", MILLIMETRES), "positive quantisation; got a = None"),
        (
            "bgr8; compressedDepth png",
            header() + encoded(".png", MILLIMETRES),
            "its format says 'bgr8; compressedDepth png'",
        ),
    ),
)
def test_what_is_not_depth_is_refused(image_format, data, said):
    with pytest.raises(MessageError, match=said):
        decode_compressed_depth(image_format, data)


def test_colour_is_no_depth():
    assert not is_compressed_depth("rgb8; jpeg compressed bgr8")
    assert not is_compressed_depth("jpeg")


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


def test_the_encoder_of_these_tests_makes_the_bytes_of_the_transports_own_codec():
    assert encode_rvl(MILLIMETRES) == RVL


@pytest.mark.parametrize("name", IMAGES)
def test_every_pixel_comes_back_from_rvl(name):
    image = decode_rvl(encode_rvl(IMAGES[name]))
    assert image.dtype == np.uint16
    np.testing.assert_array_equal(image, IMAGES[name])


@pytest.mark.parametrize("name", IMAGES)
def test_rvl_that_is_cut_off_is_refused_wherever_it_is(name):
    data = encode_rvl(IMAGES[name])
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
def test_rvl_that_contradicts_itself_is_one_clear_error(data, said):
    with pytest.raises(MessageError, match=said):
        decode_rvl(data)
