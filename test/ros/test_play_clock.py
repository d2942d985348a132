# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The time of a recording that is played, by a day whose time stands still unless it is told otherwise."""

from __future__ import annotations

import math

import pytest

from dvmvs_ros.play_clock import PlayClock

SECOND = 10**9


class Day:
    """The time of day, seconds."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def day() -> Day:
    return Day()


def test_it_runs_at_its_rate_and_never_past_what_it_runs_to(day):
    clock = PlayClock(2.0, day)
    clock.start(5 * SECOND)
    assert clock.now_ns == 5 * SECOND
    day.seconds += 1
    assert clock.now_ns == 5 * SECOND, "it was not told to run"
    clock.start(5 * SECOND)
    clock.run_to(8 * SECOND)
    assert clock.left_s == pytest.approx(1.5)
    day.seconds += 1
    assert clock.now_ns == 7 * SECOND
    assert clock.left_s == pytest.approx(0.5)
    day.seconds += 1
    assert clock.now_ns == 8 * SECOND
    assert clock.left_s == pytest.approx(-0.5)


def test_lost_time_is_made_up_for_unless_it_is_forgiven(day):
    clock = PlayClock(1.0, day)
    clock.start(0)
    clock.run_to(1 * SECOND)
    day.seconds += 1.3
    clock.run_to(2 * SECOND)
    assert clock.left_s == pytest.approx(0.7)
    day.seconds += 1.0
    clock.forgive()
    clock.run_to(3 * SECOND)
    assert clock.left_s == pytest.approx(1.0)


def test_a_pause_takes_no_time(day):
    clock = PlayClock(1.0, day)
    clock.start(0)
    clock.run_to(2 * SECOND)
    day.seconds += 0.5
    clock.pause()
    day.seconds += 60
    assert clock.paused and clock.now_ns == SECOND // 2 and clock.left_s == math.inf
    clock.resume()
    assert not clock.paused
    assert clock.left_s == pytest.approx(1.5)


def test_another_rate_holds_from_now_on(day):
    clock = PlayClock(1.0, day)
    clock.start(0)
    clock.run_to(3 * SECOND)
    day.seconds += 1
    clock.set_rate(0.1)
    assert clock.now_ns == SECOND
    assert clock.left_s == pytest.approx(20.0)
    day.seconds += 5
    clock.set_rate(10.0)
    assert clock.left_s == pytest.approx(0.15)


def test_without_a_rate_it_jumps_but_not_while_it_is_paused(day):
    clock = PlayClock(0.0, day)
    clock.start(0)
    clock.run_to(7 * SECOND)
    assert (clock.now_ns, clock.left_s) == (7 * SECOND, 0.0)
    clock.pause()
    clock.run_to(9 * SECOND)
    assert (clock.now_ns, clock.left_s) == (7 * SECOND, math.inf)
    clock.resume()
    assert (clock.now_ns, clock.left_s) == (9 * SECOND, 0.0)


def test_it_starts_anew_in_the_past(day):
    clock = PlayClock(1.0, day)
    clock.start(9 * SECOND)
    clock.run_to(10 * SECOND)
    day.seconds += 3
    clock.start(2 * SECOND)
    assert clock.now_ns == 2 * SECOND
    clock.run_to(3 * SECOND)
    assert clock.left_s == pytest.approx(1.0)
