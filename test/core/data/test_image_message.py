from __future__ import annotations

import array

import numpy as np
import pytest

from dvmvs_core.data.image_message import COLOUR_ENCODINGS, decode_depth, decode_image
from dvmvs_core.errors import MessageError

RGB = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
ALPHA = np.full((2, 3, 1), 77, np.uint8)
PIXELS = {
    "rgb8": RGB,
    "bgr8": RGB[..., ::-1],
    "rgba8": np.concatenate((RGB, ALPHA), axis=2),
    "bgra8": np.concatenate((RGB[..., ::-1], ALPHA), axis=2),
}


def padded(pixels: np.ndarray, padding: int) -> tuple[int, bytes]:
    """The step and the bytes of an image whose rows end in `padding` bytes of 255."""
    rows = np.ascontiguousarray(pixels).view(np.uint8).reshape(len(pixels), -1)
    rows = np.hstack((rows, np.full((len(rows), padding), 255, np.uint8)))
    return rows.shape[1], rows.tobytes()


@pytest.mark.parametrize("padding", (0, 5))
@pytest.mark.parametrize("encoding", PIXELS)
def test_every_colour_encoding_gives_rgb_and_step_is_obeyed(encoding, padding):
    step, data = padded(PIXELS[encoding], padding)
    image = decode_image(encoding, 2, 3, step, 0, data)
    assert np.array_equal(image, RGB)
    assert image.flags.c_contiguous


def test_mono_is_repeated_over_the_channels():
    grey = np.array(((1, 2, 3), (250, 251, 252)), np.uint8)
    step, data = padded(grey, 2)
    assert np.array_equal(decode_image("mono8", 2, 3, step, 0, data), np.repeat(grey[..., None], 3, axis=2))


@pytest.mark.parametrize("encoding", COLOUR_ENCODINGS)
def test_the_image_shares_no_memory_with_the_message(encoding):
    channels = COLOUR_ENCODINGS[encoding][0]
    data = array.array("B", bytes(4 * 4 * channels))
    image = decode_image(encoding, 4, 4, 4 * channels, 0, data)
    data[0] = 200
    assert not image.any()
    image[0, 0] = 1  # writable, so nobody has to copy it first


def test_a_longer_message_is_read_and_its_tail_ignored():
    assert np.array_equal(decode_image("rgb8", 2, 3, 9, 0, RGB.tobytes() + b"tail"), RGB)


@pytest.mark.parametrize(
    ("arguments", "said"),
    (
        (("yuv422", 2, 3, 9, 0, RGB.tobytes()), "yuv422"),
        (("rgb8", 2, 3, 8, 0, RGB.tobytes()), "step must be at least"),
        (("rgb8", 2, 3, 9, 0, RGB.tobytes()[:-1]), "= 18 bytes; got 17"),
        (("rgb8", 2, 3, 12, 0, RGB.tobytes()), "= 24 bytes; got 18"),
        (("rgb8", 0, 3, 9, 0, b""), "empty"),
    ),
)
def test_a_message_that_contradicts_itself_is_refused(arguments, said):
    with pytest.raises(MessageError, match=said):
        decode_image(*arguments)


@pytest.mark.parametrize("big", (False, True))
def test_millimetres_become_metres_in_either_byte_order(big):
    millimetres = np.array(((0, 1234, 65535),), dtype=">u2" if big else "<u2")
    step, data = padded(millimetres, 4)
    depth = decode_depth("16UC1", 1, 3, step, big, data)
    assert depth.dtype == np.float32
    assert depth == pytest.approx(np.array(((0.0, 1.234, 65.535),)))


@pytest.mark.parametrize("big", (False, True))
def test_metres_keep_their_bits_and_what_is_no_depth_becomes_zero(big):
    metres = np.array(((0.1, np.nan, np.inf, -np.inf, -2.0),), dtype=">f4" if big else "<f4")
    step, data = padded(metres, 4)
    depth = decode_depth("32FC1", 1, 5, step, big, data)
    assert depth.tolist() == [[float(np.float32(0.1)), 0.0, 0.0, 0.0, 0.0]]


def test_colour_is_no_depth():
    with pytest.raises(MessageError, match="rgb8"):
        decode_depth("rgb8", 2, 3, 9, 0, RGB.tobytes())
