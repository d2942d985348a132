# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Our messages read by the rules of those who take them: depth_image_proc, nvblox and depthimage_to_laserscan.

The rules are restated here from those packages' sources (2024 to 2026), and what they make of a message is compared
with the geometry that the depth was made from. Messages go through DDS's serialisation first.
"""

from __future__ import annotations

import numpy as np
import pytest
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CameraInfo, Image

from dvmvs_ros.messages.conversions import (
    camera_info_message,
    make_header,
    metric_depth_message,
    points_from_message,
    raw_depth_message,
    stamp_to_ns,
)

HEIGHT, WIDTH = 48, 80
K = np.array(((61.0, 0.0, 37.2), (0.0, 58.0, 21.6), (0.0, 0.0, 1.0)))
FLOOR_Y, WALL_Z = 1.2, 4.0
ENCODINGS = {"32FC1": metric_depth_message, "16UC1": raw_depth_message}
ROUNDING_M = {"32FC1": 1e-5, "16UC1": 6e-4}


def room() -> tuple[np.ndarray, np.ndarray]:
    """Depth of a level floor and a wall straight ahead, with a hole; and which pixels are floor."""
    rows = (np.arange(HEIGHT) - K[1, 2]) / K[1, 1]
    with np.errstate(divide="ignore"):
        floor_z = np.where(rows > 0, FLOOR_Y / rows, np.inf)[:, None].repeat(WIDTH, axis=1)
    depth = np.minimum(floor_z, WALL_Z)
    depth[5:9, 10:20] = 0.0
    return depth.astype(np.float32), floor_z < WALL_Z


def sent(message):
    """The message as a subscriber gets it."""
    return deserialize_message(serialize_message(message), type(message))


def pair(depth: np.ndarray, encoding: str) -> tuple[Image, CameraInfo]:
    """A depth image and its camera_info as received."""
    header = make_header(1_234_567_890, "camera_optical_frame")
    height, width = depth.shape
    return sent(ENCODINGS[encoding](depth, header)), sent(camera_info_message(K, height, width, header))


def rows(image: Image) -> np.ndarray:
    """The pixels, in the C type that all three packages read them as."""
    kind = {"32FC1": np.float32, "16UC1": np.uint16}[image.encoding]
    assert not image.is_bigendian  # none of them swaps bytes
    return np.frombuffer(image.data, kind).reshape(image.height, image.step // np.dtype(kind).itemsize)[
        :, : image.width
    ]


def depth_image_proc_points(image: Image, info: CameraInfo) -> np.ndarray:
    """Points (H, W, 3) of point_cloud_xyz: P of camera_info; NaN or 0 is no point; 16UC1 is millimetres."""
    pixels = rows(image)
    valid = np.isfinite(pixels) if image.encoding == "32FC1" else pixels != 0
    z = np.where(valid, pixels * (1.0 if image.encoding == "32FC1" else 0.001), np.nan)
    p = np.array(info.p).reshape(3, 4)
    x = (np.arange(image.width) - p[0, 2]) * z / p[0, 0]
    y = (np.arange(image.height) - p[1, 2])[:, None] * z / p[1, 1]
    return np.stack((x, y, z), axis=-1)


def nvblox_points(image: Image, info: CameraInfo) -> np.ndarray:
    """Points (N, 3) of nvblox: K of camera_info, whose size must be the image's; what is not above 0 is skipped."""
    assert (info.width, info.height) == (image.width, image.height)
    pixels = rows(image)
    depth = pixels.astype(np.float32) * (np.float32(1e-3) if image.encoding == "16UC1" else 1)
    with np.errstate(invalid="ignore"):
        v, u = np.nonzero(depth > 0)
    z = depth[v, u]
    return np.stack(((u - info.k[2]) / info.k[0] * z, (v - info.k[5]) / info.k[4] * z, z), axis=-1)


