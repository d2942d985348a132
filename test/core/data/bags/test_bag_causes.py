# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What one bad part of a bag costs, and what an error says: the thing to change, and what was tried."""

from __future__ import annotations

import struct

import cv2
import numpy as np
import pytest
from rosbags.interfaces import ConnectionExtRosbag2

from dvmvs_core.data.bags.bag_sequence import DAMAGED, NO_STAMP, NO_TRANSFORM, BagTopics
from dvmvs_core.data.open_sequence import open_sequence
from dvmvs_core.errors import DataError

MILLISECOND = 1_000_000
SECOND = 1000 * MILLISECOND
NAN = np.full(9, np.nan)
SMALLER = {"width": 3, "height": 2, "k": np.array((5.0, 0, 1, 0, 5, 0.5, 0, 0, 1))}


@pytest.fixture
def posed(recording):
    """A bag with transforms from 1 to 2 s."""
    recording.transform(SECOND, x=1.0)
    recording.transform(2 * SECOND, x=2.0)
    return recording


def frames(bag) -> list[int]:
    return [item.frame.index for item in bag.items()]


@pytest.mark.parametrize(
    "bad",
    (
        {"k": np.zeros(9)},
        {"k": NAN},
        {"focal": -1.0},
        {"width": 0},
        SMALLER,
        {"k": np.array((50.0, 0, 30, 0, 50, 20, 0, 0, 1))},
    ),
    ids=("zero", "NaN", "negative", "no size", "another size", "another resolution"),
)
@pytest.mark.parametrize("first", (True, False), ids=("first", "in the middle"))
def test_a_bad_camera_info_among_good_ones_is_passed_over(posed, bad, first):
    for tenth in range(1, 6):
        stamp_ns = SECOND + tenth * 100 * MILLISECOND
        posed.info(stamp_ns - 1, **(bad if tenth == (1 if first else 3) else {}))
        posed.image(stamp_ns)
    bag = posed.open()
    if bad is SMALLER:  # it says something, of images of that size: as in the node, those miss it
        assert frames(bag) == ([1, 2, 3, 4] if first else [0, 1, 3, 4])
        return
    assert frames(bag) == [0, 1, 2, 3, 4]
    assert all(item.frame.K[0, 0] == 5.0 for item in bag.items())
    (note,) = bag.notes
    assert "topic /camera/camera_info: 1 camera_info were passed over; the last: " in note


@pytest.mark.parametrize("odd", (0, 2), ids=("first", "in the middle"))
@pytest.mark.parametrize("own_camera", (False, True), ids=("registered", "of another camera"))
def test_one_depth_image_of_another_size_costs_itself_alone(posed, caplog, odd, own_camera):
    posed.info(0)
    frame_id = "camera_depth" if own_camera else "camera"
    if own_camera:
        posed.info(0, "/depth/camera_info", frame_id=frame_id)
        posed.transform(0, parent="camera", child=frame_id, static=True)
    for i in range(5):
        stamp_ns = SECOND + (i + 1) * 100 * MILLISECOND
        posed.image(stamp_ns)
        depth = np.full((2, 3) if i == odd else (4, 6), 700, np.uint16)
        posed.image(stamp_ns, depth, "/depth/image_rect", "16UC1", frame_id)
    assert [item.sensor_depth is not None for item in posed.open().items()] == [i != odd for i in range(5)]
    assert "is left out: /depth/" in caplog.text and "3×2" in caplog.text


@pytest.mark.parametrize("odd", (0, 2), ids=("first", "in the middle"))
@pytest.mark.parametrize("compressed", (False, True), ids=("raw", "compressed"))
def test_one_image_of_another_size_costs_itself_alone(posed, odd, compressed):
    posed.info(0)
    for i in range(5):
        stamp_ns = SECOND + (i + 1) * 100 * MILLISECOND
        image = np.full((2, 3, 3) if i == odd else (4, 6, 3), 90, np.uint8)
        if compressed:
            posed.compressed(stamp_ns, cv2.imencode(".png", image)[1].tobytes(), "rgb8; png compressed bgr8")
        else:
            posed.image(stamp_ns, image)
        depth = np.full((4, 6), 700, np.uint16)
        posed.image(stamp_ns, depth, "/depth/image_rect", "16UC1")
    bag = posed.open()
    assert [item.sensor_depth is not None for item in bag.items()] == [True] * 4
    assert (set(range(5)) - set(frames(bag)), bag.unreadable, bag.dropped) == ({odd}, {odd}, {DAMAGED: 1})


