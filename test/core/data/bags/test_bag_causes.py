# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What one bad part of a bag costs, and what an error says: the thing to change, and what was tried."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from bag_recordings import MILLISECOND, POSE, SECOND
from format_writers import encoded
from rosbags.interfaces import ConnectionExtRosbag2

from dvmvs_core.data.bags.bag_sequence import DAMAGED, NO_STAMP, NO_TRANSFORM, BagTopics
from dvmvs_core.data.open_sequence import open_sequence
from dvmvs_core.errors import DataError

SMALLER = {"width": 3, "height": 2, "k": np.array((5.0, 0, 1, 0, 5, 0.5, 0, 0, 1))}


def frames(bag) -> list[int]:
    return [item.frame.index for item in bag.items()]


@pytest.mark.parametrize(
    "bad",
    (
        {"k": np.zeros(9)},
        {"k": np.full(9, np.nan)},
        {"focal": -1.0},
        {"width": 0},
        SMALLER,
        {"k": np.array((50.0, 0, 30, 0, 50, 20, 0, 0, 1))},
    ),
    ids=("zero", "NaN", "negative", "no size", "another size", "another resolution"),
)
@pytest.mark.parametrize("first", (True, False), ids=("first", "in the middle"))
def test_a_bad_camera_info_among_good_ones_is_passed_over(recording, bad, first):
    recording.transform(SECOND).transform(2 * SECOND)
    for tenth in range(1, 6):
        stamp_ns = SECOND + tenth * 100 * MILLISECOND
        recording.info(stamp_ns - 1, **(bad if tenth == (1 if first else 3) else {}))
        recording.image(stamp_ns)
    bag = recording.open()
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
    for i in range(5):
        stamp_ns = SECOND + (i + 1) * 100 * MILLISECOND
        image = np.full((2, 3, 3) if i == odd else (4, 6, 3), 90, np.uint8)
        if compressed:
            posed.compressed(stamp_ns, encoded(".png", image), "rgb8; png compressed bgr8")
        else:
            posed.image(stamp_ns, image)
        depth = np.full((4, 6), 700, np.uint16)
        posed.image(stamp_ns, depth, "/depth/image_rect", "16UC1")
    bag = posed.open()
    assert [item.sensor_depth is not None for item in bag.items()] == [True] * 4
    assert (set(range(5)) - set(frames(bag)), bag.unreadable, bag.dropped) == ({odd}, {odd}, {DAMAGED: 1})


def test_images_without_stamps_are_said_to_have_none(posed):
    for _ in range(3):
        posed.image(0)
    bag = posed.open()
    with pytest.raises(DataError, match=r"none of 3 images has a pose; image 2 has no stamp: header.stamp is 0. Have"):
        frames(bag)
    assert bag.dropped == {NO_TRANSFORM: 1, NO_STAMP: 2}


def test_one_image_without_a_stamp_is_said_to_have_none(posed, caplog):
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


def test_why_no_message_of_a_topic_of_poses_can_be_read_is_said(recording):
    recording.info(0).image(SECOND).pose_stamped(SECOND)
    for connection in (
        recording.connections["/pose"],
        recording.writer.add_connection("/slam", POSE, typestore=recording.store),
    ):
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
    for tenth in range(3):
        posed.compressed(SECOND + tenth * 100 * MILLISECOND, data, image_format)
    topic = "/camera/image_rect/compressed"
    with pytest.raises(DataError, match=f"none of its colour images can be read; {topic}: .*{said}.*Decode them first"):
        posed.open()
    with pytest.raises(DataError, match=f"no image on {topic} can be read; the first: .*{said}"):
        posed.open(BagTopics(image_topic=topic))


def test_depth_under_the_name_of_the_images_is_said_to_be_depth(posed):
    data = encoded(".png", np.full((4, 6), 700, np.uint16))
    posed.compressed(SECOND, data, "16UC1; png", "/camera/image/compressed")
    with pytest.raises(DataError, match="must hold images as rgb8, .*; found /camera/image/compressed .16UC1; png."):
        posed.open()
    bag = posed.open(BagTopics(image_topic="/camera/image/compressed"))
    with pytest.raises(DataError, match="a colour or grey image is needed, and '16UC1; png' is depth. Name the topic"):
        frames(bag)


