# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Messages to core types and back; depth at the size of the image has edges where that has them."""

from __future__ import annotations

import struct

import cv2
import numpy as np
import pytest
from sensor_msgs.msg import CameraInfo, Image, PointField

from dvmvs_core.data.encodings.compressed_depth import decode_compressed_depth
from dvmvs_core.data.poses.quaternion import pose_matrix
from dvmvs_core.errors import MessageError
from dvmvs_core.types import DepthPrediction
from dvmvs_ros.messages.compressed_depth import compressed_depth_message
from dvmvs_ros.messages.conversions import (
    CloudFilter,
    camera_from_message,
    camera_info_message,
    cloud_message,
    confidence_message,
    depth_from_message,
    image_from_message,
    make_header,
    matrix_from_transform,
    metric_depth_message,
    ns_to_stamp,
    points_from_message,
    raw_depth_message,
    rgb_message,
    stamp_to_ns,
    transform_message,
)
from dvmvs_ros.messages.upsampling import upsample_depth

HEADER = make_header(1_700_000_000_123_456_789, "camera_optical_frame")
RGB = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
K = np.array(((50.0, 0.0, 3.0), (0.0, 60.0, 2.0), (0.0, 0.0, 1.0)))


def image_message(pixels: np.ndarray, encoding: str, padding: int = 0) -> Image:
    """Lay an image out by hand, each row followed by `padding` bytes of rubbish."""
    rows = np.ascontiguousarray(pixels).reshape(len(pixels), -1).view(np.uint8)
    padded = np.hstack((rows, np.full((len(rows), padding), 0xAB, np.uint8)))
    height, width = pixels.shape[:2]
    message = Image(header=HEADER, height=height, width=width, encoding=encoding, step=padded.shape[1])
    message.data.frombytes(padded.tobytes())
    return message


def prediction_of(depth: np.ndarray, confidence: np.ndarray | None = None) -> DepthPrediction:
    return DepthPrediction(depth, K, RGB, np.eye(4), 1, 0, (), (), 0.0, confidence)


@pytest.mark.parametrize(
    ("encoding", "pixels", "expected"),
    [("bgr8", RGB[..., ::-1], RGB), ("mono8", RGB[..., :1], RGB[..., :1].repeat(3, axis=-1))],
)
def test_the_fields_of_a_message_say_how_it_is_laid_out(encoding, pixels, expected):
    image = image_from_message(image_message(pixels, encoding, padding=64))
    assert image.dtype == np.uint8 and image.flags["C_CONTIGUOUS"]
    np.testing.assert_array_equal(image, expected)


def test_an_image_shares_no_memory_with_its_message():
    message = rgb_message(RGB, HEADER)
    image = image_from_message(message)
    message.data[0] = (message.data[0] + 1) % 256
    np.testing.assert_array_equal(image, RGB)


@pytest.mark.parametrize(
    ("encoding", "kept", "reason"),
    [("yuv411", 105, "encoding must be one of .*; got 'yuv411'"), ("rgb8", 104, "5 × 21 = 105 bytes; got 104")],
    ids=["unknown encoding", "short data"],
)
def test_an_image_that_cannot_be_read_is_refused_with_its_reason(encoding, kept, reason):
    message = image_message(RGB, encoding)
    del message.data[kept:]
    with pytest.raises(MessageError, match=reason):
        image_from_message(message)


def test_the_intrinsics_of_the_rectified_image_are_in_p():
    message = camera_info_message(K, 5, 7, HEADER)
    message.k[0] = 99.0
    np.testing.assert_array_equal(camera_from_message(message).K, K)
    message.p = np.zeros(12)
    assert camera_from_message(message).K[0, 0] == 99.0


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"height": 0}, "size"),
        ({"k": np.zeros(9), "p": np.zeros(12)}, "focal"),
        ({"p": np.full(12, np.nan)}, "finite"),
    ],
)
def test_a_camera_info_without_calibration_is_refused(change, reason):
    message = camera_info_message(K, 5, 7, HEADER)
    for name, value in change.items():
        setattr(message, name, value)
    with pytest.raises(MessageError, match=reason):
        camera_from_message(message)


