# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.


from __future__ import annotations

import array

import cv2
import numpy as np
import pytest
from format_writers import encoded

from dvmvs_core.data.encodings.bit_depth import BitDepth
from dvmvs_core.data.encodings.image_message import COLOUR_ENCODINGS, decode_compressed, decode_depth, decode_image
from dvmvs_core.errors import MessageError

RGB = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)


def padded(pixels: np.ndarray, padding: int) -> tuple[int, bytes]:
    """The step and the bytes of an image whose rows end in `padding` bytes of 255."""
    rows = np.ascontiguousarray(pixels).view(np.uint8).reshape(len(pixels), -1)
    rows = np.hstack((rows, np.full((len(rows), padding), 255, np.uint8)))
    return rows.shape[1], rows.tobytes()


@pytest.mark.parametrize(
    ("encoding", "kind", "grey", "expected"),
    (
        ("mono8", "u1", (1, 2, 250), (1, 2, 250)),
        ("mono16", "<u2", (0, 255, 257 * 77, 65535), (0, 1, 77, 255)),
        ("mono16", ">u2", (0, 255, 257 * 77, 65535), (0, 1, 77, 255)),
    ),
)
def test_grey_is_repeated_over_the_channels_by_its_upper_half_in_either_byte_order(encoding, kind, grey, expected):
    step, data = padded(np.array((grey, grey), kind), 2)
    image = decode_image(encoding, 2, len(grey), step, kind[0] == ">", data)
    assert image.tolist() == [[[value] * 3 for value in expected]] * 2


@pytest.mark.parametrize("encoding", COLOUR_ENCODINGS)
def test_the_image_shares_no_memory_with_the_message(encoding):
    data = array.array("B", bytes(8 * 4 * 8))
    image = decode_image(encoding, 4, 4, 32, 0, data)
    before = image.copy()
    data[0] = data[1] = 200
    assert np.array_equal(image, before)
    image[0, 0] = 1  # writable, so nobody has to copy it first


SMOOTH = cv2.resize(
    np.random.default_rng(0).integers(90, 166, (3, 4, 3), dtype=np.uint8), (64, 48), interpolation=cv2.INTER_CUBIC
)
"""RGB, (48, 64, 3): without edges, so that mosaics and halved chroma lose little."""

MOSAICS = {"rggb": "RGGB", "bggr": "BGGR", "gbrg": "GBRG", "grbg": "GRBG"}


def mosaic(rgb: np.ndarray, pattern: str) -> np.ndarray:
    """What a sensor sees whose top left 2×2 pixels have these filters, row by row."""
    seen = np.empty(rgb.shape[:2], rgb.dtype)
    for i, colour in enumerate(pattern):
        y, x = divmod(i, 2)
        seen[y::2, x::2] = rgb[y::2, x::2, "RGB".index(colour)]
    return seen


