# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""How large an image may be: asked of its header, before its pixels are."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib

import cv2
import numpy as np
import pytest
from format_writers import encoded

from dvmvs_core.data.encodings.compressed_depth import decode_compressed_depth
from dvmvs_core.data.encodings.image_message import decode_compressed, decode_depth, decode_image
from dvmvs_core.data.encodings.image_size import MAX_IMAGE_PIXELS, MAX_SCANS, check_pixels, encoded_size
from dvmvs_core.data.lens.camera_info import camera_model
from dvmvs_core.errors import DamagedError, DataError, MessageError


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(width: int, height: int, bits: int = 8, kind: int = 2) -> bytes:
    """A PNG that claims a size and has next to no data: 77 bytes and some."""
    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def jpeg(width: int, height: int, progressive: bool = False) -> bytes:
    """A JPEG of a few hundred bytes whose frame header claims a size."""
    pixels = np.zeros((16, 16, 3), np.uint8)
    data = bytearray(encoded(".jpg", pixels, cv2.IMWRITE_JPEG_PROGRESSIVE, int(progressive)))
    frame = next(i for i in range(len(data)) if data[i] == 0xFF and data[i + 1] in (0xC0, 0xC2))
    struct.pack_into(">HH", data, frame + 5, height, width)
    return bytes(data)


@pytest.mark.parametrize("data", (png(40000, 40000), jpeg(30000, 30000), jpeg(30000, 30000, progressive=True)))
def test_a_few_bytes_that_claim_any_size_are_refused_by_their_size(data):
    assert len(data) < 1000
    with pytest.raises(MessageError, match="0000×[34]0000"):
        decode_compressed("jpeg", data)
    header = struct.pack("<iff", 0, 100.0, 1.0)
    for image_format in ("16UC1; compressedDepth png", "32FC1; compressedDepth png"):
        with pytest.raises(MessageError, match="PNG|0000×40000"):
            decode_compressed_depth(image_format, header + data)


