# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Compressed colour and depth in bags."""

from __future__ import annotations

import struct

import cv2
import numpy as np
import pytest

from dvmvs_core.data.bags.bag_sequence import BagTopics
from dvmvs_core.errors import DataError

MILLISECOND = 1_000_000

RGB = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
MILLIMETRES = np.arange(24, dtype=np.uint16).reshape(4, 6) * 100


def encoded(suffix, pixels) -> bytes:
    return cv2.imencode(suffix, pixels)[1].tobytes()


@pytest.fixture
def posed(recording):
    recording.info(0)
    recording.transform(0)
    recording.transform(100 * MILLISECOND)
    return recording


def test_png_keeps_every_pixel_and_its_camera_info_lies_beside_the_raw_topic(posed):
    posed.info(0, "/other/camera_info", focal=9.0)
    posed.compressed(10 * MILLISECOND, encoded(".png", RGB[..., ::-1]), "rgb8; png compressed bgr8")
    bag = posed.open()
    assert (bag.image_topic, bag.camera_info_topic) == ("/camera/image_rect/compressed", "/camera/camera_info")
    (item,) = bag.items()
    assert np.array_equal(item.frame.image, RGB)


def test_jpeg_is_what_opencv_decodes(posed):
    data = encoded(".jpg", RGB[..., ::-1])
    posed.compressed(10 * MILLISECOND, data, "jpeg")
    (item,) = posed.open().items()
    assert np.array_equal(item.frame.image, cv2.imdecode(np.frombuffer(data, np.uint8), 1)[..., ::-1])


def test_the_raw_image_is_preferred_to_its_compressed_copy(posed):
    posed.image(10 * MILLISECOND, RGB)
    posed.compressed(10 * MILLISECOND, encoded(".jpg", RGB), "jpeg")
    bag = posed.open()
    assert bag.image_topic == "/camera/image_rect"
    bag = posed.open(BagTopics(image_topic="/camera/image_rect/compressed"))
    assert bag.image_topic == "/camera/image_rect/compressed"


def test_a_cut_off_compressed_image_is_left_out_and_counted(posed):
    whole = encoded(".png", RGB)
    for stamp_ms, data in ((10, whole), (20, whole[:20]), (30, b""), (40, whole)):
        posed.compressed(stamp_ms * MILLISECOND, data, "png")
    bag = posed.open()
    assert [item.frame.index for item in bag.items()] == [0, 3]
    assert bag.dropped == {"damaged message": 2}


@pytest.mark.parametrize(
    ("image_format", "data"),
    (
        ("16UC1; compressedDepth png", struct.pack("<iff", 0, 0, 0) + encoded(".png", MILLIMETRES)),
        ("16UC1; png compressed", encoded(".png", MILLIMETRES)),
    ),
)
def test_compressed_depth_equals_raw_depth(posed, image_format, data):
    posed.image(10 * MILLISECOND, RGB)
    posed.image(10 * MILLISECOND, MILLIMETRES, "/camera/depth", "16UC1")
    posed.compressed(10 * MILLISECOND, data, image_format, "/camera/depth/compressedDepth")
    bag = posed.open()
    assert bag.depth_topic == "/camera/depth"
    (raw,) = bag.items()
    bag = posed.open(BagTopics(depth_topic="/camera/depth/compressedDepth"))
    (compressed,) = bag.items()
    assert raw.sensor_depth[3, 5] == np.float32(2.3)
    assert np.array_equal(compressed.sensor_depth, raw.sensor_depth)
    (only,) = bag.sensor_depths({0})
    assert np.array_equal(only.sensor_depth, raw.sensor_depth)


def test_quantised_compressed_depth_is_found_by_its_format(posed):
    a, b = 1000.0, 1.0
    metres = np.full((4, 6), 2.0, np.float32)
    q = np.rint(a / metres + b).astype(np.uint16)
    posed.image(10 * MILLISECOND, RGB)
    data = struct.pack("<iff", 0, a, b) + encoded(".png", q)
    posed.compressed(10 * MILLISECOND, data, "32FC1; compressedDepth png", "/camera/depth/compressedDepth")
    (item,) = posed.open().items()
    assert np.allclose(item.sensor_depth, metres)


def test_two_compressed_cameras_are_one_clear_error(posed):
    for side in ("left", "right"):
        posed.compressed(10 * MILLISECOND, encoded(".png", RGB), "png", f"/{side}/image/compressed")
    with pytest.raises(DataError, match="several colour images, /left/image/compressed, /right/image/compressed"):
        posed.open()
