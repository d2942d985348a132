# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Depth for keyframes or for every image: the same keyframes, and the newest image first. A real engine, no ROS."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from camera_poses import pose_at

from dvmvs_core.config import EngineConfig
from dvmvs_core.engine import DepthEngine
from dvmvs_core.keyframes import KeyframeDecision
from dvmvs_core.types import Frame
from dvmvs_ros.depth.config import build_live
from dvmvs_ros.depth.estimation import Estimator, RateLimit
from dvmvs_ros.depth.settings import SETTINGS

K = np.array(((60.0, 0.0, 31.5), (0.0, 62.0, 23.5), (0.0, 0.0, 1.0)))
STEP_NS = 33_333_333
DEFAULTS = build_live({setting.name: setting.default for setting in SETTINGS})
EVERY = replace(DEFAULTS, depth_for="every_image")


def frames(count: int = 13) -> list[Frame]:
    """A walk of 4 cm steps: every third frame is a keyframe."""
    made = []
    for i in range(count):
        image = np.random.default_rng(i).integers(0, 256, (48, 64, 3), dtype=np.uint8)
        made.append(Frame(image, K, pose_at(0.04 * i), 1_000_000_000 + i * STEP_NS, i))
    return made


@pytest.fixture
def make(tiny_weights):
    """Make an estimator; `busy` says whether a newer frame waits."""

    def make(busy=lambda: False) -> Estimator:
        return Estimator(DepthEngine.from_weights(tiny_weights, config=EngineConfig(device="cpu")), busy)

    return make


def test_every_image_gets_depth_and_keyframes_are_those_of_keyframe_mode(make):
    plain, every = make(), make()
    expected = [plain(frame, DEFAULTS, True, True) for frame in frames()]
    got = [every(frame, EVERY, True, True) for frame in frames()]
    assert [e.decision for e in got] == [e.decision for e in expected]
    assert sum(e.is_keyframe for e in expected) == 4
    for keyframe, estimate in zip(expected, got, strict=True):
        if keyframe.prediction is not None:
            np.testing.assert_array_equal(estimate.prediction.depth, keyframe.prediction.depth)
            np.testing.assert_array_equal(estimate.prediction.confidence, keyframe.prediction.confidence)
    assert [e.prediction is not None for e in got] == [False] + [True] * 12, "all but the very first"
    assert sum(e.is_keyframe for e in got) == 4, "depth between keyframes is no keyframe"


def test_images_between_keyframes_wait_for_nobody(make):
    every = make(busy=lambda: True)
    got = [every(frame, EVERY, True, True) for frame in frames()]
    assert [e.prediction is not None for e in got] == [e.decision is KeyframeDecision.KEYFRAME for e in got]


def test_nothing_is_worked_out_between_keyframes_that_nobody_sees(make):
    every = make()
    got = [every(frame, EVERY, False, False) for frame in frames()]
    assert sum(e.prediction is not None for e in got) == 4
    assert all(e.prediction.confidence is None for e in got if e.prediction)


def test_the_rate_between_keyframes_is_limited(make):
    every, config = make(), replace(EVERY, max_rate_hz=15.0)
    between = [
        e.prediction is not None
        for e in (every(frame, config, True, True) for frame in frames(25))
        if e.decision is KeyframeDecision.TOO_CLOSE
    ]
    # Of 30 Hz: two neighbours between two keyframes never both.
    assert len(between) == 16 and between == [True, False] * 8


def test_the_keyframe_rule_changes_live(make):
    estimate, walk = make(), frames(25)
    wide = replace(DEFAULTS, keyframes=DEFAULTS.keyframes.replace(pose_distance=0.22, measurement_frames=1))
    early = [estimate(frame, DEFAULTS, True, True) for frame in walk[:13]]
    late = [estimate(frame, wide, True, True) for frame in walk[13:]]
    assert [len(e.prediction.measurement_index) for e in early if e.prediction] == [1, 2, 2, 2]
    assert [len(e.prediction.measurement_index) for e in late if e.prediction] == [1, 1], "every sixth frame from here"


@pytest.mark.parametrize(("max_rate_hz", "passed"), [(0.0, 60), (30.0, 60), (15.0, 30), (7.0, 12), (1.0, 2)])
def test_a_camera_of_thirty_hertz(max_rate_hz, passed):
    limit = RateLimit()
    assert sum(limit.allows(i * STEP_NS, max_rate_hz) for i in range(60)) == passed


def test_a_jump_back_starts_again():
    limit = RateLimit()
    assert limit.allows(10**12, 1.0) and not limit.allows(10**12 + STEP_NS, 1.0)
    assert limit.allows(5, 1.0)
