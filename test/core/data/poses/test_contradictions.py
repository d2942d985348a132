# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.


"""Two publishers of one transform are noticed, in whatever they differ, and one publisher is not taken for two."""

from __future__ import annotations

import math
import re
from itertools import chain

import numpy as np
import pytest
from bag_recordings import MILLISECOND, SECOND, as_ros_1
from rosbags.rosbag1 import Reader, Writer

from dvmvs_core.data.bags.bag_sequence import BagTopics
from dvmvs_core.data.open_sequence import open_sequence
from dvmvs_core.data.poses.contradictions import Contradictions
from dvmvs_core.errors import DataError

STEP = 33 * MILLISECOND
LEVEL = (0.0, 0.0, 0.0, 1.0)
UPRIGHT = (0.0, 0.0, math.sin(0.4), math.cos(0.4))


def watch(transforms, child: str = "base") -> Contradictions:
    """Take (parent, stamp_ns, x, rotation) of one frame."""
    watched = Contradictions()
    for parent, stamp_ns, x, rotation in transforms:
        watched.add(parent, child, stamp_ns, (x, 0.0, 0.0), rotation)
    return watched


def mixed(apart_ns: int, other, one=lambda i: ("odom", i * 0.01, LEVEL)):
    """Two streams, the other one later by `apart_ns` each time."""
    streams = (((i * STEP, one(i)), (i * STEP + apart_ns, other(i))) for i in range(30))
    return ((parent, stamp_ns, x, rotation) for stamp_ns, (parent, x, rotation) in chain.from_iterable(streams))


@pytest.mark.parametrize("apart_ns", (0, 3 * MILLISECOND, 16 * MILLISECOND))
@pytest.mark.parametrize(
    ("other", "said"),
    (
        (lambda i: ("odom", 47.0 + i * 0.02, LEVEL), "4[67].* m and 0° apart"),
        (lambda i: ("odom", 0.3 + i * 0.01, LEVEL), "0.[23].* m and 0° apart"),
        (lambda i: ("odom", i * 0.01, UPRIGHT), "and 46° apart"),
        (lambda i: ("map", i * 0.01, LEVEL), "now below '(odom|map)', now below '(odom|map)'"),
    ),
    ids=("two robots", "two filters", "two joint states", "two parents"),
)
def test_two_publishers_are_noticed(apart_ns, other, said):
    watched = watch(mixed(apart_ns, other))
    for of_late in (True, False):
        found = watched.between("odom", "base", of_late)
        assert found.mixed and "transforms of 'base' in " in found.said and "Do two publishers send it?" in found.said
    assert re.search(said, found.said), found.said


RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize(
    "one",
    (
        lambda i: ("odom", 1.0 * i, LEVEL),
        lambda i: ("odom", 0.01 * i + RANDOM.normal(0, 0.01), LEVEL),
        lambda i: ("odom", 0.05 * math.sin(i), LEVEL),
        lambda i: ("odom", 0.01 * i + (2.0 if i >= 15 else 0.0), LEVEL),
        lambda i: ("odom", 2.0 if i in (7, 20) else 0.01 * i, LEVEL),
        lambda i: ("odom" if i < 15 else "map", 0.01 * i, LEVEL),
        lambda i: ("odom", 0.0, LEVEL if i % 2 else tuple(-q for q in LEVEL)),
    ),
    ids=("a fast car", "noise", "shaken", "corrected once", "two outliers", "another parent from now on", "q and -q"),
)
def test_one_publisher_is_not_taken_for_two(one):
    watched = watch((one(i)[0], i * STEP, *one(i)[1:]) for i in range(30))
    assert watched.between("odom", "base") is None and watched.between("map", "base", of_late=True) is None


