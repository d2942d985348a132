# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Time of each stage of an engine."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class StageClock:
    """A `Timer` that collects milliseconds by stage.

    Attributes:
        device: its queue is waited for before each reading of the clock; the CPU's is empty.
    """

    def __init__(self) -> None:
        self.device = torch.device("cpu")
        self._ms: dict[str, list[float]] = defaultdict(list)
        self._frame: dict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Count what runs within for the stage."""
        started = self._now()
        try:
            yield
        finally:
            self._frame[stage] += (self._now() - started) * 1e3

    def end_frame(self) -> None:
        """Add up what the last frame took in each stage."""
        for stage, ms in self._frame.items():
            self._ms[stage].append(ms)
        self._frame.clear()

    def clear(self) -> None:
        """Forget what was collected, as after the warm-up."""
        self._ms.clear()
        self._frame.clear()

    def medians(self) -> dict[str, float]:
        """Return the median of each stage over the frames, in ms."""
        return {stage: round(statistics.median(ms), 3) for stage, ms in self._ms.items()}

    def _now(self) -> float:
        """Seconds, after all that was asked of the device is done."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()
