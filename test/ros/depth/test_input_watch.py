# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Silence of the inputs, by a clock under the test's control."""

from __future__ import annotations

import pytest

from dvmvs_ros.depth.input_watch import Input, InputWatch


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
