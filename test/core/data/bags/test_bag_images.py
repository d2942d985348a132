# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Images of bags: compressed colour and depth; raw ones of a camera with a lens, rectified with their depth."""

from __future__ import annotations

import struct

import cv2
import numpy as np
import pytest
from bag_recordings import MILLISECOND, SECOND
from format_writers import encoded

from dvmvs_core.data.bags.bag_sequence import BagTopics
from dvmvs_core.data.lens.camera_info import camera_model
from dvmvs_core.data.lens.raw_depth import raw_depth_points, rectify_depth
from dvmvs_core.data.lens.rectification import Rectifier
from dvmvs_core.errors import DataError
from dvmvs_core.preprocess import Preprocessor

STAMP = SECOND + 10 * MILLISECOND
RGB = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
MILLIMETRES = np.arange(24, dtype=np.uint16).reshape(4, 6) * 100


def test_png_keeps_every_pixel_and_its_camera_info_lies_beside_the_raw_topic(posed):
    posed.info(0, "/other/camera_info", focal=9.0)
    posed.compressed(STAMP, encoded(".png", RGB[..., ::-1]), "rgb8; png compressed bgr8")
    bag = posed.open()
    assert (bag.image_topic, bag.camera_info_topic) == ("/camera/image_rect/compressed", "/camera/camera_info")
    (item,) = bag.items()
    assert np.array_equal(item.frame.image, RGB)


def test_jpeg_is_what_opencv_decodes(posed):
    data = encoded(".jpg", RGB[..., ::-1])
    posed.compressed(STAMP, data, "jpeg")
    (item,) = posed.open().items()
    assert np.array_equal(item.frame.image, cv2.imdecode(np.frombuffer(data, np.uint8), 1)[..., ::-1])


def test_the_raw_image_is_preferred_to_its_compressed_copy(posed):
    posed.image(STAMP, RGB)
    posed.compressed(STAMP, encoded(".jpg", RGB), "jpeg")
    bag = posed.open()
    assert bag.image_topic == "/camera/image_rect"
    bag = posed.open(BagTopics(image_topic="/camera/image_rect/compressed"))
    assert bag.image_topic == "/camera/image_rect/compressed"


def test_a_cut_off_compressed_image_is_left_out_and_counted(posed):
    whole = encoded(".png", RGB)
    for i, data in enumerate((whole, whole[:20], b"", whole)):
        posed.compressed(STAMP + i, data, "png")
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
    posed.image(STAMP, RGB)
    posed.image(STAMP, MILLIMETRES, "/camera/depth", "16UC1")
    posed.compressed(STAMP, data, image_format, "/camera/depth/compressedDepth")
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
    posed.image(STAMP, RGB)
    data = struct.pack("<iff", 0, a, b) + encoded(".png", q)
    posed.compressed(STAMP, data, "32FC1; compressedDepth png", "/camera/depth/compressedDepth")
    (item,) = posed.open().items()
    assert np.allclose(item.sensor_depth, metres)


def test_two_compressed_cameras_are_one_clear_error(posed):
    for side in ("left", "right"):
        posed.compressed(STAMP, encoded(".png", RGB), "png", f"/{side}/image/compressed")
    with pytest.raises(DataError, match="several colour images, /left/image/compressed, /right/image/compressed"):
        posed.open()


SIZE = (36, 48)
RAW_K = np.array((40.0, 0.0, 24.0, 0.0, 41.0, 18.0, 0.0, 0.0, 1.0))
P = np.array((36.0, 0.0, 23.0, 0.0, 0.0, 36.0, 17.5, 0.0, 0.0, 0.0, 1.0, 0.0))
LENS = (-0.3, 0.1, 0.001, 0.0, 0.0)
CAMERA = camera_model(*SIZE, RAW_K, P, LENS)

NOISE = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
IMAGE = cv2.resize(NOISE, SIZE[::-1], interpolation=cv2.INTER_CUBIC)
RAW_MILLIMETRES = np.random.default_rng(1).integers(500, 4000, SIZE, dtype=np.uint16)
METRES = (RAW_MILLIMETRES / 1000.0).astype(np.float32)


