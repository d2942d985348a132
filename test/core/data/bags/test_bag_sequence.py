# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

from __future__ import annotations

import re

import cv2
import numpy as np
import pytest
from bag_recordings import IMAGE, INFO, MILLISECOND, SECOND, SUFFIX, TF, assert_same_frames, storage_file
from rosbags import rosbag2
from rosbags.rosbag2 import Reader

from dvmvs_core.data.bags.bag_sequence import NO_TRANSFORM, OUT_OF_ORDER, BagSequence, BagTopics
from dvmvs_core.data.bags.bag_writer import write_bag
from dvmvs_core.data.open_sequence import open_sequence
from dvmvs_core.errors import DataError


@pytest.mark.parametrize("storage", SUFFIX)
def test_a_bag_of_a_folder_gives_the_same_frames(make_scene, tmp_path, storage):
    scene = open_sequence(make_scene(frames=5))
    write_bag(scene, tmp_path / "bag", storage)
    bag = open_sequence(tmp_path / "bag")
    assert isinstance(bag, BagSequence)
    assert (len(bag), bag.has_depth, bag.world_frame, bag.notes) == (5, True, "odom", [])
    assert_same_frames(bag.items(), scene.items())
    assert [item.frame.index for item in bag.items()] == [0, 1, 2, 3, 4]
    assert not bag.dropped
    for ours, theirs in zip(bag.poses(), scene.poses(), strict=True):
        assert (ours.index, ours.stamp_ns) == (theirs.index, theirs.stamp_ns)
        assert np.allclose(ours.world_T_cam, theirs.world_T_cam, atol=1e-14)
    for ours, theirs in zip(bag.sensor_depths({1, 4}), scene.sensor_depths({1, 4}), strict=True):
        assert ours.index == theirs.index
        assert np.array_equal(ours.sensor_depth, theirs.sensor_depth)


@pytest.mark.parametrize("name", ("sensor depth", "true depth"))
def test_a_bag_of_a_rendered_scene_has_true_depth(make_scene, tmp_path, name):
    scene = make_scene(frames=3)
    if name == "true depth":
        (scene / "export.json").write_text('{"made by": "dvmvs synthesize"}')
    write_bag(open_sequence(scene), tmp_path / "bag")
    assert open_sequence(tmp_path / "bag").depth_name == name
    write_bag(open_sequence(tmp_path / "bag"), tmp_path / "again")
    assert open_sequence(tmp_path / "again").depth_name == name


@pytest.mark.parametrize("custom_data", ("true depth", "[true depth]", "{dvmvs_depth_name: [true depth]}", "{1: 2}"))
def test_custom_data_of_others_do_not_disturb(make_bag, custom_data):
    metadata = make_bag() / "metadata.yaml"
    kept = re.sub(r"  custom_data:.*\n(    .*\n)*", "", metadata.read_text())
    metadata.write_text(f"{kept.rstrip()}\n  custom_data: {custom_data}\n")
    bag = open_sequence(metadata.parent)
    assert (bag.depth_name, bag.notes) == ("sensor depth", [])


@pytest.mark.parametrize("storage", SUFFIX)
def test_a_single_storage_file_is_a_bag_too(make_bag, storage):
    assert len(list(open_sequence(storage_file(make_bag(storage))).items())) == 6


def test_a_written_bag_has_what_ros2_bag_needs(make_bag, monkeypatch):
    bag = make_bag()
    monkeypatch.setattr(rosbag2.reader, "parse_qos", rosbag2.metadata.parse_qos)  # which reading here does without
    with Reader(bag) as reader:
        topics = {connection.topic: connection for connection in reader.connections}
    assert {topic: c.msgtype for topic, c in topics.items()} == {
        "/camera/image_rect": IMAGE,
        "/camera/camera_info": INFO,
        "/camera/depth": IMAGE,
        "/tf": TF,
        "/tf_static": TF,
    }
    # The hash that every ROS 2 distribution computes for tf2_msgs/msg/TFMessage.
    assert topics["/tf"].digest == "RIHS01_e369d0f05a23ae52508854b66f6aa0437f3449d652e8cbf22d5abe85d020f087"
    assert topics["/tf_static"].ext.offered_qos_profiles[0].durability.name == "TRANSIENT_LOCAL"
    assert all(c.ext.offered_qos_profiles[0].reliability.name == "RELIABLE" for c in topics.values())


def test_a_bag_is_written_whole_or_not_at_all(make_scene, tmp_path):
    scene = make_scene()
    # The first is missing, so that a frame is written before the others are refused.
    (scene / "depth" / "00003.png").unlink()
    for file in (scene / "depth").iterdir():
        cv2.imwrite(str(file), np.ones((2, 2), np.uint16))
    with pytest.raises(DataError, match="size"):
        write_bag(open_sequence(scene), tmp_path / "bag")
    assert [entry.name for entry in tmp_path.iterdir()] == ["scene"]
    with pytest.raises(DataError, match="exists already"):
        write_bag(open_sequence(make_scene("other")), scene)


def test_lost_frames_of_a_folder_get_no_transform(make_scene, tmp_path, caplog):
    scene = make_scene(frames=5)
    poses = np.loadtxt(scene / "poses.txt")
    poses[3:] = np.nan
    np.savetxt(scene / "poses.txt", poses)
    write_bag(open_sequence(scene), tmp_path / "bag")
    assert "2 frames have no finite pose" in caplog.text
    bag = open_sequence(tmp_path / "bag")
    assert [item.frame.index for item in bag.items()] == [0, 1, 2]
    assert bag.dropped == {NO_TRANSFORM: 2}
    assert "left out of 5 images: 2 no transform at its stamp" in caplog.text


