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
from enum import Enum

import numpy as np

from dvmvs_core.keyframes import KeyframeDecision
from dvmvs_ros.depth.drops import DropReason

WINDOW = 1000
"""Times of a stage that the median and the 95th percentile are taken over."""

RATE_WINDOW_S = 5.0
"""Rates and recent drops are counted over so long."""

LATENCY_WINDOW_S = 30.0
"""How late depth is of late: long enough for a few images where they take seconds each."""

LOST = (KeyframeDecision.TRACKING_LOST, KeyframeDecision.STILL_LOST, KeyframeDecision.INVALID_POSE)


class Stage(Enum):
    """What an image goes through, in order. The values are keys of `/diagnostics`."""

    DECODE = "decode"
    """Message to pixels."""
    POSE = "wait for pose"
    """From there to the frame: the wait for its transform, then rectification."""
    QUEUE = "wait for engine"
    """From the frame to the start of the engine."""
    ENGINE = "engine"
    """Image to depth."""
    PUBLISH = "publish"
    """Depth to messages."""
    TOTAL = "latency"
    """From the image's arrival to the end of publication."""


class Happening(Enum):
    """What is counted by the second."""

    IMAGE = "images"
    CAMERA_INFO = "camera_info"
    DEPTH = "depth"
    KEYFRAME = "keyframes"


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
        self._received = 0
        self._decisions: Counter[KeyframeDecision] = Counter()
        self._drops: Counter[DropReason] = Counter()
        self._recent_drops: deque[tuple[float, DropReason]] = deque(maxlen=WINDOW)
        self._published = 0
        self._last_decision: KeyframeDecision | None = None
        self._stages: dict[Stage, deque[float]] = defaultdict(lambda: deque(maxlen=WINDOW))
        self._times: dict[Happening, deque[float]] = defaultdict(lambda: deque(maxlen=WINDOW))
        self._recent_latencies: deque[tuple[float, float]] = deque(maxlen=WINDOW)

    def add_received(self) -> int:
        """Count an image, and return its running number, from 0."""
        with self._lock:
            self._received += 1
            self._note(Happening.IMAGE)
            return self._received - 1

    def add_camera_info(self) -> None:
        """Count a camera_info."""
        with self._lock:
            self._note(Happening.CAMERA_INFO)

    def add_stage(self, stage: Stage, ms: float) -> None:
        """Note how long a stage of one image took."""
        with self._lock:
            self._stages[stage].append(ms)

    def add_decision(self, decision: KeyframeDecision) -> None:
        """Count an answer of the engine."""
        with self._lock:
            self._decisions[decision] += 1
            self._last_decision = decision
            if decision is KeyframeDecision.KEYFRAME:
                self._note(Happening.KEYFRAME)

    def add_drop(self, reason: DropReason) -> None:
        """Count an image that was dropped."""
        with self._lock:
            self._drops[reason] += 1
            self._recent_drops.append((self._clock(), reason))

    def add_published(self, latency_ms: float) -> None:
        """Count a depth image, with the time from the image's arrival to its publication."""
        with self._lock:
            self._published += 1
            self._note(Happening.DEPTH)
            self._stages[Stage.TOTAL].append(latency_ms)
            self._recent_latencies.append((self._clock(), latency_ms))

    def counts(self) -> dict[str, str]:
        """Return all counts that are not zero, as text."""
        with self._lock:
            counts = {"images received": self._received, "depth images published": self._published}
            counts.update({f"decided {decision.name.lower()}": n for decision, n in self._decisions.items()})
            counts.update({f"dropped {reason.value}": n for reason, n in self._drops.items()})
        return {key: str(count) for key, count in counts.items()}

    def latencies(self) -> dict[str, str]:
        """Return median and 95th percentile of every stage that was seen, as text."""
        with self._lock:
            stages = {stage: np.array(self._stages[stage]) for stage in Stage if self._stages[stage]}
        values = {}
        for stage, times_ms in stages.items():
            values[f"{stage.value} median ms"] = f"{np.median(times_ms):.1f}"
            values[f"{stage.value} p95 ms"] = f"{np.percentile(times_ms, 95):.1f}"
        return values

    def rate_hz(self, happening: Happening) -> float:
        """Return how often something happened lately."""
        with self._lock:
            now_s = self._clock()
            recent = sum(now_s - time_s < RATE_WINDOW_S for time_s in self._times[happening])
            # Right after the start the window is not full yet.
            window_s = min(max(now_s - self._started_s, 1.0), RATE_WINDOW_S)
        return recent / window_s

    def recent_latency_s(self) -> float:
        """Return the 95th percentile of how late depth came of late, seconds; 0 if none came."""
        with self._lock:
            now_s = self._clock()
            recent = [ms for time_s, ms in self._recent_latencies if now_s - time_s < LATENCY_WINDOW_S]
        return float(np.percentile(recent, 95)) * 1e-3 if recent else 0.0

    def drop_ratio(self) -> float:
        """Return the share of the images of late that were dropped, for whatever reason."""
        dropped = self.recent_drops().total()
        with self._lock:
            now_s = self._clock()
            received = sum(now_s - time_s < RATE_WINDOW_S for time_s in self._times[Happening.IMAGE])
        return min(1.0, dropped / received) if received else float(dropped > 0)

    def recent_drops(self) -> Counter[DropReason]:
        """Return what was dropped lately, by reason."""
        with self._lock:
            now_s = self._clock()
            return Counter(reason for time_s, reason in self._recent_drops if now_s - time_s < RATE_WINDOW_S)

    def drops(self, reason: DropReason) -> int:
        """Return how many images were dropped for a reason."""
        with self._lock:
            return self._drops[reason]

    def lost_tracking(self) -> bool:
        """Return whether the last image that the engine answered had no usable pose."""
        with self._lock:
            return self._last_decision in LOST

    def _note(self, happening: Happening) -> None:
        self._times[happening].append(self._clock())