def test_our_camera_info_states_the_size_and_no_distortion():
    message: CameraInfo = camera_info_message(K, 5, 7, HEADER)
    assert (message.height, message.width, message.distortion_model) == (5, 7, "plumb_bob")
    assert not any(message.d) and message.header == HEADER
    np.testing.assert_array_equal(np.reshape(message.p, (3, 4)), np.hstack((K, np.zeros((3, 1)))))


def test_convention_metric_depth_is_32fc1_with_nan_where_invalid():
    depth = np.array(((1.5, 0.0), (np.nan, -1.0), (np.inf, -np.inf)), np.float32)
    message = metric_depth_message(depth, HEADER)
    assert (message.encoding, message.step, message.is_bigendian) == ("32FC1", 8, 0)
    values = np.frombuffer(message.data, "<f4").reshape(3, 2)
    assert values[0, 0] == np.float32(1.5)
    assert np.isnan(values).tolist() == [[False, True], [True, True], [False, False]], "not 0: REP 118"
    assert values[2].tolist() == [np.inf, -np.inf], "too far and too near: REP 117"
    np.testing.assert_array_equal(depth_from_message(message), [[1.5, 0.0], [0.0, 0.0], [0.0, 0.0]])


def test_convention_raw_depth_is_16uc1_millimetres_with_0_where_invalid():
    message = raw_depth_message(np.array([[1.234, 0.0, 70.0, np.nan, np.inf, -1.0, 65.535]], np.float32), HEADER)
    assert message.encoding == "16UC1"
    assert np.frombuffer(message.data, "<u2").tolist() == [1234, 0, 0, 0, 0, 0, 65535]


def test_every_millimetre_survives_the_way_through_metres():
    millimetres = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    metres = (millimetres / 1000.0).astype(np.float32)
    message = raw_depth_message(metres, HEADER)
    np.testing.assert_array_equal(np.frombuffer(message.data, "<u2").reshape(256, 256), millimetres)


def test_the_cloud_holds_the_valid_points_in_the_cameras_frame_with_their_colours():
    depth = np.full((5, 7), 2.0, np.float32)
    depth[0, 0], depth[1, 1], depth[2, 2] = 0.0, np.nan, np.inf
    message = cloud_message(prediction_of(depth), HEADER)
    assert [(f.name, f.offset, f.datatype) for f in message.fields] == [
        (name, 4 * i, PointField.FLOAT32) for i, name in enumerate(("x", "y", "z", "rgb"))
    ]
    assert (message.height, message.width, message.is_dense) == (1, 32, True)
    assert (message.point_step, message.row_step, len(message.data)) == (16, 512, 512)
    points, colours = points_from_message(message)
    assert np.isfinite(points).all()
    # The last pixel, by hand: x = (6 − 3) / 50 · 2, y = (4 − 2) / 60 · 2.
    np.testing.assert_allclose(points[-1], (0.12, 4 / 60, 2.0), rtol=1e-6)
    np.testing.assert_array_equal(colours[-1], RGB[-1, -1])
    # Packed 0x00RRGGBB, so little-endian bytes are b, g, r, 0.
    assert tuple(message.data[-4:]) == (*RGB[-1, -1][::-1].tolist(), 0)


def confident_prediction() -> DepthPrediction:
    """Depth 1, 2, … 35 m and confidence 0.0, 0.02, … pixel by pixel."""
    depth = np.arange(1, 36, dtype=np.float32).reshape(5, 7)
    return prediction_of(depth, (np.arange(35, dtype=np.float32) / 50).reshape(5, 7))


def test_the_cloud_has_a_field_of_confidence():
    message = cloud_message(confident_prediction(), HEADER)
    assert [(f.name, f.offset) for f in message.fields[4:]] == [("confidence", 16)]
    assert (message.point_step, message.row_step, len(message.data)) == (20, 700, 700)
    values = np.frombuffer(message.data, np.float32).reshape(-1, 5)
    np.testing.assert_allclose(values[:, 4], np.arange(35) / 50, rtol=1e-6)
    points, colours = points_from_message(message)
    np.testing.assert_allclose(points[:, 2], np.arange(1, 36))
    np.testing.assert_array_equal(colours, RGB.reshape(-1, 3))