def test_a_position_that_is_corrected_every_few_seconds_is_no_contradiction():
    watched = watch(("map", i * STEP, float(i // 100 % 2), LEVEL) for i in range(1000))
    assert watched.between("map", "base") is None


def test_publishers_that_send_in_bursts_are_noticed():
    watched = watch(("odom", i * STEP, 47.0 * (i // 5 % 2), LEVEL) for i in range(60))
    assert watched.between("odom", "base", of_late=True).mixed


def test_a_static_transform_that_is_given_twice_is_noticed():
    watched = Contradictions()
    watched.add("base", "camera", 0, (0.1, 0.0, 0.0), LEVEL, static=True)
    watched.add("base", "camera", 9 * SECOND, (0.1, 0.0, 0.0), LEVEL, static=True)
    assert watched.between("base", "camera") is None
    watched.add("/base", "/camera", 0, (0.4, 0.0, 0.0), LEVEL, static=True)
    found = watched.between("/base", "/camera", of_late=True)
    assert "transforms of 'camera' in 'base' contradict each other: 0.30 m and 0° apart. Do" in found.said
    assert not found.mixed, "one of them counts all along"


def test_what_no_image_needs_and_what_was_long_ago_is_not_said_of_late():
    watched = watch(mixed(0, lambda i: ("odom", 47.0, LEVEL)), child="arm")
    watched.add("odom", "base", 0, (0.0, 0.0, 0.0), LEVEL)
    assert watched.between("odom", "base") is None and watched.between("odom", "arm")
    watched.add("odom", "arm", 30 * SECOND, (0.0, 0.0, 0.0), LEVEL)
    assert watched.between("odom", "arm", of_late=True) is None and watched.between("odom", "arm")
    watched.clear()
    assert watched.between("odom", "arm") is None


@pytest.fixture
def robots(recording):
    """Two robots that publish the same frames on one /tf, the second 47 m away; images of the first."""
    recording.info(0)
    for i in range(20):
        stamp_ns = SECOND + i * STEP
        recording.transform(stamp_ns, x=i / 100, child="base")
        recording.transform(stamp_ns + 5 * MILLISECOND, x=47.0 + i / 100, child="base")
    for i in range(3, 15, 3):
        recording.image(SECOND + i * STEP + 10 * MILLISECOND)
    recording.transform(0, parent="base", static=True)
    return recording


def test_a_bag_of_two_robots_on_one_tf_is_refused_by_its_cause(robots):
    with pytest.raises(DataError, match=r"transforms of 'base' in 'odom' contradict each other: 4\d.* --pose-topic"):
        robots.open()


def test_another_topic_of_poses_is_the_way_out(robots):
    for i in range(20):
        robots.odometry(SECOND + i * STEP, x=i / 100, topic="/robot1/odom", child="base")
    bag = robots.open(BagTopics(pose_topic="/robot1/odom"))
    xs = [item.frame.world_T_cam[0, 3] for item in bag.items()]
    np.testing.assert_allclose(xs, np.arange(3, 15, 3) / 100 + 0.01 / 3.3, atol=1e-6)


def test_two_publishers_of_one_topic_of_poses_are_refused_too(recording):
    recording.info(0)
    recording.image(SECOND + 100 * MILLISECOND)
    for i in range(20):
        for robot in (0, 1):
            recording.odometry(SECOND + i * STEP + robot, x=47.0 * robot, child="camera")
    with pytest.raises(DataError, match="transforms of 'camera' in 'odom' contradict each other"):
        recording.open()


def test_a_few_outliers_are_noted(recording):
    recording.info(0)
    recording.image(SECOND + 10 * STEP)
    for i in range(200):
        recording.transform(SECOND + i * STEP, x=3.0 if i % 33 == 20 else 0.0, child="base")
    recording.transform(0, x=0.1, parent="base", static=True)
    (note,) = recording.open().notes
    assert "transforms of 'base' in 'odom' contradict each other" in note and "6 times there and back in 200" in note


def test_a_ros_1_bag_says_who_publishes(robots, tmp_path):
    robots.close()
    with Reader(as_ros_1(robots.path, tmp_path / "one.bag")) as bag, Writer(tmp_path / "named.bag") as named:
        senders = {}
        for number, (connection, log_ns, data) in enumerate(bag.messages()):
            sender = f"/robot{number % 2 + 1}" if connection.topic == "/tf" else "/camera"
            if (connection.topic, sender) not in senders:
                kind = {"msgdef": connection.msgdef.data, "md5sum": connection.digest, "callerid": sender}
                added = named.add_connection(connection.topic, connection.msgtype, **kind)
                senders[connection.topic, sender] = added
            named.write(senders[connection.topic, sender], log_ns, data)
    with pytest.raises(DataError, match=r"contradict each other.* \(published by /camera, /robot1, /robot2\)"):
        open_sequence(tmp_path / "named.bag")
