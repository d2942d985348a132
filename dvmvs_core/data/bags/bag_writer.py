# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""A sequence as a rosbag2, for `ros2 bag play` and every viewer: image, camera_info, mask, sensor depth and transforms.

Poses become the chain odom → base_link (moving) → camera_optical_frame (static), as on a robot.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import StoragePlugin, Writer

from dvmvs_core.atomic import unfinished_folder
from dvmvs_core.data.bags import bag_messages
from dvmvs_core.data.bags.bag_files import DEPTH_NAME, typestore
from dvmvs_core.data.bags.bag_messages import CAMERA_INFO, IMAGE, TRANSFORMS
from dvmvs_core.data.lens.valid_mask import MaskChanges, is_mask_topic, mask_topic
from dvmvs_core.data.poses.quaternion import pose_matrix, quaternion_of
from dvmvs_core.data.sequence import FrameSequence, SequenceItem
from dvmvs_core.errors import DataError
from dvmvs_core.foreign import reason
from dvmvs_core.geometry import inverse_pose, is_finite_pose

logger = logging.getLogger(__name__)

STORAGES = {"mcap": StoragePlugin.MCAP, "sqlite3": StoragePlugin.SQLITE3}

WORLD_FRAME, BASE_FRAME, CAMERA_FRAME = "odom", "base_link", "camera_optical_frame"

OPTICAL_ROTATION = (-0.5, 0.5, -0.5, 0.5)
"""Rotation base_T_cam (x, y, z, w) from optical axes (z forward, x right) to a body's (x forward, z up), by REP 103."""

BAG_VERSION = 8
"""Layout of metadata.yaml; the newest that Humble reads as well as Kilted."""

COLOUR, COLOUR_INFO, SENSOR_DEPTH = "/camera/image_rect", "/camera/camera_info", "/camera/depth"
MASK = mask_topic(COLOUR)
TF, TF_STATIC = "/tf", "/tf_static"


