# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Messages of several topics, handed on in the order of their sending."""

from __future__ import annotations

import pytest

from dvmvs_ros.messages.sending_order import SendingOrder

HOLD, LONGEST = 3, 8


@pytest.fixture
def heard() -> list[bytes]:
    return []


@pytest.fixture
def order() -> SendingOrder:
    return SendingOrder(HOLD, LONGEST)


def test_an_answer_comes_after_its_question(order, heard):
    answers, questions = order.callback(heard.append), order.callback(heard.append)
    answers(b"answer", {"source_timestamp": 2})
    questions(b"question", {"source_timestamp": 1})
    for _ in range(HOLD):
        order.flush()
        assert heard == [], "what was sent before may still be on its way"
    order.flush()
    assert heard == [b"question", b"answer"]


def test_what_was_sent_before_a_message_that_is_due_goes_with_it(order, heard):
    hear = order.callback(heard.append)
    hear(b"second", {"source_timestamp": 2})
    for _ in range(HOLD):
        order.flush()
    hear(b"first", {"source_timestamp": 1})
    hear(b"third", {"source_timestamp": 3})
    order.flush()
    assert heard == [b"first", b"second"]
    order.flush_all()
    assert heard[2:] == [b"third"]


def test_what_a_queue_still_holds_is_waited_for(order, heard):
    """A process that was suspended reads a message of each topic at a time, and one topic has many."""
    order.callback(heard.append)(b"image", {"source_timestamp": 6})
    clock = order.callback(heard.append)
    for tick in range(1, 7):
        clock(b"%d" % tick, {"source_timestamp": tick})
        order.flush()
    for _ in range(HOLD):
        order.flush()
    assert heard == [b"1", b"2", b"3", b"4", b"5", b"image", b"6"]


def test_a_host_whose_clock_is_ahead_is_heard(order, heard):
    """Though messages of another, whose clock is behind, come all the time."""
    hear = order.callback(heard.append)
    hear(b"ahead", {"source_timestamp": 10**12})
    for _ in range(LONGEST + 1):
        hear(b"behind", {"source_timestamp": 1})
        order.flush()
    assert b"ahead" in heard


def test_a_message_is_noticed_when_it_comes_and_not_when_it_is_handed_on(order, heard):
    noticed = []
    order.callback(heard.append, lambda: noticed.append(len(heard)))(b"one", {"source_timestamp": 1})
    order.flush_all()
    assert (noticed, heard) == ([0], [b"one"])


def test_middleware_that_does_not_tell_keeps_the_order_of_arrival(order, heard):
    hear = order.callback(heard.append)
    for message in (b"1", b"2", b"3"):
        hear(message, {"source_timestamp": 0})
    order.flush_all()
    assert heard == [b"1", b"2", b"3"]
