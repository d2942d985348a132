# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The keyframe rule on poses made by hand."""

from __future__ import annotations

import numpy as np
import pytest
from camera_poses import pose_at

from dvmvs_core.config import KeyframeConfig
from dvmvs_core.keyframes import KeyframeBuffer, KeyframeDecision, select_measurement_frames

LOST = np.full((4, 4), np.nan)


def test_decisions_along_a_straight_line():
    buffer = KeyframeBuffer(KeyframeConfig(pose_distance=0.1))
    decisions = [buffer.add(pose_at(x), x) for x in (0.0, 0.05, 0.125, 0.2, 0.25)]
    names = [decision.name for decision in decisions]
    assert names == ["FIRST", "TOO_CLOSE", "KEYFRAME", "TOO_CLOSE", "KEYFRAME"]
    assert len(buffer) == 3


def test_the_threshold_itself_makes_a_keyframe():
    buffer = KeyframeBuffer(KeyframeConfig(pose_distance=0.5))
    buffer.add(pose_at(0.0), None)
    assert buffer.add(pose_at(0.5), None) is KeyframeDecision.KEYFRAME


def test_the_oldest_keyframe_leaves_first():
    buffer = KeyframeBuffer(KeyframeConfig(buffer_size=3, measurement_frames=2))
    for i in range(5):
        buffer.add(pose_at(float(i)), i)
    assert len(buffer) == 3
    assert sorted(buffer.measurement_frames()) == [2, 3]


def test_one_candidate_is_enough_for_a_prediction():
    buffer = KeyframeBuffer(KeyframeConfig(measurement_frames=2))
    buffer.add(pose_at(0.0), "a")
    buffer.add(pose_at(0.2), "b")
    assert buffer.measurement_frames() == ["a"]


def test_tracking_is_lost_at_the_31st_invalid_pose():
    buffer = KeyframeBuffer(KeyframeConfig())
    buffer.add(pose_at(0.0), 0)
    decisions = [buffer.add(LOST, None) for _ in range(33)]
    assert set(decisions[:30]) == {KeyframeDecision.INVALID_POSE}
    assert decisions[30:] == [
        KeyframeDecision.TRACKING_LOST,
        KeyframeDecision.STILL_LOST,
        KeyframeDecision.STILL_LOST,
    ]
    assert buffer.add(pose_at(9.0), 1) is KeyframeDecision.FIRST


def test_a_valid_pose_sets_the_count_of_lost_frames_back():
    buffer = KeyframeBuffer(KeyframeConfig())
    buffer.add(pose_at(0.0), 0)
    for _ in range(2):
        assert {buffer.add(LOST, None) for _ in range(30)} == {KeyframeDecision.INVALID_POSE}
        assert buffer.add(pose_at(0.0), 0) is KeyframeDecision.TOO_CLOSE


@pytest.mark.parametrize("position", range(16))
def test_one_infinite_entry_makes_a_pose_invalid(position):
    pose = np.eye(4)
    pose.flat[position] = np.inf
    assert KeyframeBuffer(KeyframeConfig()).add(pose, 0) is KeyframeDecision.INVALID_POSE


def test_short_baselines_are_punished_five_times():
    """0.12 is 0.03 too short: penalty 5 · 0.0009; 0.20 is 0.05 too long: penalty 0.0025, so it wins."""
    chosen = select_measurement_frames(pose_at(0.0), [pose_at(0.12), pose_at(0.20)], KeyframeConfig())
    assert chosen == [1, 0]


def test_equal_penalties_keep_the_order_of_time():
    chosen = select_measurement_frames(pose_at(0.0), [pose_at(0.2), pose_at(-0.2), pose_at(0.2)], KeyframeConfig())
    assert chosen == [0, 1]