def test_images_without_stamps_are_said_to_have_none(posed):
    posed.info(0)
    for _ in range(3):
        posed.image(0)
    bag = posed.open()
    with pytest.raises(DataError, match=r"none of 3 images has a pose; image 2 has no stamp: header.stamp is 0. Have"):
        frames(bag)
    assert bag.dropped == {NO_TRANSFORM: 1, NO_STAMP: 2}


def test_one_image_without_a_stamp_is_said_to_have_none(posed, caplog):
    posed.info(0)
    posed.image(SECOND)
    posed.image(0, log_ns=SECOND + 1)
    posed.image(SECOND + 2)
    bag = posed.open()
    assert frames(bag) == [0, 2]
    assert bag.dropped == {NO_STAMP: 1}
    assert "image 1 has no stamp" in caplog.text


@pytest.mark.parametrize(
    ("image_ns", "transform_ns", "said"),
    (
        (0, SECOND, "The image's header.stamp is 0: have its driver set it"),
        (SECOND, 0, "The transform's header.stamp is 0: have its publisher set it"),
        (1_700_000_000 * SECOND, 5 * SECOND, "must be stamped by one clock"),
        (5 * SECOND, 1_700_000_000 * SECOND, "must be stamped by one clock"),
    ),
)
def test_clocks_that_are_not_one_are_said_to_be_so(recording, image_ns, transform_ns, said):
    recording.info(0)
    recording.image(image_ns)
    recording.transform(transform_ns, log_ns=image_ns)
    with pytest.raises(DataError, match=f"none of 1 images has a pose; .*{said}"):
        frames(recording.open())


def test_transforms_that_begin_long_after_the_images_are_said_to_do_so(recording):
    recording.info(0)
    recording.image(SECOND)
    recording.transform(31 * SECOND)
    with pytest.raises(DataError, match="the next one was recorded 30.0 s after it; at most 10 s are bridged"):
        frames(recording.open())


def test_images_far_apart_by_one_clock_get_no_such_advice(posed):
    posed.info(0)
    posed.image(5 * SECOND)
    with pytest.raises(DataError, match=r"3.000000000 s after the newest$"):
        frames(posed.open())


def test_poses_with_covariance_are_read_where_they_are_the_only_ones(recording):
    recording.info(0)
    recording.image(1500 * MILLISECOND)
    recording.transform(0, x=0.25, parent="base", child="camera", static=True)
    for second in (1, 2):
        recording.pose_with_covariance(second * SECOND, x=float(second))
        recording.pose_with_covariance(second * SECOND, x=99.0, topic="/initialpose")
    bag = recording.open()
    assert (bag.pose_topic, bag.world_frame) == ("/amcl_pose", "map")
    assert [item.frame.world_T_cam[0, 3] for item in bag.items()] == [1.75]


def test_why_every_transform_was_refused_is_said(recording):
    recording.info(0)
    recording.image(SECOND)
    recording.transform(SECOND, w=0.0)
    recording.transform(SECOND + 1, w=0.0)
    with pytest.raises(DataError, match="no transform; 2 transforms or poses were refused; .* never filled has"):
        recording.open()


def test_why_every_pose_was_refused_is_said(recording):
    recording.info(0)
    recording.image(SECOND)
    recording.pose_stamped(SECOND, parent="")
    recording.pose_stamped(SECOND + 1, parent="")
    with pytest.raises(DataError, match="2 transforms or poses were refused; .* must name both its frames; got"):
        recording.open()


def test_why_no_message_of_a_topic_of_poses_can_be_read_is_said(recording):
    recording.info(0)
    recording.image(SECOND)
    recording.pose_stamped(SECOND)
    for stamp_ns in (SECOND, SECOND + 1):
        recording.writer.write(recording.connections["/pose"], stamp_ns, b"\0\1\0\0\0")
    connection = recording.writer.add_connection("/slam", "geometry_msgs/msg/PoseStamped", typestore=recording.store)
    for stamp_ns in (SECOND, SECOND + 1):
        recording.writer.write(connection, stamp_ns, b"\0\1\0\0\0")
    with pytest.raises(
        DataError, match="no message on /slam can be read; the last: a geometry_msgs/.*PoseStamped of 5"
    ):
        recording.open(BagTopics(pose_topic="/slam"))


