# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Counts, rates and latencies of a node, by a clock under the test's control."""

from __future__ import annotations

import pytest

pytest.importorskip("rclpy")

from dvmvs_core.keyframes import KeyframeDecision  # noqa: E402
from dvmvs_ros.depth.drops import DropReason  # noqa: E402
from dvmvs_ros.diagnostics.statistics import Happening, Stage, Statistics  # noqa: E402


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_rates_are_of_the_last_seconds_only():
    clock = Clock()
    statistics = Statistics(clock)
    for _ in range(600):
        clock.now_s += 1 / 30
        statistics.add_received()
    assert statistics.rate_hz(Happening.IMAGE) == pytest.approx(30.0, rel=0.02)
    clock.now_s += 2.5
    assert statistics.rate_hz(Happening.IMAGE) == pytest.approx(15.0, rel=0.03)
    clock.now_s += 10.0
    assert statistics.rate_hz(Happening.IMAGE) == 0.0
    assert statistics.counts()["images received"] == "600"


def test_a_rate_is_right_from_the_first_second_on():
    clock = Clock()
    statistics = Statistics(clock)
    for _ in range(40):
        clock.now_s += 1 / 20
        statistics.add_published(12.0)
    assert statistics.rate_hz(Happening.DEPTH) == pytest.approx(20.0, rel=0.05)


def test_drops_are_counted_for_good_and_warned_about_for_a_while():
    clock = Clock()
    statistics = Statistics(clock)
    statistics.add_drop(DropReason.BAD_IMAGE)
    statistics.add_drop(DropReason.BAD_IMAGE)
    assert statistics.recent_drops() == {DropReason.BAD_IMAGE: 2}
    clock.now_s += 6.0
    assert not statistics.recent_drops()
    assert statistics.drops(DropReason.BAD_IMAGE) == 2 and statistics.counts()["dropped bad_image"] == "2"


def test_stages_have_median_and_95th_percentile():
    statistics = Statistics()
    for ms in range(1, 101):
        statistics.add_stage(Stage.ENGINE, float(ms))
    assert statistics.latencies() == {"engine median ms": "50.5", "engine p95 ms": "95.0"}


def test_tracking_is_lost_until_the_next_good_pose():
    statistics = Statistics()
    assert not statistics.lost_tracking()
    statistics.add_decision(KeyframeDecision.TRACKING_LOST)
    assert statistics.lost_tracking()
    statistics.add_decision(KeyframeDecision.FIRST)
    assert not statistics.lost_tracking()


def test_how_late_depth_is_of_late_and_how_much_is_dropped():
    clock = Clock()
    statistics = Statistics(clock)
    assert statistics.recent_latency_s() == 0.0 == statistics.drop_ratio()
    for latency_ms in (100.0,) * 50:
        statistics.add_received()
        statistics.add_published(latency_ms)
    assert statistics.recent_latency_s() == pytest.approx(0.1)
    clock.now_s += 40.0
    for _ in range(2):
        statistics.add_received()
        statistics.add_published(15_000.0)
    assert statistics.recent_latency_s() == pytest.approx(15.0), "what was long ago does not hide it"
    statistics.add_drop(DropReason.WORKER_BUSY)
    assert statistics.drop_ratio() == pytest.approx(0.5)
    clock.now_s += 40.0
    assert statistics.recent_latency_s() == 0.0 == statistics.drop_ratio()