def write_bag(
    sequence: FrameSequence, out: Path, storage: str = "mcap", advance: Callable[[int], None] | None = None
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
    with new_bag(out, storage) as bag:
        bag.describe(sequence)
        recorder = SequenceRecorder(bag, sequence.has_depth)
        for item in sequence.items():
            recorder.add(item)
            if advance:
                advance(1)
    recorder.say_what_was_lost()


@contextmanager
def new_bag(out: Path, storage: str) -> Iterator[OpenBag]:
    """Open a new bag for writing; it comes to lie at `out` if the block ends well, and otherwise nothing does.

    Args:
        out: the bag's folder, which must not exist yet.
        storage: "mcap" or "sqlite3".

    Raises:
        DataError: if `out` exists.
    """
    check_new(out)
    # The storage file is named after its folder, so the unfinished bag has its last name in another folder.
    with unfinished_folder(out) as unfinished:
        folder = unfinished / out.name
        with writing(out):
            writer = Writer(folder, version=BAG_VERSION, storage_plugin=STORAGES[storage])
            writer.open()
        try:
            yield OpenBag(writer)
        finally:
            with writing(out):
                writer.close()
        check_new(out)  # another writer may have been faster
        folder.rename(out)


@contextmanager
def writing(out: Path) -> Iterator[None]:
    """Turn what storage plugins raise on a full disk into one error.

    Raises:
        OSError: as it came.
        DataError: in place of anything else.
    """
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise DataError(f"{out} cannot be written: {reason(error)}. Is there space left?") from error


def check_new(out: Path) -> None:
    """Refuse a path where something lies, be it a link that leads nowhere.

    Raises:
        DataError: if it exists.
    """
    if os.path.lexists(out):
        raise DataError(f"{out} exists already; remove it or choose another name")


class OpenBag:
    """A bag that is being written.

    Args:
        writer: the open bag.
    """

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._connections: dict[str, object] = {}

    def open(self, topic: str, message_type: str) -> None:
        """Announce a topic, which may stay without messages."""
        if topic not in self._connections:
            qos = [offered_qos(latched=topic == TF_STATIC or is_mask_topic(topic))]
            self._connections[topic] = self._writer.add_connection(
                topic, message_type, typestore=typestore(), offered_qos_profiles=qos
            )

    def describe(self, sequence: FrameSequence) -> None:
        """Keep in metadata.yaml (`custom_data`) what messages cannot say: whether depth is a sensor's or rendered."""
        self._writer.set_custom_data(DEPTH_NAME, sequence.depth_name)

    def write(self, topic: str, log_ns: int, message: object | bytes) -> None:
        """Write a message, of `bag_messages` or serialised, on a topic that was opened, with the time of recording."""
        connection = self._connections[topic]
        data = message if isinstance(message, bytes) else typestore().serialize_cdr(message, connection.msgtype)
        with writing(self._writer.path):
            self._writer.write(connection, log_ns, data)


class SequenceRecorder:
    """Turns frames into messages.

    Args:
        bag: where they go.
        has_depth: whether sensor depth will come with them.
    """

    def __init__(self, bag: OpenBag, has_depth: bool) -> None:
        self._bag = bag
        self._lost = 0
        self._static_sent = False
        self._masks = MaskChanges()
        for topic, message_type in (
            (COLOUR, IMAGE),
            (COLOUR_INFO, CAMERA_INFO),
            *([(SENSOR_DEPTH, IMAGE)] if has_depth else []),
            (TF, TRANSFORMS),
            (TF_STATIC, TRANSFORMS),
        ):
            bag.open(topic, message_type)

    def add(self, item: SequenceItem) -> None:
        """Write one frame: its transform first, so that whoever plays the bag has the pose when the image comes."""
        frame, bag, stamp_ns = item.frame, self._bag, item.frame.stamp_ns
        if not self._static_sent:
            base_T_camera = bag_messages.transform(stamp_ns, BASE_FRAME, CAMERA_FRAME, np.zeros(3), OPTICAL_ROTATION)
            bag.write(TF_STATIC, stamp_ns, base_T_camera)
            self._static_sent = True
        if is_finite_pose(frame.world_T_cam):
            cam_T_base = inverse_pose(pose_matrix((0.0, 0.0, 0.0), OPTICAL_ROTATION))
            odom_T_base = frame.world_T_cam @ cam_T_base
            rotation = quaternion_of(odom_T_base[:3, :3])
            bag.write(
                TF, stamp_ns, bag_messages.transform(stamp_ns, WORLD_FRAME, BASE_FRAME, odom_T_base[:3, 3], rotation)
            )
        else:
            self._lost += 1
        mask = self._masks.changed(item.valid_mask, frame.image.shape[:2])
        if mask is not None:
            bag.open(MASK, IMAGE)
            bag.write(MASK, stamp_ns, bag_messages.image(stamp_ns, CAMERA_FRAME, mask, "mono8"))
        info = bag_messages.camera_info(stamp_ns, CAMERA_FRAME, frame.K, frame.image.shape[:2])
        bag.write(COLOUR_INFO, stamp_ns, info)
        bag.write(COLOUR, stamp_ns, bag_messages.image(stamp_ns, CAMERA_FRAME, frame.image, "rgb8"))
        if item.sensor_depth is not None:
            depth = bag_messages.image(stamp_ns, CAMERA_FRAME, *depth_pixels(item.sensor_depth))
            bag.write(SENSOR_DEPTH, stamp_ns, depth)

    def say_what_was_lost(self) -> None:
        """Log how many frames had no pose."""
        if self._lost:
            logger.warning("%d frames have no finite pose and got no transform", self._lost)


def depth_pixels(depth: np.ndarray) -> tuple[np.ndarray, str]:
    """Return depth (H, W) float32 metres as an image message holds it without loss, and the encoding of that.

    Whole millimetres are 16UC1, as sensors give them, with 0 where there is none; anything else is 32FC1 metres with
    NaN.
    """
    millimetres = np.rint(depth * 1000.0)
    if (millimetres <= np.iinfo(np.uint16).max).all():
        whole = millimetres.astype("<u2")
        if np.array_equal((whole / 1000.0).astype(np.float32), depth):
            return whole, "16UC1"
    return np.where(depth > 0, depth, np.nan).astype("<f4"), "32FC1"


def offered_qos(latched: bool) -> Qos:
    """Reliable, so that a player loses no image; latched for static transforms and masks, as their publishers are."""
    forever = QosTime(9223372036, 854775807)
    return Qos(
        history=QosHistory.KEEP_LAST,
        depth=1 if latched else 10,
        reliability=QosReliability.RELIABLE,
        durability=QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE,
        deadline=forever,
        lifespan=forever,
        liveliness=QosLiveliness.AUTOMATIC,
        liveliness_lease_duration=forever,
        avoid_ros_namespace_conventions=False,
    )
