# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""ROS messages to core types and back: layout only, no node and no maths beyond it.

Messages are filled through `array.array.frombytes`, the only way that stays below a millisecond per megabyte on every
distribution: assigning a numpy array or bytes makes some of them check each byte in Python.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Transform, TransformStamped
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2, PointField, Range
from std_msgs.msg import Header

from dvmvs_core.data.encodings.bit_depth import BitDepth
from dvmvs_core.data.encodings.image_message import decode_compressed, decode_depth, decode_image, is_only_depth
from dvmvs_core.data.encodings.image_size import MAX_IMAGE_PIXELS
from dvmvs_core.data.lens.camera_info import CameraModel, read_camera_info
from dvmvs_core.data.point_clouds import POINT_FIELDS, cloud_points_of
from dvmvs_core.data.poses.quaternion import normalised, pose_matrix, quaternion_of
from dvmvs_core.errors import MessageError
from dvmvs_core.foreign import foreign
from dvmvs_core.types import DepthPrediction

try:
    import cv_bridge
except Exception:  # a cv_bridge built for another numpy or OpenCV raises more than ImportError
    cv_bridge = None

NANOSECONDS = 1_000_000_000

MAX_MILLIMETRES = 65535
"""The largest depth that 16UC1 holds; what is beyond is published as invalid."""


@dataclass(frozen=True)
class CloudFilter:
    """Which points a cloud holds.

    Attributes:
        min_confidence: least confidence, 0…1; 0 keeps also what has none.
        min_depth_m: least depth along the optical axis.
        max_depth_m: greatest depth along the optical axis.
        stride: keep the points of every n-th row and column.
    """

    min_confidence: float = 0.0
    min_depth_m: float = 0.0
    max_depth_m: float = np.inf
    stride: int = 1

    def keeps(self, prediction: DepthPrediction) -> np.ndarray:
        """Return (h, w) bool: the pixels whose points stay."""
        depth = prediction.depth
        keep = np.isfinite(depth) & (depth > 0) & (depth >= self.min_depth_m) & (depth <= self.max_depth_m)
        if self.stride > 1:
            keep[np.arange(depth.shape[0]) % self.stride != 0] = False
            keep[:, np.arange(depth.shape[1]) % self.stride != 0] = False
        if prediction.confidence is not None:
            keep &= prediction.confidence >= self.min_confidence
        elif self.min_confidence > 0:
            keep[:] = False
        return keep

    def without_confidence(self) -> CloudFilter:
        """Return the filter that asks for no confidence."""
        return replace(self, min_confidence=0.0)


EVERY_POINT = CloudFilter()


def stamp_to_ns(stamp: Time) -> int:
    """Return a message's time as nanoseconds."""
    return stamp.sec * NANOSECONDS + stamp.nanosec


def ns_to_stamp(stamp_ns: int) -> Time:
    """Return nanoseconds as a message's time, the nearest that one can hold."""
    sec, nanosec = divmod(int(stamp_ns), NANOSECONDS)
    return Time(sec=min(max(sec, -(2**31)), 2**31 - 1), nanosec=nanosec)


def type_name(message_type: type) -> str:
    """Return the name of a message's class as the ROS graph and bags write it, as in "sensor_msgs/msg/Image"."""
    return f"{message_type.__module__.split('.')[0]}/msg/{message_type.__name__}"


def make_header(stamp_ns: int, frame_id: str) -> Header:
    """Return a header."""
    return Header(stamp=ns_to_stamp(stamp_ns), frame_id=frame_id)


