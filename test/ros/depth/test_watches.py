# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Silence of the inputs, by a clock under the test's control, and what the camera's motion says about the poses."""

from __future__ import annotations

import numpy as np
import pytest
from camera_poses import pose_at

from dvmvs_ros.depth.input_watch import Input, InputWatch
from dvmvs_ros.depth.motion_watch import MotionWatch


@pytest.fixture
def watch(clock) -> InputWatch:
    return InputWatch(clock)


def test_nothing_is_missing_before_the_timeout(clock, watch):
    clock.now_s += 4.9
    assert watch.missing(5.0) is None
    clock.now_s += 0.2
    assert watch.missing(5.0) is Input.IMAGE and watch.silence_s(Input.IMAGE) == pytest.approx(5.1)


def test_the_first_cause_is_named(clock, watch):
    for _ in range(6):
        clock.now_s += 1.0
        watch.hear(Input.IMAGE)
    assert watch.missing(5.0) is Input.CAMERA_INFO
    watch.hear(Input.CAMERA_INFO)
    assert watch.missing(5.0) is Input.POSE
    watch.hear(Input.POSE)
    assert watch.missing(5.0) is None


def test_intrinsics_need_to_come_once_only(clock, watch):
    watch.hear(Input.CAMERA_INFO)
    clock.now_s += 60.0
    watch.hear(Input.IMAGE)
    watch.hear(Input.POSE)
    assert watch.missing(5.0) is None


def test_a_silence_ends_and_begins_again(clock, watch):
    for what in Input:
        watch.hear(what)
    clock.now_s += 6.0
    assert watch.missing(5.0) is Input.IMAGE
    watch.hear(Input.IMAGE)
    watch.hear(Input.POSE)
    assert watch.missing(5.0) is None


def test_silence_does_not_count_while_the_node_is_busy(clock, watch):
    watch.hear(Input.IMAGE)
    clock.now_s += 60.0
    watch.excuse()
    assert watch.missing(5.0) is None
    clock.now_s += 4.0
    assert watch.missing(5.0) is None
    clock.now_s += 2.0
    assert watch.missing(5.0) is Input.IMAGE
    assert watch.silence_s(Input.IMAGE) == 6.0


SECOND = 1_000_000_000


def moving(step_m: float, turn_deg: float = 0.0, rate_hz: float = 30.0, frames: int = 200) -> MotionWatch:
    """A camera that walks and turns so much from frame to frame."""
    motion = MotionWatch()
    for i in range(frames):
        pose = pose_at(step_m * i, turned=np.radians(turn_deg * i))
        motion.add(SECOND + round(i * SECOND / rate_hz), pose)
    return motion


@pytest.mark.parametrize(
    ("moves", "said"),
    [
        ({"step_m": 2.3}, "poses look unscaled: median baseline 2.3 m between frames (69 m/s)"),
        ({"step_m": 1.5, "rate_hz": 1.0}, "images are too far apart: median baseline 1.5 m"),
        ({"step_m": 0.00005, "turn_deg": 0.2}, "pure rotation: 30°"),
    ],
)
def test_what_keeps_depth_from_coming_is_said(moves, said):
    assert said in moving(**moves).motion().complaint()


def test_a_jump_of_the_world_is_said():
    motion = moving(0.02)
    motion.add(SECOND + 7 * SECOND, pose_at(9.0))
    assert "poses jump: 5.0 m between two frames" in motion.motion().complaint()


@pytest.mark.parametrize("moves", [{"step_m": 0.03}, {"step_m": 0.01, "turn_deg": 1.0}, {"step_m": 0.4}])
def test_ordinary_motion_is_not_complained_about(moves):
    motion = moving(**moves).motion()
    assert motion.complaint() == "" and motion.remark() == ""


def test_standing_still_is_a_remark_and_no_complaint():
    motion = moving(0.00001).motion()
    assert motion.complaint() == "" and "standing still" in motion.remark()


def test_only_the_last_seconds_count_and_lost_poses_do_not():
    motion = moving(0.1, frames=300)
    motion.add(20 * SECOND, np.full((4, 4), np.nan))
    seen = motion.motion()
    assert seen.seconds == pytest.approx(5.0, abs=0.05)
    assert seen.extent_m == pytest.approx(15.0, abs=0.2) and seen.baseline_m == pytest.approx(0.1)
    motion.clear()
    assert motion.motion() is None
