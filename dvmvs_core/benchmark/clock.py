# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Time of each stage of an engine, by standing between the engine and its parts."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable

import torch

from dvmvs_core.engine import DepthEngine
from dvmvs_core.runtime.plain import PlainRunner


class StageClock:
    """Collects milliseconds by stage.

    Args:
        device: its queue is waited for before each reading of the clock.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._ms: dict[str, list[float]] = defaultdict(list)
        self._frame: dict[str, float] = defaultdict(float)

    def now(self) -> float:
        """Seconds, after all that was asked of the device is done."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()

    def timed(self, stage: str, function: Callable) -> Callable:
        """Return the function, whose calls count for the stage."""

        def call(*arguments, **named):
            started = self.now()
            try:
                return function(*arguments, **named)
            finally:
                self._frame[stage] += (self.now() - started) * 1e3

        return call

    def end_frame(self) -> None:
        """Add up what the last frame took in each stage."""
        for stage, ms in self._frame.items():
            self._ms[stage].append(ms)
        self._frame.clear()

    def medians(self) -> dict[str, float]:
        """Return the median of each stage over the frames, in ms."""
        return {stage: round(statistics.median(ms), 3) for stage, ms in self._ms.items()}


class _Timed:
    """An object whose calls are timed and whose attributes are its own."""

    def __init__(self, part: Callable, clock: StageClock, stage: str) -> None:
        self._part = part
        self._call = clock.timed(stage, part)

    def __call__(self, *arguments):
        return self._call(*arguments)

    def __getattr__(self, name: str):
        return getattr(self._part, name)


def clocked(engine: DepthEngine) -> StageClock:
    """Put a clock into an engine, which is of no other use afterwards.

    The stages are image, features, depth and confidence. Where the parts of depth run one after another, they are
    listed too: plane_sweep, encoder, lstm, decoder and refinement; in a CUDA graph they cannot be told apart.
    """
    clock = StageClock(engine.device)
    runner = engine._runner
    engine._image = clock.timed("image", engine._image)
    engine.rate_depth = clock.timed("confidence", engine.rate_depth)
    if isinstance(runner, PlainRunner):
        _clock_modules(runner._network, clock)
    else:
        parts = {"plane_sweep": "sweep", **{stage: stage for stage in ("encoder", "lstm", "decoder", "refinement")}}
        for stage, name in parts.items():
            if getattr(runner, f"_{name}", None) is not None:
                setattr(runner, f"_{name}", _Timed(getattr(runner, f"_{name}"), clock, stage))
    runner.features = clock.timed("features", runner.features)
    runner.depth = clock.timed("depth", runner.depth)
    return clock


def _clock_modules(network: torch.nn.Module, clock: StageClock) -> None:
    modules = {"encoder": "encoder", "lstm": "lstm_fusion", "decoder": "decoder", "refinement": "refinement"}
    for stage, name in modules.items():
        module = getattr(network, name, None)
        if module is not None:
            module.forward = clock.timed(stage, module.forward)
    if getattr(network, "refinement", None) is not None:
        network.refinement.match = clock.timed("refinement", network.refinement.match)
    network.match = clock.timed("plane_sweep", network.match)