def chroma(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Y, U and V of BT.601 in video range, at full resolution."""
    r, g, b = np.moveaxis(rgb / 255.0, -1, 0)
    y = 16 + 65.481 * r + 128.553 * g + 24.966 * b
    u = 128 - 37.797 * r - 74.203 * g + 112.0 * b
    v = 128 + 112.0 * r - 93.786 * g - 18.214 * b
    return tuple(np.rint(plane).astype(np.uint8) for plane in (y, u, v))


def interleaved(rgb: np.ndarray, order: str) -> np.ndarray:
    """Two bytes a pixel: brightness, and U and V in turn."""
    y, u, v = chroma(rgb)
    u_and_v = np.where(np.arange(rgb.shape[1]) % 2 == 0, u, np.roll(v, 1, axis=1))
    return np.stack((u_and_v, y) if order == "uyvy" else (y, u_and_v), axis=-1)


def planes(rgb: np.ndarray, order: str) -> np.ndarray:
    """H rows of brightness, then H/2 rows of chroma pairs."""
    y, u, v = chroma(rgb)
    pair = (u, v) if order == "nv12" else (v, u)
    return np.vstack((y, np.stack([p[::2, ::2] for p in pair], axis=-1).reshape(len(y) // 2, -1)))


SIXTEEN = SMOOTH.astype(np.uint16) * 256 + 100  # whose bytes differ, so that their order matters
OPAQUE = np.full((48, 64, 1), 9, np.uint8)
RGBA, BGRA = np.dstack((SMOOTH, OPAQUE)), np.dstack((SMOOTH[..., ::-1], OPAQUE))
LAID_OUT = {
    "rgb8": (SMOOTH, 0),
    "bgr8": (SMOOTH[..., ::-1], 0),
    "8UC3": (SMOOTH[..., ::-1], 0),
    "rgba8": (RGBA, 0),
    "bgra8": (BGRA, 0),
    "rgb16": (SIXTEEN, 0),
    "bgr16": (SIXTEEN[..., ::-1], 0),
    "rgba16": (np.dstack((SIXTEEN, OPAQUE)), 0),
    "bgra16": (np.dstack((SIXTEEN[..., ::-1], OPAQUE)), 0),
    **{f"bayer_{name}8": (mosaic(SMOOTH, pattern), 4) for name, pattern in MOSAICS.items()},
    **{f"bayer_{name}16": (mosaic(SIXTEEN, pattern), 4) for name, pattern in MOSAICS.items()},
    **{name: (interleaved(SMOOTH, "uyvy"), 8) for name in ("yuv422", "uyvy")},
    **{name: (interleaved(SMOOTH, "yuyv"), 8) for name in ("yuv422_yuy2", "yuyv")},
    **{name: (planes(SMOOTH, name), 8) for name in ("nv12", "nv21")},
}
"""Encoding to the picture laid out in it, and how far a value inside may be from the picture's."""


def test_every_encoding_is_tried():
    assert set(LAID_OUT) | {"mono8", "mono16", "8UC1"} == set(COLOUR_ENCODINGS)


@pytest.mark.parametrize("padding", (0, 6))
@pytest.mark.parametrize("big", (False, True))
@pytest.mark.parametrize("encoding", LAID_OUT)
def test_every_encoding_padding_and_byte_order_give_the_same_picture(encoding, big, padding):
    pixels, tolerance = LAID_OUT[encoding]
    step, data = padded(pixels.astype(pixels.dtype.newbyteorder(">" if big else "<")), padding)
    image = decode_image(encoding, 48, 64, step, big, data)
    assert image.shape == (48, 64, 3) and image.dtype == np.uint8 and image.flags.c_contiguous
    inside = np.s_[2:-2, 2:-2] if tolerance == 4 else np.s_[:]  # mosaics repeat what they lack at the border
    difference = np.abs(image[inside].astype(int) - SMOOTH[inside])
    assert difference.max() <= tolerance


@pytest.mark.parametrize("encoding", COLOUR_ENCODINGS)
def test_the_smallest_image_is_read(encoding):
    assert decode_image(encoding, 2, 2, 16, 0, bytes(100)).shape == (2, 2, 3)


BGR = np.ascontiguousarray(SMOOTH[..., ::-1])


@pytest.mark.parametrize(
    ("image_format", "pixels", "suffix", "tolerance"),
    (
        ("png", BGR, ".png", 0),
        ("rgb8; png compressed bgr8", BGR, ".png", 0),
        ("bgr8; png compressed rgb8", SMOOTH, ".png", 0),
        ("rgba8; png compressed ", np.dstack((BGR, OPAQUE)), ".png", 0),
        ("rgb16; png compressed bgr16", BGR.astype(np.uint16) * 257, ".png", 0),
        ("bayer_grbg8; png compressed ", mosaic(SMOOTH, "GRBG"), ".png", 4),
        ("bayer_rggb16; png compressed ", mosaic(SIXTEEN, "RGGB"), ".png", 4),
        ("jpeg", BGR, ".jpg", 8),
        ("rgb8; jpeg compressed bgr8", BGR, ".jpg", 8),
    ),
)
def test_every_compressed_image_gives_the_same_picture(image_format, pixels, suffix, tolerance):
    image = decode_compressed(image_format, array.array("B", encoded(suffix, pixels)))
    assert image.shape == (48, 64, 3) and image.dtype == np.uint8 and image.flags.c_contiguous
    assert np.abs(image[2:-2, 2:-2].astype(int) - SMOOTH[2:-2, 2:-2]).max() <= tolerance


@pytest.mark.parametrize("image_format", ("mono8; jpeg compressed ", "jpeg"))
def test_a_compressed_grey_image_is_repeated_over_the_channels(image_format):
    grey = np.ascontiguousarray(SMOOTH[..., 0])
    image = decode_compressed(image_format, encoded(".png", grey))
    assert np.array_equal(image, np.repeat(grey[..., None], 3, axis=2))


@pytest.mark.parametrize(
    ("image_format", "data", "said"),
    (
        ("jpeg", b"", "got 0 bytes"),
        ("jpeg", b"no image", "got 8 bytes of format 'jpeg'"),
        ("32FC1; compressedDepth png", encoded(".png", BGR), "is depth"),
        ("32FC1; tiff compressed ", encoded(".tiff", BGR.astype(np.float32)), "is depth"),
        ("16UC1; png compressed ", encoded(".png", BGR[..., 0].astype(np.uint16)), "is depth. Name the topic"),
        ("h264", b"\0\0\0\x01" * 9, "got 36 bytes of format 'h264'"),
    ),
)
def test_compressed_bytes_that_are_no_picture_are_refused(image_format, data, said):
    with pytest.raises(MessageError, match=said):
        decode_compressed(image_format, data)


def test_a_longer_message_is_read_and_its_tail_ignored():
    assert np.array_equal(decode_image("rgb8", 2, 3, 9, 0, RGB.tobytes() + b"tail"), RGB)


@pytest.mark.parametrize(
    ("arguments", "said"),
    (
        (("yuv411", 2, 3, 9, 0, RGB.tobytes()), "yuv411"),
        (("rgb8", 2, 3, 8, 0, RGB.tobytes()), "step must be at least"),
        (("rgb8", 2, 3, 9, 0, RGB.tobytes()[:-1]), "= 18 bytes; got 17"),
        (("rgb8", 2, 3, 12, 0, RGB.tobytes()), "= 24 bytes; got 18"),
        (("rgb8", 0, 3, 9, 0, b""), "empty"),
        (("yuyv", 4, 3, 6, 0, bytes(100)), "must be even; got 3×4"),
        (("nv12", 3, 4, 8, 0, bytes(100)), "must be even; got 4×3"),
        (("bayer_rggb8", 3, 4, 8, 0, bytes(100)), "must be even; got 4×3"),
        (("nv12", 4, 4, 4, 0, bytes(16)), "height × 3/2 × step = 6 × 4 = 24 bytes; got 16"),
    ),
)
def test_a_message_that_contradicts_itself_is_refused(arguments, said):
    with pytest.raises(MessageError, match=said):
        decode_image(*arguments)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(
    ("encoding", "kind", "stored", "metres"),
    (
        ("16UC1", "u2", (0, 1234, 65535), (0.0, 1.234, 65.535)),
        ("32FC1", "f4", (0.1, np.nan, np.inf, -np.inf, -2.0), (0.1, 0.0, 0.0, 0.0, 0.0)),
    ),
)
def test_depth_becomes_metres_in_either_byte_order_and_what_is_none_zero(encoding, kind, stored, metres, order):
    step, data = padded(np.array((stored,), order + kind), 4)
    depth = decode_depth(encoding, 1, len(stored), step, order == ">", data)
    assert depth.dtype == np.float32
    np.testing.assert_array_equal(depth, np.float32((metres,)))


def test_colour_is_no_depth():
    with pytest.raises(MessageError, match="rgb8"):
        decode_depth("rgb8", 2, 3, 9, 0, RGB.tobytes())


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