def image_from_message(
    message: Image | CompressedImage, max_pixels: int = MAX_IMAGE_PIXELS, bits: BitDepth | None = None
) -> np.ndarray:
    """Return the pixels as (H, W, 3) uint8 RGB, sharing no memory with the message.

    Where a ROS distribution is there, its cv_bridge decodes the encodings that the core does not know.

    Args:
        message: the image; compressed, a JPEG or PNG.
        max_pixels: largest image that is decoded.
        bits: what is known of the camera's bits; None to go by this image alone.

    Raises:
        MessageError: unknown encoding, fewer bytes than height × step, or no JPEG or PNG.
    """
    if isinstance(message, CompressedImage):
        return decode_compressed(message.format, message.data, max_pixels, bits)
    try:
        return decode_image(*_layout(message), max_pixels, bits)
    except MessageError:
        if cv_bridge is None or is_only_depth(message.encoding) or message.height * message.width > max_pixels:
            raise
        try:
            return np.array(cv_bridge.CvBridge().imgmsg_to_cv2(message, "rgb8"))
        except Exception:
            pass  # the core's message says which encodings there are; cv_bridge's does not
        raise


def depth_from_message(message: Image) -> np.ndarray:
    """Return depth as (H, W) float32 metres, 0 where invalid, from 32FC1 metres or 16UC1 millimetres.

    Raises:
        MessageError: unknown encoding, or fewer bytes than height × step.
    """
    return decode_depth(*_layout(message))


def camera_from_message(message: CameraInfo) -> CameraModel:
    """Return intrinsics and lens.

    Raises:
        MessageError: if the camera is not calibrated, or its size is zero.
    """
    with foreign("camera_info cannot be read", MessageError):
        return read_camera_info(message)


def matrix_from_transform(transform: Transform) -> np.ndarray:
    """Return a transform as a 4×4 float64 matrix."""
    q, t = transform.rotation, transform.translation
    return pose_matrix((t.x, t.y, t.z), normalised((q.x, q.y, q.z, q.w)))


def transform_message(stamp_ns: int, parent: str, child: str, parent_T_child: np.ndarray) -> TransformStamped:
    """Return a 4×4 rigid transform as a stamped transform."""
    message = TransformStamped(header=make_header(stamp_ns, parent), child_frame_id=child)
    rotation, translation = message.transform.rotation, message.transform.translation
    rotation.x, rotation.y, rotation.z, rotation.w = quaternion_of(parent_T_child[:3, :3])
    translation.x, translation.y, translation.z = parent_T_child[:3, 3].tolist()
    return message


def rgb_message(image: np.ndarray, header: Header) -> Image:
    """Return (H, W, 3) uint8 RGB as rgb8."""
    return _image_message(image, header, "rgb8")


def mask_message(mask: np.ndarray, header: Header) -> Image:
    """Return a mask (H, W) uint8 as mono8."""
    return _image_message(mask, header, "mono8")


def metric_depth_message(depth: np.ndarray, header: Header) -> Image:
    """Return (h, w) float32 metres as 32FC1 with NaN where it is invalid (REP 118).

    -Inf and +Inf are kept: too near and too far for the range published (REP 117).
    """
    valid = (depth > 0) | np.isneginf(depth)
    return _image_message(np.where(valid, depth, np.nan).astype(np.float32), header, "32FC1")


def raw_depth_message(depth: np.ndarray, header: Header) -> Image:
    """Return (H, W) float32 metres as 16UC1 millimetres with 0 where it is invalid (REP 118)."""
    return _image_message(millimetres(depth), header, "16UC1")


def millimetres(depth: np.ndarray) -> np.ndarray:
    """Return metres as uint16 millimetres; 0 where they are no depth, or more than 16 bits hold."""
    values = np.rint(depth * 1000.0)
    values[~((values > 0) & (values <= MAX_MILLIMETRES))] = 0  # NaN is neither
    return values.astype(np.uint16)


def confidence_message(confidence: np.ndarray, header: Header) -> Image:
    """Return (h, w) float32 confidence, 0…1, as 32FC1."""
    return _image_message(confidence.astype(np.float32), header, "32FC1")


def camera_info_message(K: np.ndarray, height: int, width: int, header: Header) -> CameraInfo:
    """Return the CameraInfo of a rectified image: no distortion, and k and p alike."""
    return CameraInfo(
        header=header,
        height=height,
        width=width,
        distortion_model="plumb_bob",
        d=[0.0] * 5,
        k=K.reshape(-1).tolist(),
        r=np.eye(3).reshape(-1).tolist(),
        p=np.hstack((K, np.zeros((3, 1)))).reshape(-1).tolist(),
    )


