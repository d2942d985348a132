# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Poses of a bag, from transforms or from a topic of poses: those of its camera, not of another robot."""

from __future__ import annotations

import numpy as np
import pytest
from bag_recordings import MILLISECOND, SECOND

from dvmvs_core.data.bags.bag_sequence import NO_TRANSFORM, BagTopics
from dvmvs_core.data.bags.bag_topics import belongs, nearest, strangers
from dvmvs_core.errors import DataError

IMAGE_1 = "/robot1/camera/image"


@pytest.fixture
def seen(recording):
    """A bag with one image at 1.5 s."""
    return recording.info(0).image(1500 * MILLISECOND)


def x_of(bag) -> list[float]:
    return [round(float(item.frame.world_T_cam[0, 3]), 9) for item in bag.items()]


def move(write, first=2.0, second=4.0, **named) -> None:
    """Write poses or transforms of 1 and 2 s."""
    for seconds, x in ((1, first), (2, second)):
        write(seconds * SECOND, x=x, **named)


@pytest.mark.parametrize(
    ("mounted", "kind", "topic", "world", "x", "said"),
    (
        ((("base", "camera", 0.25),), "odometry", "/odometry", "odom", 3.25, "as those of 'base' in 'odom'"),
        (
            (("tripod", "camera", 0.25), ("markers", "tripod", 0.5)),
            *("pose_stamped", "/pose", "vicon", 3.75),
            "does not say of what; they are taken as those of 'markers' in 'vicon'",
        ),
        ((), "pose_stamped", "/pose", "vicon", 3.0, "those of 'camera' in 'vicon'"),
        ((("base", "camera", 0.25),), "pose_with_covariance", "/amcl_pose", "map", 3.25, "those of 'base' in 'map'"),
    ),
    ids=("odometry", "of the root above the camera", "of the camera without any mounting", "with covariance"),
)
def test_poses_with_a_static_mounting_are_interpolated_like_tf(seen, mounted, kind, topic, world, x, said):
    for parent, child, offset in mounted:
        seen.transform(0, x=offset, parent=parent, child=child, static=True)
    move(getattr(seen, kind))
    move(seen.pose_with_covariance, 99.0, 99.0, topic="/initialpose")
    bag = seen.open()
    assert (bag.pose_topic, bag.world_frame, x_of(bag)) == (topic, world, [x])
    assert f"poses come from {topic}, " in bag.notes[0] and said in bag.notes[0]


def test_transforms_that_lead_to_the_camera_come_first_unless_a_topic_is_named(seen):
    move(seen.transform, 1.0, 1.0, child="base")
    move(seen.odometry, 7.0, 7.0)
    seen.transform(0, parent="base", child="camera", static=True)
    bag = seen.open()
    assert (bag.pose_topic, x_of(bag), bag.notes) == (None, [1.0], [])
    bag = seen.open(BagTopics(pose_topic="/odometry"))
    assert (bag.pose_topic, x_of(bag)) == ("/odometry", [7.0])


def test_transforms_of_something_else_do_not_keep_odometry_out(seen):
    seen.transform(1 * SECOND, parent="base", child="wheel")
    seen.transform(0, parent="base", child="camera", static=True)
    move(seen.odometry, 2.0, 2.0)
    assert x_of(seen.open()) == [2.0]


def test_goals_are_not_poses_and_two_topics_need_a_name(seen):
    for topic in ("/goal_pose", "/vicon/rig", "/slam/pose"):
        move(seen.pose_stamped, 2.0, 2.0, topic=topic)
    with pytest.raises(DataError, match="several topics of poses, /slam/pose, /vicon/rig: name one with --pose-topic"):
        seen.open()
    assert x_of(seen.open(BagTopics(pose_topic="/slam/pose"))) == [2.0]
    with pytest.raises(DataError, match="no nav_msgs/msg/Odometry or .* on '/tf'; it has /goal_pose, /slam/pose"):
        seen.open(BagTopics(pose_topic="/tf"))


def test_a_gap_of_more_than_ten_seconds_is_not_interpolated_across(recording):
    recording.info(0)
    for second in (0, 1, 2, 30, 31):
        recording.transform(second * SECOND, x=float(second))
    for second in (0.5, 1.5, 2.5, 15, 30.5):
        recording.image(int(second * SECOND))
    bag = recording.open()
    assert x_of(bag) == [0.5, 1.5, 30.5]
    assert bag.dropped == {NO_TRANSFORM: 2}


def test_transforms_recorded_long_after_their_stamps_are_waited_for(recording):
    recording.info(0)
    for second in range(1, 6):
        recording.image(second * SECOND)
    for second in range(7):  # by a program that took a minute to find each pose
        recording.transform(second * SECOND, x=float(second), log_ns=(second + 60) * SECOND)
    assert x_of(recording.open()) == [1.0, 2.0, 3.0, 4.0, 5.0]


