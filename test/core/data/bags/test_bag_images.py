# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Images of bags: compressed, raw ones of a camera with a lens, and depth of another camera or of a lidar."""

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


CLOUD = "sensor_msgs/msg/PointCloud2"


@pytest.fixture
def rig(recording):
    """A colour camera that moves 1 m a second to the right, with an image at 100 ms; f = 5, centre (3, 2)."""
    return recording.info(0).image(100 * MILLISECOND).transform(0).transform(SECOND, x=1.0)


def depth_of(bag, index=0):
    (item,) = (item for item in bag.items() if item.frame.index == index)
    (again,) = bag.sensor_depths({index})
    assert np.array_equal(item.sensor_depth, again.sensor_depth)
    return item.sensor_depth


def test_depth_of_another_camera_is_moved_by_its_transform_and_intrinsics(rig):
    rig.transform(0, x=0.4, parent="camera", child="depth_camera", static=True)
    rig.info(0, "/depth/camera_info", width=8, height=6, focal=10.0, frame_id="depth_camera")
    millimetres = np.zeros((6, 8), np.uint16)
    millimetres[2, 3] = 2000  # at (0, 0, 2) m of its camera, (0.4, 0, 2) of the colour camera: pixel (4, 2)
    millimetres[4, 3] = 2000  # at (0, 0.4, 2): pixel (4, 3)
    rig.image(100 * MILLISECOND, millimetres, "/depth/image", "16UC1", "depth_camera")
    depth = depth_of(rig.open())
    expected = np.zeros((4, 6), np.float32)
    expected[2, 4] = expected[3, 4] = 2.0
    assert np.array_equal(depth, expected)


def test_the_nearest_surface_hides_the_others(rig):
    rig.transform(0, parent="camera", child="depth_camera", static=True)
    rig.info(0, "/depth/camera_info", width=600, height=400, focal=500.0, frame_id="depth_camera")
    metres = np.full((400, 600), 3.0, np.float32)
    metres[::2] = 1.5
    rig.image(100 * MILLISECOND, metres, "/depth/image", "32FC1", "depth_camera")
    depth = depth_of(rig.open())
    assert np.array_equal(depth[2:, 3:], np.full((2, 3), 1.5, np.float32))


def test_depth_of_the_same_camera_at_half_its_size_is_moved_by_its_intrinsics(rig):
    k = np.array((2.5, 0, 1, 0, 2.5, 0.5, 0, 0, 1))
    rig.info(0, "/depth/camera_info", width=3, height=2, k=k)
    rig.image(100 * MILLISECOND, np.full((2, 3), 1000, np.uint16), "/depth/image", "16UC1")
    depth = depth_of(rig.open())
    # Pixel (u, v) falls on (2u + 1, 2v + 1).
    expected = np.zeros((4, 6), np.float32)
    expected[1::2, 1::2] = 1.0
    assert np.array_equal(depth, expected)


@pytest.mark.parametrize(
    ("record", "said"),
    (
        (lambda b: None, r"/depth/image must have the size .* 'depth_camera'.* own intrinsics on /depth/camera_info"),
        (
            lambda b: b.info(0, "/depth/camera_info", width=6, height=4, frame_id="depth_camera"),
            "/depth/image cannot be moved to the colour camera: the frame 'depth_camera' is not known",
        ),
        (
            lambda b: b.info(0, "/depth/camera_info", width=12, height=4, frame_id="depth_camera").transform(
                0, parent="camera", child="depth_camera", static=True
            ),
            "/depth/camera_info must be of the size of /depth/image, 6×4; got 12×4",
        ),
    ),
)
def test_depth_that_cannot_be_moved_is_one_clear_error_and_never_a_wrong_depth(rig, record, said):
    rig.image(100 * MILLISECOND, np.ones((4, 6), np.uint16), "/depth/image", "16UC1", "depth_camera")
    record(rig)
    bag = rig.open()
    with pytest.raises(DataError, match=said):
        list(bag.items())
    assert len(list(bag.items(depth=False))) == 1


def cloud(recording, stamp_ns, points, fields="xyz", datatype=7, cut=0):
    """Write points (N, 3) with an intensity after each."""
    points = np.column_stack((points, np.zeros(len(points)))).astype("<f4" if datatype == 7 else "<f8")
    size = points.itemsize
    recording.write(
        "/lidar/points", CLOUD, stamp_ns, header=recording.header(stamp_ns, "lidar"), height=1, width=len(points),
        fields=[
            recording.new("sensor_msgs/msg/PointField", name=name, offset=i * size, datatype=datatype, count=1)
            for i, name in enumerate(fields)
        ],
        is_bigendian=False, point_step=4 * size, row_step=4 * size * len(points), is_dense=False,
        data=points.reshape(-1).view(np.uint8)[: points.nbytes - cut],
    )  # fmt: skip


@pytest.mark.parametrize("datatype", (7, 8))
def test_points_of_a_lidar_are_projected_with_the_motion_since_their_scan(rig, datatype):
    rig.transform(0, parent="camera", child="lidar", static=True)
    # The scan is 40 ms after the image: the camera is 0.04 m farther right, where it sees the point more to the left.
    points = np.array(((0.36, 0.0, 2.0), (0.36, 0.0, 5.0), (0.0, 0.0, -1.0), (np.nan, 0.0, 1.0), (9.0, 0.0, 1.0)))
    cloud(rig, 140 * MILLISECOND, points, datatype=datatype)
    assert not rig.open().has_depth  # points may be a map, or what this program made itself
    bag = rig.open(BagTopics(depth_topic="/lidar/points"))
    depth = depth_of(bag)
    expected = np.zeros((4, 6))
    expected[2, 4] = 2.0  # x = 5 · 0.4 / 2 + 3
    expected[2, 3] = 5.0  # x = 5 · 0.4 / 5 + 3 = 3.4
    assert np.allclose(depth, expected)


def test_a_scan_more_than_50_ms_away_is_none_of_this_image(rig):
    rig.transform(0, parent="camera", child="lidar", static=True)
    cloud(rig, 160 * MILLISECOND, np.array(((0.0, 0.0, 2.0),)))
    bag = rig.open(BagTopics(depth_topic="/lidar/points"))
    assert [item.sensor_depth for item in bag.items()] == [None]


@pytest.mark.parametrize(
    ("options", "said"),
    (({"fields": "abc"}, "must have floating-point fields x, y, z"), ({"cut": 3}, "must hold 1 rows")),
)
def test_a_cloud_that_cannot_be_read_is_left_out_and_said(rig, caplog, options, said):
    rig.transform(0, parent="camera", child="lidar", static=True)
    cloud(rig, 100 * MILLISECOND, np.ones((4, 3)), **options)
    bag = rig.open(BagTopics(depth_topic="/lidar/points"))
    assert [item.sensor_depth for item in bag.items()] == [None]
    assert said in caplog.text


def test_a_depth_topic_that_is_not_there_is_said_with_those_that_are(rig):
    cloud(rig, 100 * MILLISECOND, np.ones((4, 3)))
    with pytest.raises(DataError, match="no depth on '/x'; it has images on /camera/image_rect and points on /lidar"):
        rig.open(BagTopics(depth_topic="/x"))
