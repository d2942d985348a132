# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Poses of a bag: from transforms that are read alongside, or from a topic of poses with a static mounting."""

from __future__ import annotations

import pytest

from dvmvs_core.data.bags.bag_sequence import NO_TRANSFORM, BagTopics
from dvmvs_core.errors import DataError

MILLISECOND = 1_000_000

SECOND = 1000 * MILLISECOND


@pytest.fixture
def seen(recording):
    """A bag with one image at 1.5 s."""
    recording.info(0)
    recording.image(1500 * MILLISECOND)
    return recording


def x_of(bag) -> list[float]:
    return [round(float(item.frame.world_T_cam[0, 3]), 9) for item in bag.items()]


def test_odometry_with_a_static_mounting_is_interpolated_like_tf(seen):
    seen.transform(0, x=0.25, parent="base", child="camera", static=True)
    seen.odometry(1 * SECOND, x=2.0)
    seen.odometry(2 * SECOND, x=4.0)
    bag = seen.open()
    assert (bag.pose_topic, bag.world_frame) == ("/odometry", "odom")
    assert x_of(bag) == [3.25]
    assert "poses come from /odometry, as those of 'base' in 'odom'" in bag.notes[0]


def test_a_pose_that_does_not_say_of_what_is_of_the_root_above_the_camera(seen):
    seen.transform(0, x=0.25, parent="tripod", child="camera", static=True)
    seen.transform(0, x=0.5, parent="markers", child="tripod", static=True)
    seen.pose_stamped(1 * SECOND, x=2.0)
    seen.pose_stamped(2 * SECOND, x=4.0)
    bag = seen.open()
    assert (bag.pose_topic, bag.world_frame) == ("/pose", "vicon")
    assert x_of(bag) == [3.75]
    assert "does not say of what; they are taken as those of 'markers' in 'vicon'" in bag.notes[0]


def test_without_any_mounting_such_a_pose_is_of_the_camera(seen):
    seen.pose_stamped(1 * SECOND, x=2.0)
    seen.pose_stamped(2 * SECOND, x=4.0)
    bag = seen.open()
    assert x_of(bag) == [3.0]
    assert "those of 'camera' in 'vicon'" in bag.notes[0]


def test_transforms_that_lead_to_the_camera_come_first_unless_a_topic_is_named(seen):
    for stamp_ns in (1 * SECOND, 2 * SECOND):
        seen.transform(stamp_ns, x=1.0, parent="odom", child="base")
        seen.odometry(stamp_ns, x=7.0)
    seen.transform(0, parent="base", child="camera", static=True)
    bag = seen.open()
    assert (bag.pose_topic, x_of(bag), bag.notes) == (None, [1.0], [])
    bag = seen.open(BagTopics(pose_topic="/odometry"))
    assert (bag.pose_topic, x_of(bag)) == ("/odometry", [7.0])


def test_transforms_of_something_else_do_not_keep_odometry_out(seen):
    seen.transform(1 * SECOND, parent="base", child="wheel")
    seen.transform(0, parent="base", child="camera", static=True)
    seen.odometry(1 * SECOND, x=2.0)
    seen.odometry(2 * SECOND, x=2.0)
    assert x_of(seen.open()) == [2.0]


def test_odometry_without_a_way_to_the_camera_is_one_clear_error(seen):
    seen.odometry(1 * SECOND)
    seen.odometry(2 * SECOND)
    with pytest.raises(DataError, match="no transform leads to 'camera', the frame_id of the images; .* base, odom"):
        seen.open()


def test_goals_are_not_poses_and_two_topics_need_a_name(seen):
    for topic in ("/goal_pose", "/vicon/rig", "/slam/pose"):
        seen.pose_stamped(1 * SECOND, x=2.0, topic=topic)
        seen.pose_stamped(2 * SECOND, x=2.0, topic=topic)
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