def test_no_more_transforms_are_held_than_the_lookahead_needs(recording):
    recording.info(0)
    for step in range(0, 1000):
        recording.transform(step * SECOND // 10, x=step / 10)
    recording.image(1 * SECOND)
    recording.image(80 * SECOND)
    bag = recording.open()
    stream = bag._poses.stream()
    held = []
    for second in range(0, 99):
        stream.advance(second * SECOND, second * SECOND)
        held.append(len(stream._tree._edges["camera"].stamps))
        assert stream.lookup("odom", "camera", second * SECOND)[0, 3] == pytest.approx(second)
    assert max(held) <= 112


@pytest.mark.parametrize(
    ("topic", "image_topic", "expected"),
    (
        ("/tf", IMAGE_1, True),
        ("/robot1/tf", IMAGE_1, True),
        ("/robot1/camera/tf", IMAGE_1, True),
        ("/robot2/tf", IMAGE_1, False),
        ("/robot1/lidar/tf", IMAGE_1, False),
        ("/robot/tf", IMAGE_1, False),
        ("tf", "camera/image", True),
    ),
)
def test_what_belongs_to_images_is_of_their_namespace_or_one_around_it(topic, image_topic, expected):
    assert belongs(topic, image_topic) is expected


def test_the_nearest_topic_shares_the_longest_beginning():
    assert nearest(["/odom", "/robot1/odom", "/robot2/odom"], IMAGE_1) == ["/robot1/odom"]
    assert nearest(["/robot2/odom", "/robot3/odom"], IMAGE_1) == ["/robot2/odom", "/robot3/odom"]
    assert nearest([], IMAGE_1) == []
    assert strangers("/robot2/odom", IMAGE_1) and not strangers("/robot1/odom", IMAGE_1)
    assert not strangers("/odom", IMAGE_1)


@pytest.fixture
def robots(recording):
    """Two robots that go along x, the second 47 m away, with frames of the same names; images of the first."""
    recording.info(0, "/robot1/camera/camera_info")
    for robot, start in ((1, 0.0), (2, 47.0)):
        for tenth in range(9):
            stamp_ns = SECOND + tenth * 100 * MILLISECOND
            recording.transform(stamp_ns + robot, x=start + tenth / 10, topic=f"/robot{robot}/tf", child="base")
        recording.transform(0, x=start / 100, parent="base", static=True, topic=f"/robot{robot}/tf_static")
    return recording


def images(recording, topic: str = IMAGE_1) -> None:
    for tenth in range(1, 8):
        recording.image(SECOND + tenth * 100 * MILLISECOND + 50 * MILLISECOND, topic=topic)


def test_transforms_of_another_robot_are_not_mixed_in(robots):
    images(robots)
    bag = robots.open()
    np.testing.assert_allclose(x_of(bag), np.arange(7) / 10 + 0.15, atol=1e-6)
    (note,) = bag.notes
    assert f"transforms of /robot2/tf are left out: they do not belong to {IMAGE_1}; --tf-topic chooses" in note


def test_transforms_of_tf_and_of_the_robot_go_together(robots):
    images(robots)
    robots.transform(SECOND, x=5.0, parent="map", child="odom", static=True)
    bag = robots.open(BagTopics(world_frame="map"))
    np.testing.assert_allclose(x_of(bag), np.arange(7) / 10 + 5.15, atol=1e-6)


def test_images_of_neither_robot_need_a_name(robots):
    images(robots, "/arm/image")
    robots.info(0, "/arm/camera_info")
    with pytest.raises(DataError, match="transforms of /robot1/tf, /robot2/tf are left out: .*; --tf-topic chooses"):
        robots.open()
    bag = robots.open(BagTopics(tf_topic="/robot2/tf"))
    np.testing.assert_allclose(x_of(bag), np.arange(7) / 10 + 47.0 + 0.47 + 0.15, atol=1e-6)
    with pytest.raises(DataError, match="no tf2_msgs/msg/TFMessage on '/tf'; it has /robot1/tf, /robot1/tf_static"):
        robots.open(BagTopics(tf_topic="/tf"))


def test_the_only_topic_of_transforms_is_taken_and_named(recording):
    recording.info(0)
    recording.image(SECOND)
    recording.transform(SECOND, x=3.0, topic="/vicon/tf")
    bag = recording.open()
    assert x_of(bag) == [3.0]
    assert "transforms come from /vicon/tf, the only topic of moving ones" in bag.notes[0]


def test_transforms_under_another_name_do_not_get_into_tf(recording):
    """As of a bag that holds ground truth of the same frames next to what the robot thought."""
    recording.info(0)
    recording.image(SECOND)
    recording.transform(SECOND, x=3.0)
    recording.transform(SECOND + 1, x=4.0, topic="/tf_ground_truth")
    recording.transform(SECOND - 1, x=4.0, topic="/tf_ground_truth")
    assert x_of(recording.open()) == [3.0]
    assert x_of(recording.open(BagTopics(tf_topic="/tf_ground_truth"))) == [4.0]


def test_odometry_of_another_robot_is_not_taken(recording):
    recording.info(0, "/robot1/camera/camera_info")
    recording.image(SECOND, topic=IMAGE_1)
    for robot in (1, 2):
        move(recording.odometry, 10.0 * robot, 10.0 * robot, topic=f"/robot{robot}/odom", child="camera")
    bag = recording.open()
    assert (bag.pose_topic, x_of(bag)) == ("/robot1/odom", [10.0])


def test_intrinsics_come_from_around_the_images_or_are_named(recording):
    recording.transform(SECOND)
    recording.image(SECOND, topic="/robot1/camera/left/image")
    recording.info(0, "/robot1/camera/camera_info", focal=5.0)
    recording.info(0, "/robot2/camera/camera_info", focal=9.0)
    bag = recording.open()
    assert (bag.camera_info_topic, bag.notes) == ("/robot1/camera/camera_info", [])


def test_the_only_intrinsics_are_named_where_they_may_be_of_another_camera(recording):
    recording.transform(SECOND)
    recording.image(SECOND, topic=IMAGE_1)
    recording.info(0, "/robot2/camera/camera_info")
    (note,) = recording.open().notes
    assert f"the intrinsics of {IMAGE_1} come from /robot2/camera/camera_info, the only camera_info there is" in note


def test_an_infrared_image_of_sixteen_bits_is_no_depth(recording):
    recording.transform(SECOND)
    recording.info(0)
    recording.image(SECOND)
    recording.image(SECOND, np.full((4, 6), 700, np.uint16), "/camera/infra", "mono16")
    assert not recording.open().has_depth
