# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Depth as points, points as depth: through a pinhole camera, and out of PointCloud2 messages and into them."""

from __future__ import annotations

import numpy as np

from dvmvs_core.errors import MessageError
from dvmvs_core.foreign import foreign, shortened
from dvmvs_core.geometry import backproject
from dvmvs_core.types import DepthPrediction

POINT_TYPES = {7: "f4", 8: "f8"}
"""Datatypes of sensor_msgs/msg/PointField that coordinates may have, as numpy types less their byte order."""

NEAREST_M = 1e-3


def project_points(points: np.ndarray, K: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the depth (H, W) float32 metres of points, 0 where none lands.

    Each lands in the pixel nearest to its projection; where several land, the nearest surface hides the others.
    Nothing is filled in.

    Args:
        points: (N, 3) in camera coordinates, metres.
        K: (3, 3) intrinsics.
        size: (H, W) of the image.
    """
    points = points[points[:, 2] >= NEAREST_M]
    x, y, z = K @ points.T
    return nearest_surface(x / z, y / z, z, size).astype(np.float32)


def nearest_surface(x: np.ndarray, y: np.ndarray, z: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the least depth (H, W) float64 that lands in each pixel, 0 where none does.

    Args:
        x: (N,) pixels.
        y: (N,) pixels.
        z: (N,) depth of each.
        size: (H, W) of the image.
    """
    height, width = size
    column, row = np.rint(x), np.rint(y)
    inside = np.flatnonzero((column >= 0) & (column < width) & (row >= 0) & (row < height))
    nearest = np.full(height * width, np.inf)
    np.minimum.at(nearest, (row[inside] * width + column[inside]).astype(np.intp), z[inside])
    nearest[np.isinf(nearest)] = 0.0
    return nearest.reshape(height, width)


def depth_points(depth: np.ndarray, K: np.ndarray) -> np.ndarray:
    """Return the valid pixels of depth (H, W) as points (N, 3) in camera coordinates, metres."""
    row, column = np.nonzero(depth)
    rays = np.linalg.inv(K) @ np.stack((column, row, np.ones_like(row)))
    return (rays * depth[row, column]).T


def cloud_points(message) -> np.ndarray:
    """Return the finite points (N, 3) float64 of a PointCloud2, read by rclpy or by rosbags.

    Raises:
        MessageError: if x, y or z is missing or no floating-point number, or data is shorter than its rows.
    """
    fields = {field.name: field for field in message.fields}
    if not {"x", "y", "z"} <= set(fields) or any(fields[axis].datatype not in POINT_TYPES for axis in "xyz"):
        raise MessageError(
            f"a point cloud must have floating-point fields x, y, z; got {shortened(', '.join(fields)) or 'none'}"
        )
    sizes = {axis: np.dtype(POINT_TYPES[fields[axis].datatype]).itemsize for axis in "xyz"}
    # numpy believes offsets of gigabytes, and reads there.
    if any(fields[axis].offset + size > message.point_step for axis, size in sizes.items()):
        raise MessageError(
            f"the fields x, y, z of a point cloud must lie within its {message.point_step} bytes a point"
        )
    with foreign("a point cloud is damaged", MessageError):
        return _finite_points(message, fields)


def _finite_points(message, fields: dict) -> np.ndarray:
    order = ">" if message.is_bigendian else "<"
    point = np.dtype(
        {
            "names": ["x", "y", "z"],
            "formats": [order + POINT_TYPES[fields[axis].datatype] for axis in "xyz"],
            "offsets": [fields[axis].offset for axis in "xyz"],
            "itemsize": message.point_step,
        }
    )
    data = np.frombuffer(message.data, np.uint8)
    row_bytes = message.width * message.point_step
    if message.row_step < row_bytes or data.size < message.height * message.row_step:
        raise MessageError(
            f"a point cloud of {message.width}×{message.height} points must hold"
            f" {message.height} rows of {row_bytes} bytes; got {data.size} bytes in rows of {message.row_step}"
        )
    rows = data[: message.height * message.row_step].reshape(message.height, message.row_step)[:, :row_bytes]
    values = np.ascontiguousarray(rows).reshape(-1).view(point)
    points = np.stack([values[axis].astype(np.float64) for axis in "xyz"], axis=-1)
    return points[np.isfinite(points).all(axis=1)]


POINT_FIELDS = ("x", "y", "z", "rgb", "confidence")
"""The float32 values of a point, in order; without `confidence` where there is none."""


def cloud_points_of(prediction: DepthPrediction, keep: np.ndarray) -> np.ndarray:
    """Return the points (N, 4 or 5) float32 of a prediction, with as many of `POINT_FIELDS`, in the camera's frame.

    Colour is packed 0x00RRGGBB into the bits of a float32, as RViz and PCL read it.

    Args:
        prediction: depth, image and intrinsics.
        keep: (h, w) bool: the pixels that become points; one whose depth is 0 becomes the camera's centre.
    """
    confidence = prediction.confidence
    points = np.empty((int(keep.sum()), len(POINT_FIELDS) - (confidence is None)), np.float32)
    points[:, :3] = backproject(np.where(keep, prediction.depth, 0.0), prediction.K)[keep]
    red, green, blue = prediction.image[keep].astype(np.uint32).T
    points[:, 3] = (red << 16 | green << 8 | blue).view(np.float32)
    if confidence is not None:
        points[:, 4] = confidence[keep]
    return points
