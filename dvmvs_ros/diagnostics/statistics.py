# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What happened to the images: counts by decision and by reason, rates, and how long each stage took."""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from itertools import takewhile
from typing import NamedTuple

import numpy as np

from dvmvs_core.keyframes import KeyframeDecision
from dvmvs_ros.depth.frame_timeline import DropReason, FrameStage, FrameTimeline

WINDOW = 1000
"""Times of a stage that the median and the 95th percentile are taken over."""

RATE_WINDOW_S = 5.0
"""Rates and recent drops are counted over so long."""

LATENCY_WINDOW_S = 30.0
"""How late depth is of late: long enough for a few images where they take seconds each."""

MAX_RECENT = 10_000
"""Images and camera_infos that are remembered one by one."""

LOST = (KeyframeDecision.TRACKING_LOST, KeyframeDecision.STILL_LOST, KeyframeDecision.INVALID_POSE)


class Rates(NamedTuple):
    """How often something happened lately, a second."""

    images: float
    camera_info: float
    depth: float
    keyframes: float


class _Ended(NamedTuple):
    """An image that was answered or dropped: when, how, and how late its depth was, if it got any."""

    time_s: float
    outcome: KeyframeDecision | DropReason
    latency_ms: float | None


class Statistics:
    """Counts of one node, safe to add to from several threads.

    Every image received ends in exactly one place: a decision of the engine, a drop, or still waiting.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._started_s = clock()
        self._received = self._published = 0
        self._outcomes: Counter[KeyframeDecision | DropReason] = Counter()
        self._last_decision: KeyframeDecision | None = None
        self._stages: dict[FrameStage, deque[float]] = defaultdict(lambda: deque(maxlen=WINDOW))
        self._images_s: deque[float] = deque(maxlen=MAX_RECENT)
        self._camera_infos_s: deque[float] = deque(maxlen=MAX_RECENT)
        self._ended: deque[_Ended] = deque(maxlen=MAX_RECENT)

    def add_received(self) -> int:
        """Count an image, and return its running number, from 0."""
        with self._lock:
            self._received += 1
            self._images_s.append(self._clock())
            return self._received - 1

    def add_camera_info(self) -> None:
        """Count a camera_info."""
        with self._lock:
            self._camera_infos_s.append(self._clock())

    def add(self, timeline: FrameTimeline) -> None:
        """Count an image that was answered or dropped, and the stages that it went through."""
        outcome, stages_ms = timeline.outcome, timeline.stages_ms()
        with self._lock:
            self._outcomes[outcome] += 1
            self._ended.append(_Ended(self._clock(), outcome, stages_ms.get(FrameStage.TOTAL)))
            self._published += FrameStage.TOTAL in stages_ms
            if isinstance(outcome, KeyframeDecision):
                self._last_decision = outcome
            for stage, ms in stages_ms.items():
                self._stages[stage].append(ms)

    def counts(self) -> dict[str, str]:
        """Return all counts that are not zero, as text."""
        with self._lock:
            counts = {"images received": self._received, "depth images published": self._published}
            # Decisions first.
            for outcome, count in sorted(self._outcomes.items(), key=lambda item: isinstance(item[0], DropReason)):
                dropped = isinstance(outcome, DropReason)
                counts[f"dropped {outcome.value}" if dropped else f"decided {outcome.name.lower()}"] = count
        return {key: str(count) for key, count in counts.items()}

    def latencies(self) -> dict[str, str]:
        """Return median and 95th percentile of every stage that was seen, as text."""
        with self._lock:
            stages = {stage: np.array(self._stages[stage]) for stage in FrameStage if self._stages[stage]}
        values = {}
        for stage, times_ms in stages.items():
            values[f"{stage.value} median ms"] = f"{np.median(times_ms):.1f}"
            values[f"{stage.value} p95 ms"] = f"{np.percentile(times_ms, 95):.1f}"
        return values

    def rates_hz(self) -> Rates:
        """Return how often each came lately."""
        with self._lock:
            now_s = self._clock()
            ended = self._recently_ended(RATE_WINDOW_S)
            keyframes = [one for one in ended if one.outcome is KeyframeDecision.KEYFRAME]
            depths = [one for one in ended if one.latency_ms is not None]
            images, infos = (_count_since(now_s - RATE_WINDOW_S, s) for s in (self._images_s, self._camera_infos_s))
            # Right after the start the window is not full yet.
            window_s = min(max(now_s - self._started_s, 1.0), RATE_WINDOW_S)
        return Rates(*(count / window_s for count in (images, infos, len(depths), len(keyframes))))

    def recent_latency_s(self) -> float:
        """Return the 95th percentile of how late depth came of late, seconds; 0 if none came."""
        with self._lock:
            recent = [one.latency_ms for one in self._recently_ended(LATENCY_WINDOW_S) if one.latency_ms is not None]
        return float(np.percentile(recent, 95)) * 1e-3 if recent else 0.0

    def drop_ratio(self) -> float:
        """Return the share of the images of late that were dropped, for whatever reason."""
        dropped = self.recent_drops().total()
        with self._lock:
            received = _count_since(self._clock() - RATE_WINDOW_S, self._images_s)
        return min(1.0, dropped / received) if received else float(dropped > 0)

    def recent_drops(self) -> Counter[DropReason]:
        """Return what was dropped lately, by reason."""
        with self._lock:
            recent = self._recently_ended(RATE_WINDOW_S)[::-1]
        return Counter(one.outcome for one in recent if isinstance(one.outcome, DropReason))

    def drops(self, reason: DropReason) -> int:
        """Return how many images were dropped for a reason."""
        with self._lock:
            return self._outcomes[reason]

    def lost_tracking(self) -> bool:
        """Return whether the last image that the engine answered had no usable pose."""
        with self._lock:
            return self._last_decision in LOST

    def _recently_ended(self, window_s: float) -> list[_Ended]:
        """The images of a time until now, the newest first."""
        now_s = self._clock()
        return list(takewhile(lambda one: now_s - one.time_s < window_s, reversed(self._ended)))


def _count_since(since_s: float, times_s: deque[float]) -> int:
    return sum(1 for _ in takewhile(lambda time_s: time_s > since_s, reversed(times_s)))
