# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""A warning repeated thirty times a second is one line, and an unforeseen exception has its traceback once."""

from __future__ import annotations

from dvmvs_ros.process.node_log import MAX_KINDS, QuietLog, Unforeseen


def test_lines_that_differ_in_numbers_only_are_one_kind_and_are_counted():
    lines, now = [], [0.0]
    log = QuietLog(lines.append, period_s=5.0, clock=lambda: now[0])
    for i in range(150):
        now[0] = i / 30
        log(f"data must hold 100 bytes; got {i}")
    assert lines == ["data must hold 100 bytes; got 0"]
    now[0] = 5.1
    log("data must hold 100 bytes; got 7")
    assert lines[1:] == ["data must hold 100 bytes; got 7 (and 149 more like it before)"]


def test_another_kind_is_not_held_back():
    lines = []
    log = QuietLog(lines.append, clock=lambda: 0.0)
    for line in ("no transform", "unknown encoding", "no transform"):
        log(line)
    assert lines == ["no transform", "unknown encoding"]


def test_memory_is_bounded_whatever_the_lines_say():
    log = QuietLog(lambda line: None, clock=lambda: 0.0)
    for i in range(10 * MAX_KINDS):
        log("x" * i)
    assert len(log._kinds) <= MAX_KINDS


def test_the_traceback_is_told_once_and_then_a_line():
    lines = []
    unforeseen = Unforeseen(lines.append)

    def raise_and_report(value) -> None:
        try:
            raise ValueError(value)
        except ValueError as error:
            unforeseen.report(error, "a callback")

    for value in range(100):
        raise_and_report(value)
    assert unforeseen.count == 100
    assert len(lines) == 2
    assert "Traceback" in lines[0] and "Traceback" not in lines[1]
    try:
        [][1]
    except IndexError as error:
        unforeseen.report(error, "another place")
    assert "Traceback" in lines[2]
