# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Bags written message by message, for what no sequence would make, and bags stored in other ways."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from rosbags.convert import convert
from rosbags.rosbag2 import CompressionFormat, CompressionMode, Reader, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from dvmvs_core.data.bags import bag_messages
from dvmvs_core.data.bags.bag_files import typestore
from dvmvs_core.data.bags.bag_sequence import BagSequence, BagTopics
from dvmvs_core.data.open_sequence import open_sequence

IMAGE, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
INFO, TF = "sensor_msgs/msg/CameraInfo", "tf2_msgs/msg/TFMessage"
ODOMETRY, POSE = "nav_msgs/msg/Odometry", "geometry_msgs/msg/PoseStamped"
COVARIANCE = "geometry_msgs/msg/PoseWithCovarianceStamped"
MILLISECOND = 1_000_000
SECOND = 1000 * MILLISECOND
SUFFIX = {"mcap": ".mcap", "sqlite3": ".db3"}
PLUGIN = {"mcap": StoragePlugin.MCAP, "sqlite3": StoragePlugin.SQLITE3}


class Recording:
    """Writes messages by hand. What writes returns the recording, so that calls can follow one another."""

    def __init__(self, path, storage="mcap", mode=CompressionMode.NONE) -> None:
        self.path = path
        self.store = typestore()
        self.writer = Writer(path, version=8, storage_plugin=PLUGIN[storage])
        self.writer.set_compression(mode, CompressionFormat.ZSTD)
        self.connections = {}
        self.writer.open()

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()
            self.writer = None

    def open(self, topics: BagTopics | None = None) -> BagSequence:
        """The finished bag as a sequence."""
        self.close()
        return open_sequence(self.path, topics)

    new = staticmethod(bag_messages.new)
    header = staticmethod(bag_messages.header)

    def write(self, topic, message_type, stamp_ns, message=None, **fields):
        if topic not in self.connections:
            self.connections[topic] = self.writer.add_connection(topic, message_type, typestore=self.store)
        data = self.store.serialize_cdr(message or self.new(message_type, **fields), message_type)
        self.writer.write(self.connections[topic], stamp_ns, data)
        return self

    def image(
        self,
        stamp_ns,
        pixels=None,
        topic="/camera/image_rect",
        encoding="rgb8",
        frame_id="camera",
        step=None,
        log_ns=None,
    ):
        pixels = np.full((4, 6, 3), stamp_ns // MILLISECOND % 256, np.uint8) if pixels is None else pixels
        message = bag_messages.image(stamp_ns, frame_id, pixels, encoding)
        return self.write(topic, IMAGE, log_ns or stamp_ns, replace(message, step=step or message.step))

    def compressed(self, stamp_ns, data, image_format, topic="/camera/image_rect/compressed", frame_id="camera"):
        data = np.frombuffer(data, np.uint8)
        return self.write(
            topic, COMPRESSED, stamp_ns, header=self.header(stamp_ns, frame_id), format=image_format, data=data
        )

    def info(
        self, stamp_ns, topic="/camera/camera_info", width=6, height=4, focal=5.0, d=(), frame_id="camera", **more
    ):
        K = np.array(((focal, 0, 3), (0, focal, 2), (0, 0, 1)))
        message = bag_messages.camera_info(stamp_ns, frame_id, K, (height, width))
        return self.write(
            topic, INFO, stamp_ns, replace(message, **{"d": np.array(d, np.float64), "p": np.zeros(12), **more})
        )

    def transform(self, stamp_ns, x=0.0, parent="odom", child="camera", static=False, w=1.0, log_ns=None, topic=None):
        message = bag_messages.transform(stamp_ns, parent, child, (x, 0.0, 0.0), (0.0, 0.0, 0.0, w))
        topic = topic or ("/tf_static" if static else "/tf")
        return self.write(topic, TF, stamp_ns if log_ns is None else log_ns, message)

    def pose(self, x=0.0):
        return self.new(
            "geometry_msgs/msg/Pose", position=self.new("geometry_msgs/msg/Point", x=x, y=0.0, z=0.0),
            orientation=self.new("geometry_msgs/msg/Quaternion", x=0.0, y=0.0, z=0.0, w=1.0),
        )  # fmt: skip

    def pose_stamped(self, stamp_ns, x=0.0, topic="/pose", parent="vicon"):
        return self.write(topic, POSE, stamp_ns, header=self.header(stamp_ns, parent), pose=self.pose(x))

    def pose_with_covariance(self, stamp_ns, x=0.0, topic="/amcl_pose", parent="map"):
        pose = self.new("geometry_msgs/msg/PoseWithCovariance", pose=self.pose(x), covariance=np.zeros(36))
        return self.write(topic, COVARIANCE, stamp_ns, header=self.header(stamp_ns, parent), pose=pose)

    def odometry(self, stamp_ns, x=0.0, topic="/odometry", parent="odom", child="base"):
        still = self.new("geometry_msgs/msg/Vector3", x=0.0, y=0.0, z=0.0)
        twist = self.new("geometry_msgs/msg/Twist", linear=still, angular=still)
        return self.write(
            topic, ODOMETRY, stamp_ns, header=self.header(stamp_ns, parent), child_frame_id=child,
            pose=self.new("geometry_msgs/msg/PoseWithCovariance", pose=self.pose(x), covariance=np.zeros(36)),
            twist=self.new("geometry_msgs/msg/TwistWithCovariance", twist=twist, covariance=np.zeros(36)),
        )  # fmt: skip


def storage_file(bag):
    """The only mcap or db3 file of a bag, compressed or not."""
    (file,) = (file for file in bag.iterdir() if {*file.suffixes} & {".mcap", ".db3"})
    return file


def rewritten(bag, out, storage="mcap", mode=CompressionMode.STORAGE, keep=lambda number, connection: True):
    """The same bag, or some of its messages, with chunks (of an mcap), files or messages that are compressed."""
    writer = Writer(out, version=8, storage_plugin=PLUGIN[storage])
    writer.set_compression(mode, CompressionFormat.ZSTD)
    with Reader(bag) as reader, writer:
        own = {c.id: writer.add_connection(c.topic, c.msgtype, typestore=typestore()) for c in reader.connections}
        for number, (connection, stamp_ns, data) in enumerate(reader.messages()):
            if keep(number, connection):
                writer.write(own[connection.id], stamp_ns, data)
    return out


def as_ros_1(bag, out):
    """The same bag of ROS 1, by rosbags' own converter."""
    target = get_typestore(Stores.ROS1_NOETIC)
    convert([bag], out, "mcap", 8, None, "file", typestore(), target, (), (), (), ())
    return out


def assert_same_frames(items, expected, strict=True, with_depth=True) -> None:
    """Fail unless frames are what they are in another sequence, their poses but for rounding."""
    for ours, theirs in zip(items, expected, strict=strict):
        assert ours.frame.stamp_ns == theirs.frame.stamp_ns
        np.testing.assert_array_equal(ours.frame.image, theirs.frame.image)
        np.testing.assert_array_equal(ours.frame.K, theirs.frame.K)
        np.testing.assert_allclose(ours.frame.world_T_cam, theirs.frame.world_T_cam, rtol=0, atol=1e-14)
        assert not with_depth or np.array_equal(ours.sensor_depth, theirs.sensor_depth)