def test_the_pose_is_interpolated_at_the_stamp_of_the_image_whatever_the_order_of_messages(recording):
    stamp_ns = SECOND * 3 // 2
    recording.image(stamp_ns).info(stamp_ns).transform(2 * SECOND, x=4.0).transform(SECOND, x=2.0)
    (item,) = recording.open().items()
    assert item.frame.world_T_cam[0, 3] == pytest.approx(3.0)
    assert item.frame.K[0, 0] == 5.0
    assert item.sensor_depth is None


def test_images_that_cannot_be_frames_are_counted_and_keep_their_index(recording, caplog):
    recording.info(0)
    for stamp_ms in (5, 10, 10, 15, 99):
        recording.image(stamp_ms * MILLISECOND)
    recording.transform(10 * MILLISECOND).transform(20 * MILLISECOND)
    bag = recording.open()
    assert [(item.frame.index, item.name) for item in bag.items()] == [(1, "00001.png"), (3, "00003.png")]
    assert bag.dropped == {NO_TRANSFORM: 2, OUT_OF_ORDER: 1}
    assert "after the newest" in caplog.text
    list(bag.poses())
    assert bag.dropped.total() == 3  # counted again in every pass


def test_a_damaged_image_message_is_left_out_and_counted(posed):
    bag = posed.image(SECOND).image(SECOND + 1, step=40).image(SECOND + 2).open()
    assert [item.frame.index for item in bag.items()] == [0, 2]
    assert bag.dropped == {"damaged message": 1}


def test_depth_pairs_with_the_nearest_stamp_within_5_ms(posed):
    for stamp_ms in (100, 200, 300, 400):
        posed.image(SECOND + stamp_ms * MILLISECOND)
    for stamp_ms in (97, 104, 205, 306):
        depth = np.full((4, 6), stamp_ms, np.uint16)
        posed.image(SECOND + stamp_ms * MILLISECOND, depth, "/camera/depth", "16UC1")
    depths = [item.sensor_depth for item in posed.open().items()]
    assert [None if depth is None else round(float(depth[0, 0]), 3) for depth in depths] == [0.097, 0.205, None, None]


def test_depth_in_metres_is_depth_too(posed):
    bag = posed.image(SECOND).image(SECOND, np.full((4, 6), 1.25, np.float32), "/depth/image", "32FC1").open()
    assert bag.depth_topic == "/depth/image"
    assert next(bag.items()).sensor_depth[2, 2] == 1.25


def test_intrinsics_that_change_hold_from_their_stamp_on(posed):
    for i, focal in enumerate((5.0, 5.0, 7.0)):
        posed.info(SECOND + i, focal=focal).image(SECOND + i)
    assert [item.frame.K[0, 0] for item in posed.open().items()] == [5.0, 5.0, 7.0]


def test_the_rectified_colour_image_with_its_own_camera_info_is_found(recording):
    recording.transform(0)
    for topic, encoding, shape in (
        ("/left/image_raw", "rgb8", (4, 6, 3)),
        ("/left/image_rect", "bgr8", (4, 6, 3)),
        ("/infra/image_rect", "mono8", (4, 6)),
    ):
        recording.image(0, np.zeros(shape, np.uint8), topic, encoding)
    recording.info(0, "/infra/camera_info", focal=1.0)
    recording.info(0, "/left/camera_info", focal=9.0)
    bag = recording.open()
    assert (bag.image_topic, bag.camera_info_topic) == ("/left/image_rect", "/left/camera_info")
    assert next(bag.items()).frame.K[0, 0] == 9.0


def test_a_name_decides_between_two_cameras(recording):
    recording.transform(0)
    for side in ("left", "right"):
        recording.image(0, topic=f"/{side}/image")
        recording.info(0, f"/{side}/camera_info")
    with pytest.raises(DataError, match="several colour images, /left/image, /right/image: name one with"):
        recording.open()
    bag = recording.open(BagTopics(image_topic="/right/image"))
    assert bag.camera_info_topic == "/right/camera_info"
    with pytest.raises(DataError, match="no images on '/up/image'; it has images on /left/image, /right/image"):
        recording.open(BagTopics(image_topic="/up/image"))
    with pytest.raises(DataError, match="no camera_info on '/up'"):
        recording.open(BagTopics(image_topic="/left/image", camera_info_topic="/up"))


def test_the_world_frame_is_odom_else_the_root_or_the_one_named(recording):
    recording.info(0)
    recording.image(0)
    recording.transform(0, x=1.0, parent="map", child="odom")
    recording.transform(0, x=2.0, parent="odom", child="base")
    recording.transform(0, x=4.0, parent="base", child="camera", static=True)
    bag = recording.open()
    assert (bag.world_frame, next(bag.items()).frame.world_T_cam[0, 3]) == ("odom", 6.0)
    bag = recording.open(BagTopics(world_frame="map"))
    assert next(bag.items()).frame.world_T_cam[0, 3] == 7.0
    with pytest.raises(DataError, match="no frame 'earth'; it has base, camera, map, odom"):
        recording.open(BagTopics(world_frame="earth"))


def test_without_odom_the_root_of_the_cameras_tree_is_the_world(recording):
    recording.info(0).image(0).transform(0, parent="vicon").transform(0, parent="other", child="thing")
    assert recording.open().world_frame == "vicon"
