# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Counts, rates and latencies of a node, by a clock under the test's control."""

from __future__ import annotations

import pytest

from dvmvs_core.keyframes import KeyframeDecision
from dvmvs_ros.depth.frame_timeline import DropReason, FrameStage, FrameTimeline
from dvmvs_ros.diagnostics.statistics import Statistics

TOO_CLOSE = KeyframeDecision.TOO_CLOSE


def ended(outcome: KeyframeDecision | DropReason, **stages_ms: float) -> FrameTimeline:
    """The timeline of an image that came at 10 s and went through stages that took so long."""
    timeline, now_s = FrameTimeline(1, "camera", 0, 0, outcome, received_s=10.0), 10.0
    for name, ms in stages_ms.items():
        now_s += ms * 1e-3
        timeline.ends_s[FrameStage[name.upper()]] = now_s
    return timeline


@pytest.fixture
def statistics(clock) -> Statistics:
    return Statistics(clock)


def test_rates_are_of_the_last_seconds_only(clock, statistics):
    for _ in range(600):
        clock.now_s += 1 / 30
        statistics.add_received()
    assert statistics.rates_hz().images == pytest.approx(30.0, rel=0.02)
    clock.now_s += 2.5
    assert statistics.rates_hz().images == pytest.approx(15.0, rel=0.03)
    clock.now_s += 10.0
    assert statistics.rates_hz() == (0.0, 0.0, 0.0, 0.0)
    assert statistics.counts()["images received"] == "600"


def test_a_rate_is_right_from_the_first_second_on(clock, statistics):
    for i in range(40):
        clock.now_s += 1 / 20
        statistics.add_camera_info()
        statistics.add(ended(KeyframeDecision.KEYFRAME if i % 4 == 0 else TOO_CLOSE, publish=12.0))
        statistics.add(ended(TOO_CLOSE))
    rates_hz = statistics.rates_hz()
    assert (rates_hz.camera_info, rates_hz.depth) == (pytest.approx(20.0, rel=0.05),) * 2
    assert rates_hz.keyframes == pytest.approx(5.0, rel=0.05)
    assert statistics.counts() == {
        "images received": "0",
        "depth images published": "40",
        "decided keyframe": "10",
        "decided too_close": "70",
    }


def test_drops_are_counted_for_good_and_warned_about_for_a_while(clock, statistics):
    statistics.add(ended(DropReason.BAD_IMAGE))
    statistics.add(ended(DropReason.BAD_IMAGE))
    assert statistics.recent_drops() == {DropReason.BAD_IMAGE: 2}
    clock.now_s += 6.0
    assert not statistics.recent_drops()
    assert statistics.drops(DropReason.BAD_IMAGE) == 2 and statistics.counts()["dropped bad_image"] == "2"


def test_stages_have_median_and_95th_percentile(statistics):
    for ms in range(1, 101):
        statistics.add(ended(TOO_CLOSE, decode=1.0, pose=3.0, queue=float(ms)))
    statistics.add(ended(KeyframeDecision.KEYFRAME, decode=1.0, pose=3.0, queue=50.5, engine=20.0, publish=5.5))
    assert statistics.latencies() == {
        **{"decode median ms": "1.0", "decode p95 ms": "1.0", "wait for pose median ms": "3.0"},
        **{"wait for pose p95 ms": "3.0", "wait for engine median ms": "50.5", "wait for engine p95 ms": "95.0"},
        **{"engine median ms": "20.0", "engine p95 ms": "20.0", "publish median ms": "5.5", "publish p95 ms": "5.5"},
        **{"latency median ms": "80.0", "latency p95 ms": "80.0"},
    }


def test_tracking_is_lost_until_the_next_good_pose(statistics):
    assert not statistics.lost_tracking()
    statistics.add(ended(KeyframeDecision.TRACKING_LOST))
    statistics.add(ended(DropReason.BAD_IMAGE))
    assert statistics.lost_tracking()
    statistics.add(ended(KeyframeDecision.FIRST))
    assert not statistics.lost_tracking()


def test_how_late_depth_is_of_late_and_how_much_is_dropped(clock, statistics):
    assert statistics.recent_latency_s() == 0.0 == statistics.drop_ratio()
    for _ in range(50):
        statistics.add_received()
        statistics.add(ended(KeyframeDecision.KEYFRAME, engine=90.0, publish=10.0))
    assert statistics.recent_latency_s() == pytest.approx(0.1)
    clock.now_s += 40.0
    for _ in range(2):
        statistics.add_received()
        statistics.add(ended(TOO_CLOSE, engine=14_000.0, publish=1_000.0))
    assert statistics.recent_latency_s() == pytest.approx(15.0), "what was long ago does not hide it"
    statistics.add(ended(DropReason.WORKER_BUSY))
    assert statistics.drop_ratio() == pytest.approx(0.5)
    clock.now_s += 40.0
    assert statistics.recent_latency_s() == 0.0 == statistics.drop_ratio()
