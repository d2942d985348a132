# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Messages of several topics in the order of their sending, which no middleware keeps.

A process that was busy finds a queue for each topic, and would otherwise take an answer before its question.
"""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Callable
from itertools import count
from typing import NamedTuple

from rclpy.subscription import Subscription

_TELLS = hasattr(Subscription, "CallbackType")
"""Humble's rclpy keeps the time of sending to itself."""


class _Waiting(NamedTuple):
    sent_ns: int
    number: int
    arrived: int
    handle: Callable[[bytes], None]
    message: bytes


class SendingOrder:
    """Holds every message back for some rounds, and hands those that came meanwhile on in the order of their sending.

    That order is told by the clocks of the publishers' hosts. Where rclpy or the middleware does not tell it, messages
    stay in the order in which they came. Call `flush` from a timer of the executor that reads the messages: between
    two calls it takes a message of every topic that has one, so a process that was suspended still reads what came
    meanwhile before it hands anything on. Seconds would pass during the suspension, rounds do not. A topic that gave a
    message in a round may have more in its queue, all sent after that one: what was sent later waits for them.

    Args:
        hold: calls of `flush` that a message waits for, its own not counted; one that comes later than this behind
            its followers is handed on when it comes.
        longest: calls after which a message waits for no queue any longer, since a publisher's clock may be behind.
    """

    def __init__(self, hold: int, longest: int) -> None:
        self._hold = hold
        self._longest = longest
        self._round = 0
        self._waiting: list[_Waiting] = []
        self._numbers = count()
        self._read: dict[object, int] = {}

    def callback(self, handle: Callable[[bytes], None], came: Callable[[], None] = lambda: None) -> Callable[..., None]:
        """Return a callback for a subscription.

        Args:
            handle: gets its messages, in order.
            came: called for each at once.
        """

        def add(message: bytes, sent_ns: int) -> None:
            came()
            sent_ns = sent_ns or time.time_ns()
            self._read[add] = sent_ns
            heapq.heappush(self._waiting, _Waiting(sent_ns, next(self._numbers), self._round, handle, message))

        def with_info(message: bytes, info: dict[str, object]) -> None:
            add(message, info["source_timestamp"])

        def alone(message: bytes) -> None:
            add(message, 0)

        return with_info if _TELLS else alone

    def flush(self) -> None:
        """Hand on what has waited long enough, and all that was sent before that."""
        read_until_ns = min(self._read.values(), default=math.inf)
        self._read.clear()

        def is_due(one: _Waiting) -> bool:
            waited = self._round - one.arrived
            return waited >= (self._hold if one.sent_ns <= read_until_ns else self._longest)

        last_ns = max((one.sent_ns for one in self._waiting if is_due(one)), default=None)
        self._round += 1
        while last_ns is not None and self._waiting and self._waiting[0].sent_ns <= last_ns:
            self._next()

    def flush_all(self) -> None:
        """Hand on all that waits."""
        while self._waiting:
            self._next()

    def _next(self) -> None:
        one = heapq.heappop(self._waiting)
        one.handle(one.message)