def laserscan(image: Image, info: CameraInfo, scan_height: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Angles and ranges of depthimage_to_laserscan, range 0.45 to 10 m: the nearest point of the rows about cy."""
    pixels = rows(image)
    fx, cx, cy = info.p[0], info.p[2], info.p[6]
    unit = 0.001 if image.encoding == "16UC1" else 1.0
    angle_max, angle_min = np.arctan2(cx, fx), -np.arctan2(image.width - 1 - cx, fx)
    step = (angle_max - angle_min) / (image.width - 1)
    ranges = np.full(image.width, np.nan)
    first = int(cy - scan_height / 2)
    for row in pixels[first : first + scan_height]:
        for u, value in enumerate(row):
            valid = value != 0 if image.encoding == "16UC1" else np.isfinite(value)
            index = int((-np.arctan2(u - cx, fx) - angle_min) / step)
            distance = np.hypot((u - cx) / fx, 1.0) * value * unit if valid else float(value)
            if 0.45 <= distance <= 10.0 and not distance >= ranges[index]:
                ranges[index] = distance
    return angle_min + step * np.arange(image.width), ranges


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_depth_image_proc_finds_floor_and_wall_where_they_are(encoding):
    depth, floor = room()
    points = depth_image_proc_points(*pair(depth, encoding))
    hole = depth == 0
    assert np.isnan(points[hole]).all() and np.isfinite(points[~hole]).all()
    assert np.abs(points[floor][:, 1] - FLOOR_Y).max() < ROUNDING_M[encoding]
    assert np.abs(points[~floor & ~hole][:, 2] - WALL_Z).max() < ROUNDING_M[encoding]
    assert points[0, 0, 0] < 0 < points[0, -1, 0]  # x to the right, as in an optical frame

    # Distances along the rays, the other thing that is called depth, would bend both.
    x, y = np.meshgrid((np.arange(WIDTH) - K[0, 2]) / K[0, 0], (np.arange(HEIGHT) - K[1, 2]) / K[1, 1])
    rays = np.sqrt(x**2 + y**2 + 1.0)
    bent = depth_image_proc_points(*pair(depth * rays.astype(np.float32), encoding))
    assert np.abs(bent[floor][:, 1] - FLOOR_Y).max() > 0.05


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_nvblox_finds_the_same_points(encoding):
    depth, floor = room()
    points = nvblox_points(*pair(depth, encoding))
    assert len(points) == (depth > 0).sum()
    on_floor = np.abs(points[:, 1] - FLOOR_Y) < ROUNDING_M[encoding]
    on_wall = np.abs(points[:, 2] - WALL_Z) < ROUNDING_M[encoding]
    assert (on_floor | on_wall).all()
    assert on_floor.sum() >= (floor & (depth > 0)).sum()


def test_16UC1_has_no_value_that_nvblox_takes_for_a_distance_where_there_is_none():
    # Its view calculator skips what is <= 0, which NaN is not: 16UC1 is what to give it.
    depth, _ = room()
    depth[0, 0], depth[0, 1], depth[0, 2] = np.nan, np.inf, 70.0  # 70 m are more than 16 bits of millimetres
    image, _ = pair(depth, "16UC1")
    assert (rows(image)[0, :3] == 0).all()


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_depthimage_to_laserscan_measures_the_distance_to_a_slanted_wall(encoding):
    # A wall z = 3 + 0.5 x, seen through the middle row; a hole in it gives no range.
    slope = (np.arange(WIDTH) - K[0, 2]) / K[0, 0]
    depth = np.broadcast_to(3.0 / (1.0 - 0.5 * slope), (HEIGHT, WIDTH)).astype(np.float32).copy()
    depth[:, 30:34] = 0.0
    angles, ranges = laserscan(*pair(depth, encoding))
    measured = np.isfinite(ranges)
    assert measured.sum() > 0.8 * WIDTH
    tangent = np.tan(-angles)
    expected = 3.0 / (1.0 - 0.5 * tangent) * np.hypot(1.0, tangent)
    # A pixel falls up to one bin off.
    np.testing.assert_allclose(ranges[measured], expected[measured], rtol=0.03)
    bins = ((-np.arctan(slope) - angles[0]) / (angles[1] - angles[0])).astype(int)
    empty = set(bins[30:34]) - set(bins[:30]) - set(bins[34:])
    assert empty and np.isnan(ranges[sorted(empty)]).all()


@pytest.fixture(scope="module")
def published(start_depth_node, client) -> tuple:
    """Depth image, camera_info, cloud, and the first two by their other names, from a running node."""
    node = start_depth_node(points_min_confidence=0.0)  # a network that has learnt nothing is sure of nothing
    registered = {"depth_registered/image_rect": (Image, []), "depth_registered/camera_info": (CameraInfo, [])}
    for topic, (message_type, messages) in registered.items():
        client.node.create_subscription(message_type, topic, messages.append, 50)
    client.wait_until_connected()
    client.wait(lambda: client.node.count_publishers("/points") and client.node.count_publishers("/depth/image"))
    client.walk(4, 0.12, 100_000_000, 100_000_000)
    received = (client.depths, client.depth_infos, client.clouds, *(messages for _, messages in registered.values()))
    client.wait(lambda: all(received) and len({stamp_to_ns(messages[-1].header.stamp) for messages in received}) == 1)
    yield tuple(messages[-1] for messages in received)
    node.end_well()


def test_depth_and_camera_info_belong_together(published):
    image, info, cloud, _, _ = published
    assert image.header == info.header == cloud.header
    assert image.header.frame_id == "camera" and stamp_to_ns(image.header.stamp) > 0
    assert (image.width, image.height) == (info.width, info.height)
    assert image.encoding == "32FC1" and image.step == 4 * image.width
    assert not any(info.d) and info.binning_x in (0, 1) and not info.roi.width
    np.testing.assert_allclose(np.array(info.r).reshape(3, 3), np.eye(3))
    np.testing.assert_allclose(np.array(info.p).reshape(3, 4)[:, :3], np.array(info.k).reshape(3, 3))


def test_the_depth_has_the_names_that_image_pipeline_subscribes_to(published):
    # depth_image_proc's point_cloud_xyzrgb and register: depth_registered/image_rect (their launch files remap it).
    image, info, _, registered_image, registered_info = published
    assert registered_image == image and registered_info == info


def test_k_is_the_cameras_scaled_to_the_depths_size(published, client):
    # As the published method scales it: pixel coordinates times the ratio of the sizes.
    _, info, *_ = published
    scale = np.diag((info.width / 64, info.height / 48, 1.0))
    np.testing.assert_allclose(np.array(info.k).reshape(3, 3), scale @ client.K, rtol=1e-6)


def test_depth_image_proc_makes_the_cloud_that_the_node_publishes(published):
    image, info, cloud, _, _ = published
    points = depth_image_proc_points(image, info)
    points = points[np.isfinite(points).all(axis=-1)]
    ours, _ = points_from_message(cloud)
    assert ours.shape == points.shape and len(ours) > 100
    np.testing.assert_allclose(ours, points, rtol=1e-5, atol=1e-5)
