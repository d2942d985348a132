# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Messages to core types and back."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from sensor_msgs.msg import CameraInfo, Image, PointField

from dvmvs_core.data.poses.quaternion import pose_matrix
from dvmvs_core.errors import MessageError
from dvmvs_core.types import DepthPrediction
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


@pytest.mark.parametrize(
    ("encoding", "pixels", "expected"),
    [("bgr8", RGB[..., ::-1], RGB), ("mono8", RGB[..., :1], RGB[..., :1].repeat(3, axis=-1))],
)
def test_the_fields_of_a_message_say_how_it_is_laid_out(encoding, pixels, expected):
    image = image_from_message(image_message(pixels, encoding, padding=64))
    assert image.dtype == np.uint8 and image.flags["C_CONTIGUOUS"]
    np.testing.assert_array_equal(image, expected)


def test_an_image_shares_no_memory_with_its_message():
    message = image_message(RGB, "rgb8")
    image = image_from_message(message)
    message.data[0] = (message.data[0] + 1) % 256
    np.testing.assert_array_equal(image, RGB)


def test_an_unknown_encoding_is_named():
    with pytest.raises(MessageError, match="yuv411.*|.*got 'yuv411'"):
        image_from_message(image_message(RGB, "yuv411"))


def test_short_data_is_refused_with_both_sizes():
    message = image_message(RGB, "rgb8")
    del message.data[-1:]
    with pytest.raises(MessageError, match="5 × 21 = 105 bytes; got 104"):
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


def test_rgb_goes_out_and_comes_back():
    np.testing.assert_array_equal(image_from_message(rgb_message(RGB, HEADER)), RGB)


def test_the_cloud_holds_the_valid_points_in_the_cameras_frame_with_their_colours():
    depth = np.full((5, 7), 2.0, np.float32)
    depth[0, 0], depth[1, 1], depth[2, 2] = 0.0, np.nan, np.inf
    prediction = DepthPrediction(depth, K, RGB, np.eye(4), 1, 0, (), (), 0.0)
    message = cloud_message(prediction, HEADER)
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
    confidence = (np.arange(35, dtype=np.float32) / 50).reshape(5, 7)
    return DepthPrediction(depth, K, RGB, np.eye(4), 1, 0, (), (), 0.0, confidence)


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
    prediction = DepthPrediction(np.ones((5, 7), np.float32), K, RGB, np.eye(4), 1, 0, (), (), 0.0)
    assert cloud_message(prediction, HEADER, CloudFilter(min_confidence)).width == count


def test_confidence_is_32fc1():
    confidence = confident_prediction().confidence
    message = confidence_message(confidence, HEADER)
    assert (message.encoding, message.step, message.height) == ("32FC1", 28, 5)
    np.testing.assert_array_equal(np.frombuffer(message.data, "<f4").reshape(5, 7), confidence)


def test_a_cloud_without_points_is_an_empty_message():
    prediction = DepthPrediction(np.zeros((5, 7), np.float32), K, RGB, np.eye(4), 1, 0, (), (), 0.0)
    message = cloud_message(prediction, HEADER)
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


def test_the_rgb_field_is_what_struct_unpacks():
    prediction = DepthPrediction(np.ones((5, 7), np.float32), K, RGB, np.eye(4), 1, 0, (), (), 0.0)
    message = cloud_message(prediction, HEADER)
    (packed,) = struct.unpack("<I", bytes(message.data[12:16]))
    assert (packed >> 16, packed >> 8 & 255, packed & 255) == tuple(RGB[0, 0].tolist())