@pytest.fixture
def record(posed):
    """A function that records an image of the camera with depth; returns the bag's only frame."""

    def make(image_topic="/camera/image_raw", depth_topic="/camera/depth", rectify="auto", depth_info=None, size=None):
        info = {"width": 48, "height": 36, "k": RAW_K, "p": P}
        posed.info(1, d=LENS, **info)
        posed.image(STAMP, IMAGE, image_topic)
        posed.image(STAMP, RAW_MILLIMETRES, depth_topic, "16UC1")
        if depth_info is not None:
            posed.info(0, "/depth/camera_info", **{**info, **depth_info})
        bag = posed.open(BagTopics(rectify=rectify))
        (item,) = (bag if size is None else bag.fitted(size, crop=False)).items()
        (depth,) = bag.sensor_depths({0})
        assert size is not None or np.array_equal(item.sensor_depth, depth.sensor_depth)
        return item, depth

    return make


def test_a_raw_image_comes_rectified_with_its_depth(record):
    item, depth = record()
    expected = Rectifier(CAMERA, SIZE)
    np.testing.assert_array_equal(item.frame.image, expected.image(IMAGE))
    np.testing.assert_allclose(item.frame.K, CAMERA.K)
    np.testing.assert_array_equal(item.sensor_depth, rectify_depth(METRES, CAMERA))
    np.testing.assert_array_equal(depth.K, CAMERA.K)


@pytest.mark.parametrize("size", ((24, 32), (64, 64)))
def test_fitted_to_a_network_it_is_rectified_by_one_look_up_as_in_the_node(record, size):
    item, depth = record(size=size)
    expected = Rectifier(CAMERA, size)
    np.testing.assert_array_equal(item.frame.image, expected.image(IMAGE))
    np.testing.assert_array_equal(item.frame.K, expected.K)
    truth = Preprocessor(CAMERA.K, SIZE, size)
    np.testing.assert_allclose(truth.K, item.frame.K)
    np.testing.assert_array_equal(item.sensor_depth, truth.depth(depth.sensor_depth))


@pytest.mark.parametrize(
    ("image_topic", "rectify"),
    (("/camera/image_rect", "auto"), ("/camera/rect/image", "auto"), ("/camera/raw", "never")),
)
def test_a_rectified_image_is_left_alone(record, image_topic, rectify):
    item, _ = record(image_topic, rectify=rectify, size=(24, 32))
    np.testing.assert_array_equal(item.frame.image, IMAGE)
    np.testing.assert_array_equal(item.frame.K, CAMERA.K)
    np.testing.assert_array_equal(item.sensor_depth, METRES)


def test_always_rectifies_in_spite_of_the_name(record):
    item, _ = record("/camera/image_rect", rectify="always")
    np.testing.assert_array_equal(item.frame.image, Rectifier(CAMERA, SIZE).image(IMAGE))


@pytest.mark.parametrize(
    ("arguments", "rectified"),
    (
        ({"depth_topic": "/camera/depth_rect"}, False),
        ({"image_topic": "/camera/image_rect", "depth_topic": "/depth/image", "depth_info": {"d": LENS}}, True),
        ({"depth_topic": "/depth/image", "depth_info": {"d": ()}}, False),
    ),
    ids=("rectified by its name", "raw by intrinsics of its own", "without a lens next to a raw image"),
)
def test_depth_is_rectified_where_it_is_raw(record, arguments, rectified):
    item, _ = record(**arguments)
    np.testing.assert_array_equal(item.sensor_depth, rectify_depth(METRES, CAMERA) if rectified else METRES)


def test_depth_of_another_lens_is_moved_ray_by_ray(record):
    own = {"d": (-0.2, 0.05, 0.0, 0.0, 0.0), "p": P * 0.8}
    own["p"][10] = 1.0
    item, _ = record("/camera/image_rect", "/depth/image", depth_info=own)
    camera = camera_model(*SIZE, RAW_K, own["p"], own["d"])
    points = raw_depth_points(METRES, camera)
    x, y, z = CAMERA.K @ points.T
    at = np.rint(np.stack((x / z, y / z))).astype(int)
    inside = (at >= 0).all(0) & (at[0] < 48) & (at[1] < 36)
    expected = np.full(SIZE, np.inf)
    for column, row, depth in zip(*at[:, inside], z[inside], strict=True):
        expected[row, column] = min(expected[row, column], depth)
    np.testing.assert_allclose(item.sensor_depth, np.where(np.isinf(expected), 0, expected), rtol=1e-6)
