"""What happened to the images: counts by decision and by reason, and how long the answers took."""

from __future__ import annotations

import threading
from collections import Counter, deque

import numpy as np

from dvmvs_core.keyframes import KeyframeDecision
from dvmvs_ros.drops import DropReason

WINDOW = 1000
"""Latencies that the median and the 95th percentile are taken over."""


class Statistics:
    """Counts of one node, safe to add to from several threads.

    Every image received ends in exactly one place: a decision of the engine, a drop, or still waiting.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._received = 0
        self._decisions: Counter[KeyframeDecision] = Counter()
        self._drops: Counter[DropReason] = Counter()
        self._published = 0
        self._latency_ms: deque[float] = deque(maxlen=WINDOW)

    def add_received(self) -> int:
        """Count an image, and return its running number, from 0."""
        with self._lock:
            self._received += 1
            return self._received - 1

    def add_decision(self, decision: KeyframeDecision) -> None:
        """Count an answer of the engine."""
        with self._lock:
            self._decisions[decision] += 1

    def add_drop(self, reason: DropReason) -> None:
        """Count an image that was dropped."""
        with self._lock:
            self._drops[reason] += 1

    def add_published(self, latency_ms: float) -> None:
        """Count a depth image, with the time from the image's arrival to its publication."""
        with self._lock:
            self._published += 1
            self._latency_ms.append(latency_ms)

    def summary(self) -> dict[str, str]:
        """Return all counts that are not zero, and the latency, as text for `/diagnostics`."""
        with self._lock:
            summary = {"images received": self._received, "depth images published": self._published}
            summary.update({f"decided {d.name.lower()}": n for d, n in self._decisions.items()})
            summary.update({f"dropped {reason.value}": n for reason, n in self._drops.items()})
            latency = np.array(self._latency_ms)
        values = {key: str(count) for key, count in summary.items()}
        if latency.size:
            values["latency median ms"] = f"{np.median(latency):.1f}"
            values["latency p95 ms"] = f"{np.percentile(latency, 95):.1f}"
        return values

    @property
    def dropped(self) -> int:
        """Number of images dropped."""
        with self._lock:
            return sum(self._drops.values())