def test_a_bomb_takes_no_memory(tmp_path):
    """In a process that may have little: without the check, OpenCV takes gigabytes."""
    code = (
        "import sys, resource; sys.path.insert(0, sys.argv[1])\n"
        "from dvmvs_core.data.encodings.image_message import decode_compressed\n"
        "from dvmvs_core.errors import MessageError\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for name in sys.argv[2:]:\n"
        "    try:\n"
        "        decode_compressed('jpeg', open(name, 'rb').read())\n"
        "    except MessageError:\n"
        "        pass\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    files = []
    for i, data in enumerate((png(40000, 40000), jpeg(30000, 30000), png(8000, 7999, 16, 6), lying_chunk())):
        files.append(tmp_path / f"{i}")
        files[-1].write_bytes(data)
    done = subprocess.run([sys.executable, "-c", code, ".", *files], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 100_000, "kilobytes"


def lying_chunk() -> bytes:
    """A PNG with a chunk that says it has two gigabytes."""
    whole = bytearray(encoded(".png", np.zeros((16, 16, 3), np.uint8)))
    struct.pack_into(">I", whole, whole.index(b"IDAT") - 4, 2**31 - 2)
    return bytes(whole)


def test_a_chunk_beyond_the_end_is_not_made_room_for():
    with pytest.raises(MessageError, match="reaches beyond its end"):
        decode_compressed("png", lying_chunk())


def test_an_animated_png_is_no_image_of_a_camera():
    whole = encoded(".png", np.zeros((16, 16, 3), np.uint8))
    at = whole.index(b"IDAT") - 4
    with pytest.raises(MessageError, match="animated"):
        decode_compressed("png", whole[:at] + chunk(b"acTL", struct.pack(">II", 1, 0)) + whole[at:])


def test_a_progressive_jpeg_has_few_scans():
    whole = jpeg(16, 16, progressive=True)
    assert decode_compressed("jpeg", whole).shape == (16, 16, 3)
    scan = whole[whole.index(b"\xff\xda") : whole.index(b"\xff\xd9")]
    with pytest.raises(MessageError, match=f"at most {MAX_SCANS} scans"):
        decode_compressed("jpeg", whole.replace(b"\xff\xd9", scan * 100 + b"\xff\xd9"))


@pytest.mark.parametrize("suffix", (".png", ".jpg"))
@pytest.mark.parametrize("shape", ((7, 11, 3), (480, 640), (2, 3000, 3)))
def test_the_size_is_that_of_the_decoder(suffix, shape):
    data = encoded(suffix, np.zeros(shape, np.uint8))
    assert encoded_size(memoryview(data)) == shape[:2]
    for cut in range(29 if suffix == ".png" else 40):
        with pytest.raises(DamagedError):
            encoded_size(memoryview(data[:cut]))


def test_jpegs_with_other_segments_in_front_are_measured_too():
    data = encoded(".jpg", np.zeros((24, 40, 3), np.uint8))
    exif = b"\xff\xe1" + struct.pack(">H", 2 + 300) + b"\xff\xc0" * 150  # whose content looks like a frame header
    assert encoded_size(memoryview(data[:2] + exif + b"\xff\xff" + data[2:])) == (24, 40)


def test_the_limit_of_the_caller_counts():
    data = encoded(".png", np.zeros((100, 100, 3), np.uint8))
    assert decode_compressed("png", data, 10_000).shape == (100, 100, 3)
    with pytest.raises(MessageError, match="at most 9999 pixels"):
        decode_compressed("png", data, 9_999)
    with pytest.raises(MessageError, match="at most 5 pixels"):
        decode_image("mono8", 2, 3, 3, 0, bytes(6), 5)


def test_what_the_data_can_hold_is_believed_and_no_more():
    check_pixels(4000, 6000, 100)
    check_pixels(8000, 8000, 3_000_000)
    for height, width, size in ((8000, 8000, 1_000_000), (8001, 8000, 10**9), (0, 5, 10), (5, 0, 10)):
        with pytest.raises(DamagedError):
            check_pixels(height, width, size)


def test_depth_of_millions_of_pixels_is_the_same_as_in_float64():
    values = np.arange(1 << 16, dtype=np.uint16).reshape(256, 256)
    expected = (values / 1000.0).astype(np.float32)
    assert np.array_equal(decode_depth("16UC1", 256, 256, 512, 0, values.tobytes()), expected)


def test_a_camera_info_is_of_no_more_pixels_than_an_image():
    k = (5.0, 0, 3, 0, 5.0, 2, 0, 0, 1)
    with pytest.raises(MessageError, match=f"at most {MAX_IMAGE_PIXELS} pixels"):
        camera_model(2**32 - 1, 2**32 - 1, k, np.zeros(12), ())
    with pytest.raises(MessageError, match="must end with the row 0 0 1"):
        camera_model(4, 6, (5.0, 0, 3, 0, 5.0, 2, 0, 0, 0), np.zeros(12), ())


def test_a_bag_whose_image_only_claims_a_size_is_refused(recording):
    pixels = np.zeros((4, 6, 3), np.uint8)
    recording.info(10**9, width=60000, height=60000)
    recording.write(
        "/camera/image_rect", "sensor_msgs/msg/Image", 10**9, header=recording.header(10**9, "camera"), height=60000,
        width=60000, encoding="rgb8", is_bigendian=0, step=18, data=pixels.reshape(-1),
    )  # fmt: skip
    recording.transform(10**9)
    with pytest.raises(DataError, match="must hold images|at most 64000000 pixels"):
        recording.open()


def test_a_bad_image_in_a_bag_costs_that_image(recording):
    for i in range(4):
        stamp_ns = (i + 1) * 10**9
        recording.transform(stamp_ns, x=float(i))
        recording.info(stamp_ns, width=16, height=16)
        good = encoded(".png", np.full((16, 16, 3), i, np.uint8))
        recording.compressed(stamp_ns, png(40000, 40000) if i == 1 else good, "rgb8; png compressed bgr8")
    sequence = recording.open()
    assert [item.frame.index for item in sequence.items()] == [0, 2, 3]
    assert sequence.dropped == {"damaged message": 1}
