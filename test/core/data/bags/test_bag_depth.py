# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Sensor depth of another camera or of a lidar, moved into the colour camera."""

from __future__ import annotations

import numpy as np
import pytest
from bag_recordings import MILLISECOND, SECOND

from dvmvs_core.data.bags.bag_sequence import BagTopics
from dvmvs_core.errors import DataError

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
