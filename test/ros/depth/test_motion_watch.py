# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What the camera's motion says about the poses."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from dvmvs_ros.depth.motion_watch import MotionWatch

SECOND = 1_000_000_000


def watch(step_m: float, turn_deg: float = 0.0, rate_hz: float = 30.0, frames: int = 200) -> MotionWatch:
    """A camera that walks and turns so much from frame to frame."""
    motion = MotionWatch()
    for i in range(frames):
        world_T_cam = np.eye(4)
        world_T_cam[:3, :3] = cv2.Rodrigues(np.array((0.0, np.radians(turn_deg * i), 0.0)))[0]
        world_T_cam[:3, 3] = (step_m * i, 0.0, 0.0)
        motion.add(SECOND + round(i * SECOND / rate_hz), world_T_cam)
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
    assert said in watch(**moves).motion().complaint()


def test_a_jump_of_the_world_is_said():
    motion = watch(0.02)
    jumped = np.eye(4)
    jumped[:3, 3] = (9.0, 0.0, 0.0)
    motion.add(SECOND + 7 * SECOND, jumped)
    assert "poses jump: 5.0 m between two frames" in motion.motion().complaint()


@pytest.mark.parametrize("moves", [{"step_m": 0.03}, {"step_m": 0.01, "turn_deg": 1.0}, {"step_m": 0.4}])
def test_ordinary_motion_is_not_complained_about(moves):
    motion = watch(**moves).motion()
    assert motion.complaint() == "" and motion.remark() == ""


def test_standing_still_is_a_remark_and_no_complaint():
    motion = watch(0.00001).motion()
    assert motion.complaint() == "" and "standing still" in motion.remark()


def test_only_the_last_seconds_count_and_lost_poses_do_not():
    motion = watch(0.1, frames=300)
    motion.add(20 * SECOND, np.full((4, 4), np.nan))
    seen = motion.motion()
    assert seen.seconds == pytest.approx(5.0, abs=0.05)
    assert seen.extent_m == pytest.approx(15.0, abs=0.2) and seen.baseline_m == pytest.approx(0.1)
    motion.clear()
    assert motion.motion() is None
