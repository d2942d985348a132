"""A sequence as a rosbag2: image, camera_info, sensor depth, /tf and /tf_static, for `ros2 bag play` and every viewer.

Poses become the chain odom → base_link (moving) → camera_optical_frame (static), as on a robot.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import StoragePlugin, Writer

from dvmvs_core.data.bag_files import typestore
from dvmvs_core.data.quaternion import pose_matrix, quaternion_of
from dvmvs_core.data.sequence import Sequence, SequenceItem
from dvmvs_core.errors import DataError
from dvmvs_core.geometry import inverse_pose, is_finite_pose

logger = logging.getLogger(__name__)

STORAGES = {"mcap": StoragePlugin.MCAP, "sqlite3": StoragePlugin.SQLITE3}

WORLD_FRAME, BASE_FRAME, CAMERA_FRAME = "odom", "base_link", "camera_optical_frame"

OPTICAL_ROTATION = (-0.5, 0.5, -0.5, 0.5)
"""Rotation base_T_cam (x, y, z, w) from optical axes (z forward, x right) to a body's (x forward, z up), by REP 103."""

BAG_VERSION = 8
"""Layout of metadata.yaml; the newest that Humble reads as well as Kilted."""

MAX_MILLIMETRES = 65535
"""The largest depth that 16UC1 holds; what lies beyond is written as invalid."""

TOPICS = {
    "image": ("/camera/image_rect", "sensor_msgs/msg/Image"),
    "camera_info": ("/camera/camera_info", "sensor_msgs/msg/CameraInfo"),
    "depth": ("/camera/depth", "sensor_msgs/msg/Image"),
    "tf": ("/tf", "tf2_msgs/msg/TFMessage"),
    "tf_static": ("/tf_static", "tf2_msgs/msg/TFMessage"),
}


def write_bag(
    sequence: Sequence, out: Path, storage: str = "mcap", advance: Callable[[int], None] | None = None
) -> None:
    """Write a sequence as a rosbag2 folder; nothing is left at `out` unless all of it could be written.

    A frame whose pose is not finite gets no transform, since tf2 refuses one; readers then interpolate across it.

    Args:
        sequence: what to write.
        out: the bag's folder, which must not exist yet.
        storage: "mcap" or "sqlite3".
        advance: called with 1 after each frame.

    Raises:
        DataError: if `out` exists, or the sequence is broken.
    """
    if out.exists():
        raise DataError(f"{out} exists already; remove it or choose another name")
    out.parent.mkdir(parents=True, exist_ok=True)
    # The storage file is named after its folder, so the unfinished bag has its last name in another folder.
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as unfinished:
        folder = Path(unfinished) / out.name
        with Writer(folder, version=BAG_VERSION, storage_plugin=STORAGES[storage]) as writer:
            recorder = _Recorder(writer, sequence.has_depth)
            for item in sequence.items():
                recorder.add(item)
                if advance:
                    advance(1)
        folder.rename(out)
    if recorder.lost:
        logger.warning("%d frames have no finite pose and got no transform", recorder.lost)


