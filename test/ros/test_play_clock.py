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


@pytest.fixture
def play(clock):
    """Function of rate, start and end in seconds: a clock that is told to run from one to the other."""

    def play(rate: float, start: int, end: int) -> PlayClock:
        played = PlayClock(rate, clock)
        played.start(start * SECOND)
        played.run_to(end * SECOND)
        return played

    return play


def test_it_runs_at_its_rate_and_never_past_what_it_runs_to(clock):
    played = PlayClock(2.0, clock)
    played.start(5 * SECOND)
    assert played.now_ns == 5 * SECOND
    clock.now_s += 1
    assert played.now_ns == 5 * SECOND, "it was not told to run"
    played.start(5 * SECOND)
    played.run_to(8 * SECOND)
    assert played.left_s == pytest.approx(1.5)
    clock.now_s += 1
    assert played.now_ns == 7 * SECOND
    assert played.left_s == pytest.approx(0.5)
    clock.now_s += 1
    assert played.now_ns == 8 * SECOND
    assert played.left_s == pytest.approx(-0.5)


def test_lost_time_is_made_up_for_unless_it_is_forgiven(clock, play):
    played = play(1.0, 0, 1)
    clock.now_s += 1.3
    played.run_to(2 * SECOND)
    assert played.left_s == pytest.approx(0.7)
    clock.now_s += 1.0
    played.forgive()
    played.run_to(3 * SECOND)
    assert played.left_s == pytest.approx(1.0)


def test_a_pause_takes_no_time(clock, play):
    played = play(1.0, 0, 2)
    clock.now_s += 0.5
    played.pause()
    clock.now_s += 60
    assert played.paused and played.now_ns == SECOND // 2 and played.left_s == math.inf
    played.resume()
    assert not played.paused
    assert played.left_s == pytest.approx(1.5)


def test_another_rate_holds_from_now_on(clock, play):
    played = play(1.0, 0, 3)
    clock.now_s += 1
    played.set_rate(0.1)
    assert played.now_ns == SECOND
    assert played.left_s == pytest.approx(20.0)
    clock.now_s += 5
    played.set_rate(10.0)
    assert played.left_s == pytest.approx(0.15)


def test_without_a_rate_it_jumps_but_not_while_it_is_paused(play):
    played = play(0.0, 0, 7)
    assert (played.now_ns, played.left_s) == (7 * SECOND, 0.0)
    played.pause()
    played.run_to(9 * SECOND)
    assert (played.now_ns, played.left_s) == (7 * SECOND, math.inf)
    played.resume()
    assert (played.now_ns, played.left_s) == (9 * SECOND, 0.0)


def test_it_starts_again_in_the_past(clock, play):
    played = play(1.0, 9, 10)
    clock.now_s += 3
    played.start(2 * SECOND)
    assert played.now_ns == 2 * SECOND
    played.run_to(3 * SECOND)
    assert played.left_s == pytest.approx(1.0)