@pytest.mark.parametrize(
    ("points_kept", "depths"),
    [
        (CloudFilter(), range(1, 36)),
        (CloudFilter(min_confidence=0.5), range(26, 36)),
        (CloudFilter(min_depth_m=3.0, max_depth_m=5.0), range(3, 6)),
        (CloudFilter(min_confidence=0.5, max_depth_m=28.0), range(26, 29)),
        (CloudFilter(min_confidence=1.0), ()),
    ],
)
def test_the_cloud_is_filtered_by_confidence_and_range(points_kept, depths):
    points, _ = points_from_message(cloud_message(confident_prediction(), HEADER, points_kept))
    assert points[:, 2].tolist() == list(depths)


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_an_organized_cloud_has_the_rows_and_columns_of_the_image(stride):
    points_kept = CloudFilter(min_confidence=0.5, stride=stride)
    message = cloud_message(confident_prediction(), HEADER, points_kept, organized=True)
    rows, columns = -(-5 // stride), -(-7 // stride)
    assert (message.height, message.width, message.is_dense) == (rows, columns, False)
    assert (message.point_step, message.row_step, len(message.data)) == (20, 20 * columns, 20 * columns * rows)
    points, colours = points_from_message(message)
    depth = np.arange(1.0, 36.0).reshape(5, 7)[::stride, ::stride]
    np.testing.assert_array_equal(points[:, 2].reshape(depth.shape), np.where(depth >= 26, depth, np.nan))
    np.testing.assert_array_equal(np.isnan(points).any(axis=1), np.isnan(points).all(axis=1))
    np.testing.assert_array_equal(colours.reshape(rows, columns, 3), RGB[::stride, ::stride])
    # The same points, without the rest, are the cloud that is not organized.
    valid = points[np.isfinite(points[:, 2])]
    np.testing.assert_array_equal(
        valid, points_from_message(cloud_message(confident_prediction(), HEADER, points_kept))[0]
    )


@pytest.mark.parametrize(("min_confidence", "count"), [(0.0, 35), (0.01, 0)])
def test_what_has_no_confidence_is_below_any(min_confidence, count):
    prediction = prediction_of(np.ones((5, 7), np.float32))
    assert cloud_message(prediction, HEADER, CloudFilter(min_confidence)).width == count


def test_confidence_is_32fc1():
    confidence = confident_prediction().confidence
    message = confidence_message(confidence, HEADER)
    assert (message.encoding, message.step, message.height) == ("32FC1", 28, 5)
    np.testing.assert_array_equal(np.frombuffer(message.data, "<f4").reshape(5, 7), confidence)


def test_a_cloud_without_points_is_an_empty_message():
    message = cloud_message(prediction_of(np.zeros((5, 7), np.float32)), HEADER)
    assert message.width == 0 and len(message.data) == 0


def test_stamps_keep_every_nanosecond():
    for stamp_ns in (1, 999_999_999, 1_700_000_000_123_456_789):
        assert stamp_to_ns(ns_to_stamp(stamp_ns)) == stamp_ns


def test_a_transform_goes_out_and_comes_back():
    rng = np.random.default_rng(1)
    for _ in range(50):
        quaternion = rng.normal(size=4)
        parent_T_child = pose_matrix(rng.normal(size=3), quaternion / np.linalg.norm(quaternion))
        message = transform_message(5, "odom", "base_link", parent_T_child)
        assert (message.header.frame_id, message.child_frame_id) == ("odom", "base_link")
        np.testing.assert_allclose(matrix_from_transform(message.transform), parent_T_child, atol=1e-14)


INVALID = (0.0, np.nan, np.inf, -np.inf, -1.0)


def depths() -> np.ndarray:
    depth = np.linspace(0.25, 20.0, 24 * 32, dtype=np.float32).reshape(24, 32)
    depth[0, : len(INVALID)] = INVALID
    return depth


@pytest.mark.parametrize("encoding", ["32FC1", "16UC1"])
def test_compressed_depth_comes_back(encoding):
    depth = depths()
    message = compressed_depth_message(depth, encoding, 20.0, HEADER)
    assert message.format == f"{encoding}; compressedDepth png" and message.header == HEADER
    back = decode_compressed_depth(message.format, message.data)
    valid = np.isfinite(depth) & (depth > 0)
    assert (back[~valid] == 0.0).all()
    # Half a step: of a millimetre, or of inverse depth.
    step = depth[valid] ** 2 / 10100.0 if encoding == "32FC1" else 0.001
    assert (np.abs(back - depth)[valid] <= 0.51 * step).all()


def test_convention_the_bytes_of_compressed_depth_are_those_of_the_transport():
    message = compressed_depth_message(np.full((4, 4), 2.0, np.float32), "32FC1", 20.0, HEADER)
    kind, a, b = struct.unpack_from("<iff", bytes(message.data))
    # depth_quantization 100: a = 100 · 101, b = 1 − a / depth_max; a receiver takes a / (q − b).
    assert (kind, a, b) == (0, 10100.0, pytest.approx(1.0 - 10100.0 / 20.0))
    values = cv2.imdecode(np.frombuffer(message.data, np.uint8)[12:], cv2.IMREAD_UNCHANGED)
    assert values.dtype == np.uint16 and (values == round(10100.0 / 2.0 + b)).all()


def test_what_is_beyond_the_range_of_compressed_depth_is_invalid():
    message = compressed_depth_message(np.array([[25.0, 0.1, 5.0]], np.float32), "32FC1", 20.0, HEADER)
    back = decode_compressed_depth(message.format, message.data)
    assert back[0, 0] == 0.0 and back[0, 1] == 0.0, "q would be 0, and beyond 16 bits"
    assert back[0, 2] == pytest.approx(5.0, abs=0.003)


NEAR, FAR = 1.0, 3.0


def scene(edge: int) -> tuple[np.ndarray, np.ndarray]:
    """A near bright wall left of a far dark one: depth (480, 640) and image."""
    rng = np.random.default_rng(0)
    depth = np.full((480, 640), FAR, np.float32)
    depth[:, :edge] = NEAR
    grey = np.where(depth == NEAR, 170.0, 60.0) + rng.normal(0.0, 4.0, depth.shape)
    return depth, np.repeat(grey.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)


def soft(depth: np.ndarray) -> np.ndarray:
    """Depth as the network gives it: small, and soft at edges."""
    small = cv2.resize(1.0 / depth, (320, 256), interpolation=cv2.INTER_AREA)
    return 1.0 / cv2.GaussianBlur(small, (0, 0), 1.5)


def test_an_edge_is_sharper_than_by_enlarging_alone():
    truth, image = scene(edge=301)
    small = soft(truth)
    near_edge = np.zeros(truth.shape, bool)
    near_edge[:, 301 - 6 : 301 + 6] = True

    def error(depth: np.ndarray) -> float:
        return float(np.abs(depth - truth)[near_edge].mean())

    guided = upsample_depth(small, image)
    assert guided.shape == truth.shape and guided.dtype == np.float32
    assert error(guided) < 0.7 * error(cv2.resize(small, (640, 480)))


def test_texture_on_a_plane_leaves_no_print():
    rng = np.random.default_rng(1)
    texture = cv2.resize(rng.integers(0, 256, (60, 80, 3), dtype=np.uint8), (640, 480), interpolation=cv2.INTER_CUBIC)
    rows, columns = np.mgrid[0:256, 0:320].astype(np.float32)
    plane = 1.0 / (0.3 + columns / 1000.0 + rows / 2000.0)
    guided = upsample_depth(plane, texture)
    exact = 1.0 / cv2.resize(1.0 / plane, (640, 480))
    assert np.abs(guided / exact - 1.0).max() < 0.02


@pytest.mark.parametrize("size", [(480, 640), (256, 320), (120, 160)])
def test_every_depth_lies_between_those_around_it(size):
    rng = np.random.default_rng(2)
    small = rng.uniform(0.5, 10.0, (256, 320)).astype(np.float32)
    image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    guided = upsample_depth(small, image)
    assert guided.shape == size
    assert small.min() * 0.999 <= guided.min() and guided.max() <= small.max() * 1.001