def test_other_channels_of_a_healthy_recording_do_not_disturb(posed):
    """What a recording may hold next to what is read: other types, encodings, empty topics, unreadable images."""
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


FIVE, DEPTH = 5 * MILLISECOND, np.ones((4, 6), np.uint16)
UNUSABLE = {
    "nothing": (lambda bag: None, "holds no message"),
    "no images": (
        lambda bag: bag.info(0).transform(0),
        "must hold images of type sensor_msgs/msg/Image or .*CompressedImage; found /camera/camera_info .sensor_msgs/",
    ),
    "no camera_info": (
        lambda bag: bag.image(FIVE).transform(0),
        "must hold a sensor_msgs/msg/CameraInfo for /camera/image_rect; it holds none",
    ),
    "no tf": (
        lambda bag: bag.image(FIVE).info(0),
        "must hold moving transforms on /tf .* it holds no transform",
    ),
    "only static tf": (
        lambda bag: bag.image(FIVE).info(0).transform(0, static=True),
        "must hold moving transforms on /tf .* only static ones",
    ),
    "tf of another camera": (
        lambda bag: bag.image(FIVE).info(0).transform(0, child="gripper"),
        "no transform leads to 'camera', the frame_id of the images; transforms join gripper, odom",
    ),
    "odometry that leads nowhere": (
        lambda bag: bag.image(FIVE).info(0).odometry(0).odometry(SECOND),
        "no transform leads to 'camera', the frame_id of the images; .* base, odom",
    ),
    "tf of another time": (
        lambda bag: bag.image(FIVE).info(0).transform(0).transform(MILLISECOND),
        "none of 1 images has a pose; .*after the newest",
    ),
    "tf long after the images": (
        lambda bag: bag.image(SECOND).info(0).transform(31 * SECOND),
        "the next one was recorded 30.0 s after it; at most 10 s are bridged",
    ),
    "tf of the same clock far away": (
        lambda bag: bag.image(5 * SECOND).info(0).transform(SECOND).transform(2 * SECOND),
        "3.000000000 s after the newest$",  # and no advice about clocks
    ),
    "tf without rotation": (
        lambda bag: bag.image(FIVE).info(0).transform(0, w=0.0).transform(1, w=0.0),
        "must hold moving transforms.* no transform; 2 transforms or poses were refused; .* never filled has",
    ),
    "poses without a frame": (
        lambda bag: bag.image(FIVE).info(0).pose_stamped(0, parent="").pose_stamped(1, parent=""),
        "2 transforms or poses were refused; .* must name both its frames; got",
    ),
    "camera_info of another size": (
        lambda bag: bag.image(FIVE).info(0, width=12).transform(0),
        "/camera/camera_info must be of the size of /camera/image_rect, 6×4; got 12×4",
    ),
    "an uncalibrated camera": (
        lambda bag: bag.image(FIVE).info(0, focal=0.0).transform(0),
        "/camera/camera_info: none of 1 camera_info can be used; camera_info: K must have positive focal lengths",
    ),
    "an unknown lens": (
        lambda bag: bag.info(0, d=(0.1, 0, 0, 0), distortion_model="thin_prism").image(FIVE, topic="/camera/image_raw"),
        "topic /camera/camera_info: camera_info: distortion_model must be one of plumb_bob, .*; got 'thin_prism'",
    ),
    "an unknown encoding": (
        lambda bag: bag.image(0, encoding="yuv411"),
        "must hold images as rgb8, .*; found /camera/image_rect \\(yuv411\\)",
    ),
    "depth of another size": (
        lambda bag: bag.image(FIVE).info(0).transform(FIVE).image(FIVE, DEPTH[:2, :3], "/depth", "16UC1"),
        "/depth must have the size of the colour image, 6×4; got 3×2",
    ),
    "two depth images": (
        lambda bag: bag.image(0).image(0, DEPTH, "/depth/a", "16UC1").image(0, DEPTH, "/depth/b", "16UC1").info(0),
        "several depth images, /depth/a, /depth/b: name one with --depth-topic",
    ),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_an_unusable_bag_is_one_clear_error(recording, case):
    record, said = UNUSABLE[case]
    record(recording)
    with pytest.raises(DataError, match=said):
        list(recording.open().items())