@pytest.mark.parametrize(
    ("data", "image_format", "said"),
    (
        (b"\0\0\0\1\x67" * 20, "h264", "must be a whole JPEG or PNG; got 100 bytes of format 'h264'"),
        (b"\0\0\0\x20ftypavif" * 20, "avif", "of format 'avif'"),
        (b"RIFF\0\0\0\0WEBPVP8 " * 20, "webp", "of format 'webp'"),
        (b"", "jpeg", "got 0 bytes of format 'jpeg'"),
    ),
)
def test_images_of_an_unknown_kind_are_said_to_be_so(posed, data, image_format, said):
    posed.info(0)
    for tenth in range(3):
        posed.compressed(SECOND + tenth * 100 * MILLISECOND, data, image_format)
    topic = "/camera/image_rect/compressed"
    with pytest.raises(DataError, match=f"none of its colour images can be read; {topic}: .*{said}.*Decode them first"):
        posed.open()
    with pytest.raises(DataError, match=f"no image on {topic} can be read; the first: .*{said}"):
        posed.open(BagTopics(image_topic=topic))


def test_video_of_a_type_that_is_no_image_is_named(posed):
    posed.info(0)
    with pytest.raises(DataError, match=r"or .*CompressedImage; found .*/camera/camera_info \(sensor_msgs/msg/"):
        posed.open()


def test_depth_under_the_name_of_the_images_is_said_to_be_depth(posed):
    posed.info(0)
    data = cv2.imencode(".png", np.full((4, 6), 700, np.uint16))[1].tobytes()
    posed.compressed(SECOND, data, "16UC1; png", "/camera/image/compressed")
    with pytest.raises(DataError, match="must hold images as rgb8, .*; found /camera/image/compressed .16UC1; png."):
        posed.open()
    bag = open_sequence(posed.path, BagTopics(image_topic="/camera/image/compressed"))
    with pytest.raises(DataError, match="a colour or grey image is needed, and '16UC1; png' is depth. Name the topic"):
        frames(bag)


def test_other_channels_of_a_healthy_recording_do_not_disturb(posed):
    """What a recording may hold next to what is read: other types, encodings, empty topics, unreadable images."""
    posed.info(0)
    posed.image(SECOND)
    for name, message_type, data in (
        ("/rosout", "std_msgs/msg/String", b"\0\1\0\0" + struct.pack("<I", 2) + b"a\0"),
        ("/camera/preview/compressed", "sensor_msgs/msg/CompressedImage", b"\0\1\0\0" + bytes(12)),
    ):
        connection = posed.writer.add_connection(name, message_type, typestore=posed.store)
        for stamp_ns in (SECOND, 2 * SECOND):
            posed.writer.write(connection, stamp_ns, data)
    posed.writer.add_connection("/other/image", "sensor_msgs/msg/Image", typestore=posed.store)
    posed.compressed(SECOND, b"\0\0\0\1", "h264", "/camera/video/compressed")
    posed.image(SECOND, np.full((4, 6), 700, np.uint16), "/camera/infra", "mono16")
    bag = posed.open()
    assert (frames(bag), bag.notes, bag.faults, bag.image_topic) == ([0], [], {}, "/camera/image_rect")
    assert not bag.has_depth


@pytest.mark.parametrize("schema_encoding", ("jsonsch", "protobu", "ros1msg"))
def test_channels_of_other_encodings_in_an_mcap_do_not_disturb(posed, schema_encoding):
    posed.info(0)
    posed.image(SECOND)
    text = posed.new("std_msgs/msg/String", data="hello")
    connection = posed.writer.add_connection("/status", "std_msgs/msg/String", typestore=posed.store)
    posed.writer.write(connection, SECOND, posed.store.serialize_cdr(text, "std_msgs/msg/String"))
    posed.close()
    (file,) = posed.path.glob("*.mcap")
    assert isinstance(connection.ext, ConnectionExtRosbag2)
    data = file.read_bytes()
    name = b"std_msgs/msg/String"
    at = data.index(struct.pack("<I", len(name)) + name + struct.pack("<I", 7) + b"ros2msg") + 4 + len(name) + 4
    assert data.count(b"ros2msg") > 1
    # Names of seven characters fit in place; it matters that it is another one.
    file.write_bytes(
        data.replace(data[at - 4 - len(name) : at + 7], data[at - 4 - len(name) : at] + schema_encoding.encode())
    )
    bag = open_sequence(file)
    assert (frames(bag), bag.notes, bag.faults) == ([0], [], {})