def range_message(min_depth_m: float, max_depth_m: float, field_of_view: float, header: Header) -> Range:
    """Return the range of a camera's depth as sensor_msgs/Range.

    Args:
        min_depth_m: nearest depth.
        max_depth_m: farthest depth.
        field_of_view: across the image's width, radians.
        header: stamp and optical frame.
    """
    return Range(
        header=header,
        radiation_type=Range.INFRARED,  # light, as opposed to ultrasound
        field_of_view=field_of_view,
        min_range=min_depth_m,
        max_range=max_depth_m,
        range=np.nan,  # the depth image has the distances
    )


def cloud_message(
    prediction: DepthPrediction, header: Header, points_kept: CloudFilter = EVERY_POINT, organized: bool = False
) -> PointCloud2:
    """Return depths as an xyz + rgb + confidence cloud in the camera's optical frame.

    Colour is packed 0x00RRGGBB into a float32 field `rgb`, as RViz and PCL read it. A prediction without confidence
    makes a cloud without the field `confidence`.

    Args:
        prediction: depth, image and intrinsics.
        header: stamp and optical frame.
        points_kept: which points the cloud holds.
        organized: one point for each pixel (of every `stride`-th row and column), in rows and columns as in the image;
            x, y and z are NaN where the filter keeps none. Otherwise one row of the points kept, without NaN.
    """
    keep = points_kept.keeps(prediction)
    if organized:
        grid = np.zeros_like(keep)
        grid[:: points_kept.stride, :: points_kept.stride] = True
        points = cloud_points_of(prediction, grid)
        points[~keep[grid], :3] = np.nan
        height = len(keep[:: points_kept.stride])
    else:
        points, height = cloud_points_of(prediction, keep), 1
    width = len(points) // height
    fields = POINT_FIELDS[: points.shape[1]]
    point_bytes = 4 * len(fields)
    message = PointCloud2(
        header=header,
        height=height,
        width=width,
        fields=[
            PointField(name=name, offset=4 * i, datatype=PointField.FLOAT32, count=1) for i, name in enumerate(fields)
        ],
        is_bigendian=False,
        point_step=point_bytes,
        row_step=point_bytes * width,
        is_dense=not organized,
    )
    fill_data(message, points)
    return message


def points_from_message(message: PointCloud2) -> tuple[np.ndarray, np.ndarray]:
    """Return (N, 3) float32 metres and (N, 3) uint8 RGB of a cloud that `cloud_message` made."""
    points = np.frombuffer(message.data, np.float32).reshape(-1, message.point_step // 4)
    packed = points[:, 3].copy().view(np.uint32)
    colour = np.stack((packed >> 16, packed >> 8, packed), axis=-1).astype(np.uint8)
    return points[:, :3], colour


def confidence_from_message(message: PointCloud2) -> np.ndarray | None:
    """Return the confidence (N,) of the points of such a cloud; None if it has none."""
    if message.fields[-1].name != POINT_FIELDS[-1]:
        return None
    return np.frombuffer(message.data, np.float32).reshape(-1, message.point_step // 4)[:, -1]


def _layout(message: Image) -> tuple:
    m = message
    return m.encoding, m.height, m.width, m.step, m.is_bigendian, m.data


def _image_message(pixels: np.ndarray, header: Header, encoding: str) -> Image:
    height, width = pixels.shape[:2]
    message = Image(
        header=header,
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=False,
        step=pixels[0].nbytes,
    )
    fill_data(message, pixels)
    return message


def fill_data(message: Image | CompressedImage | PointCloud2, *parts: np.ndarray | bytes) -> None:
    """Fill a message's `data` with arrays or bytes, one behind the other."""
    data = message.data
    del data[:]
    for part in parts:
        if isinstance(part, bytes):
            data.frombytes(part)
        elif part.size:  # memoryview.cast refuses an empty array
            data.frombytes(memoryview(np.ascontiguousarray(part)).cast("B"))