class _Recorder:
    """Turns frames into messages."""

    def __init__(self, writer: Writer, has_depth: bool) -> None:
        self.lost = 0
        self._writer = writer
        self._store = typestore()
        self._connections = {
            key: writer.add_connection(
                topic,
                message_type,
                typestore=self._store,
                offered_qos_profiles=[offered_qos(static=key == "tf_static")],
            )
            for key, (topic, message_type) in TOPICS.items()
            if has_depth or key != "depth"
        }
        self._static_sent = False

    def add(self, item: SequenceItem) -> None:
        """Write one frame: its transform first, so that whoever plays the bag has the pose when the image comes."""
        frame = item.frame
        if not self._static_sent:
            camera = self._transform(frame.stamp_ns, BASE_FRAME, CAMERA_FRAME, np.zeros(3), OPTICAL_ROTATION)
            self._write("tf_static", frame.stamp_ns, transforms=[camera])
            self._static_sent = True
        if is_finite_pose(frame.world_T_cam):
            cam_T_base = inverse_pose(pose_matrix((0.0, 0.0, 0.0), OPTICAL_ROTATION))
            odom_T_base = frame.world_T_cam @ cam_T_base
            rotation = quaternion_of(odom_T_base[:3, :3])
            base = self._transform(frame.stamp_ns, WORLD_FRAME, BASE_FRAME, odom_T_base[:3, 3], rotation)
            self._write("tf", frame.stamp_ns, transforms=[base])
        else:
            self.lost += 1
        self._write_camera_info(frame.stamp_ns, frame.K, frame.image.shape[:2])
        self._write_image("image", frame.stamp_ns, frame.image, "rgb8")
        if item.sensor_depth is not None:
            millimetres = np.rint(item.sensor_depth * 1000.0)
            millimetres[millimetres > MAX_MILLIMETRES] = 0
            self._write_image("depth", frame.stamp_ns, millimetres.astype("<u2"), "16UC1")

    def _write_camera_info(self, stamp_ns: int, K: np.ndarray, size: tuple[int, int]) -> None:
        self._write(
            "camera_info",
            stamp_ns,
            header=self._header(stamp_ns, CAMERA_FRAME),
            height=size[0],
            width=size[1],
            distortion_model="plumb_bob",
            d=np.zeros(5),
            k=K.reshape(-1),
            r=np.eye(3).reshape(-1),
            p=np.hstack((K, np.zeros((3, 1)))).reshape(-1),
            binning_x=0,
            binning_y=0,
            roi=self._new(
                "sensor_msgs/msg/RegionOfInterest", x_offset=0, y_offset=0, height=0, width=0, do_rectify=False
            ),
        )

    def _write_image(self, key: str, stamp_ns: int, pixels: np.ndarray, encoding: str) -> None:
        self._write(
            key,
            stamp_ns,
            header=self._header(stamp_ns, CAMERA_FRAME),
            height=pixels.shape[0],
            width=pixels.shape[1],
            encoding=encoding,
            is_bigendian=0,
            step=pixels[0].nbytes,
            data=np.ascontiguousarray(pixels).reshape(-1).view(np.uint8),
        )

    def _transform(self, stamp_ns: int, parent: str, child: str, translation, rotation) -> object:
        x, y, z = map(float, translation)
        qx, qy, qz, qw = rotation
        return self._new(
            "geometry_msgs/msg/TransformStamped",
            header=self._header(stamp_ns, parent),
            child_frame_id=child,
            transform=self._new(
                "geometry_msgs/msg/Transform",
                translation=self._new("geometry_msgs/msg/Vector3", x=x, y=y, z=z),
                rotation=self._new("geometry_msgs/msg/Quaternion", x=qx, y=qy, z=qz, w=qw),
            ),
        )

    def _header(self, stamp_ns: int, frame_id: str) -> object:
        seconds, nanoseconds = divmod(stamp_ns, 10**9)
        stamp = self._new("builtin_interfaces/msg/Time", sec=seconds, nanosec=nanoseconds)
        return self._new("std_msgs/msg/Header", stamp=stamp, frame_id=frame_id)

    def _new(self, message_type: str, **fields) -> object:
        return self._store.types[message_type](**fields)

    def _write(self, key: str, stamp_ns: int, **fields) -> None:
        message_type = TOPICS[key][1]
        data = self._store.serialize_cdr(self._new(message_type, **fields), message_type)
        self._writer.write(self._connections[key], stamp_ns, data)


def offered_qos(static: bool) -> Qos:
    """Reliable, so that a player loses no image; latched for static transforms, as their publishers are."""
    forever = QosTime(9223372036, 854775807)
    return Qos(
        history=QosHistory.KEEP_LAST,
        depth=1 if static else 10,
        reliability=QosReliability.RELIABLE,
        durability=QosDurability.TRANSIENT_LOCAL if static else QosDurability.VOLATILE,
        deadline=forever,
        lifespan=forever,
        liveliness=QosLiveliness.AUTOMATIC,
        liveliness_lease_duration=forever,
        avoid_ros_namespace_conventions=False,
    )
