# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Messages of the standard types, made without ROS, for bags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from dvmvs_core.data.bags.bag_files import typestore
from dvmvs_core.data.point_clouds import POINT_FIELDS
from dvmvs_core.data.poses.quaternion import Quaternion

IMAGE, CAMERA_INFO = "sensor_msgs/msg/Image", "sensor_msgs/msg/CameraInfo"
POINT_CLOUD, TRANSFORMS = "sensor_msgs/msg/PointCloud2", "tf2_msgs/msg/TFMessage"
DIAGNOSTICS = "diagnostic_msgs/msg/DiagnosticArray"

FLOAT32 = 7
"""The type of a PointField."""


def new(message_type: str, **fields) -> object:
    """Return a message of a type, as in "sensor_msgs/msg/Image"; every field must be given."""
    return typestore().types[message_type](**fields)


def header(stamp_ns: int, frame_id: str) -> object:
    """Return a header."""
    seconds, nanoseconds = divmod(stamp_ns, 10**9)
    stamp = new("builtin_interfaces/msg/Time", sec=seconds, nanosec=nanoseconds)
    return new("std_msgs/msg/Header", stamp=stamp, frame_id=frame_id)


def image(stamp_ns: int, frame_id: str, pixels: np.ndarray, encoding: str) -> object:
    """Return an Image of pixels (H, W) or (H, W, C), little-endian."""
    return new(
        IMAGE,
        header=header(stamp_ns, frame_id),
        height=pixels.shape[0],
        width=pixels.shape[1],
        encoding=encoding,
        is_bigendian=0,
        step=pixels[0].nbytes,
        data=np.ascontiguousarray(pixels).reshape(-1).view(np.uint8),
    )


def camera_info(stamp_ns: int, frame_id: str, K: np.ndarray, size: tuple[int, int]) -> object:
    """Return the CameraInfo of a rectified image of a size (H, W)."""
    return new(
        CAMERA_INFO,
        header=header(stamp_ns, frame_id),
        height=size[0],
        width=size[1],
        distortion_model="plumb_bob",
        d=np.zeros(5),
        k=K.reshape(-1),
        r=np.eye(3).reshape(-1),
        p=np.hstack((K, np.zeros((3, 1)))).reshape(-1),
        binning_x=0,
        binning_y=0,
        roi=new("sensor_msgs/msg/RegionOfInterest", x_offset=0, y_offset=0, height=0, width=0, do_rectify=False),
    )


def transform(stamp_ns: int, parent: str, child: str, translation: Sequence[float], rotation: Quaternion) -> object:
    """Return a TFMessage of one transform parent_T_child."""
    x, y, z = map(float, translation)
    qx, qy, qz, qw = rotation
    stamped = new(
        "geometry_msgs/msg/TransformStamped",
        header=header(stamp_ns, parent),
        child_frame_id=child,
        transform=new(
            "geometry_msgs/msg/Transform",
            translation=new("geometry_msgs/msg/Vector3", x=x, y=y, z=z),
            rotation=new("geometry_msgs/msg/Quaternion", x=qx, y=qy, z=qz, w=qw),
        ),
    )
    return new(TRANSFORMS, transforms=[stamped])


def cloud(stamp_ns: int, frame_id: str, points: np.ndarray) -> object:
    """Return a PointCloud2 of points as `cloud_points_of` makes them."""
    names = POINT_FIELDS[: points.shape[1]]
    fields = [
        new("sensor_msgs/msg/PointField", name=name, offset=4 * i, datatype=FLOAT32, count=1)
        for i, name in enumerate(names)
    ]
    return new(
        POINT_CLOUD,
        header=header(stamp_ns, frame_id),
        height=1,
        width=len(points),
        fields=fields,
        is_bigendian=False,
        point_step=4 * len(names),
        row_step=4 * len(names) * len(points),
        data=np.ascontiguousarray(points, "<f4").reshape(-1).view(np.uint8),
        is_dense=True,
    )


def diagnostics(stamp_ns: int, frame_id: str, statuses: Mapping[str, tuple[str, Mapping[str, str]]]) -> object:
    """Return a DiagnosticArray: name of a status → its words and its values."""
    made = [
        new(
            "diagnostic_msgs/msg/DiagnosticStatus",
            level=0,
            name=name,
            message=words,
            hardware_id="",
            values=[new("diagnostic_msgs/msg/KeyValue", key=key, value=value) for key, value in values.items()],
        )
        for name, (words, values) in statuses.items()
    ]
    return new(DIAGNOSTICS, header=header(stamp_ns, frame_id), status=made)
