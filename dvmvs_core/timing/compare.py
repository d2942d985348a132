# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""One engine next to the plain reference path, frame by frame in the same run, so that other load meets both."""

from __future__ import annotations

import copy
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import torch

from dvmvs_core.config import EngineConfig
from dvmvs_core.engine import DepthEngine
from dvmvs_core.model.dvmvs import FusionNet, PairNet
from dvmvs_core.runtime.devices import network_precision, resolve_device
from dvmvs_core.runtime.wall_frames import wall_frames
from dvmvs_core.timing.growth import peak_device_mb, peak_resident_mb
from dvmvs_core.types import DepthPrediction, Frame

IN_A_ROW = 5
"""Keyframes that an engine gets before the next one has its turn. A robot runs one: in turn, frame by frame, each would
find its weights driven from the cache."""


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


def warm_up_frames(config: EngineConfig) -> int:
    """Frames after which every buffer is filled and each keyframe has all its measurement frames."""
    return max(4, config.keyframes.measurement_frames + 2)


@dataclass
class Timing:
    """What the keyframes of one engine took.

    Attributes:
        frame_ms: wall-clock time of each.
        cpu_ms: time of each on all cores together; on a busy machine it says more than the clock on the wall.
    """

    frame_ms: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)

    def measure(self, engine: DepthEngine, frame: Frame) -> DepthPrediction:
        """Give the engine a keyframe and note what it took until its depth was on the host."""
        cpu, wall = time.process_time(), time.perf_counter()
        prediction = engine.step(frame)
        self.frame_ms.append((time.perf_counter() - wall) * 1e3)
        self.cpu_ms.append((time.process_time() - cpu) * 1e3)
        return prediction

    def summary(self) -> dict[str, float]:
        """Return median and 95th percentile of the wall-clock time, and the median on the cores."""
        return {
            "median": round(statistics.median(self.frame_ms), 3),
            "p95": round(float(np.percentile(self.frame_ms, 95)), 3),
            "cpu_median": round(statistics.median(self.cpu_ms), 3),
        }


def compare(
    network: PairNet | FusionNet,
    config: EngineConfig,
    keyframes: int,
    with_reference: bool = True,
    advance: Callable[[int], None] = lambda steps: None,
) -> dict:
    """Measure an engine, and the reference path on the same keyframes.

    Confidence is left out of the frames' time, since the published method has none; it is one of the stages, and on a
    GPU `with_confidence_frame_ms` counts it. Where depth is matched after the network, the network alone is measured
    too, and is what the reference path is compared with.

    Args:
        network: what to run.
        config: how.
        keyframes: how many to measure.
        with_reference: whether to run the reference path too.
        advance: called with 1 after every keyframe.

    Returns:
        The figures, ready for JSON.
    """
    device_config = config.replace(confidence=False)
    started = time.perf_counter()
    engine = DepthEngine(copy.deepcopy(network), device_config)
    engine.warm_up()
    start_s = time.perf_counter() - started
    warm_up = warm_up_frames(config)
    # A second pass over the first frames fills every buffer before memory is read.
    for frame in islice(wall_frames(), warm_up):
        engine.step(frame)
    memory = {"peak_memory_mb": round(peak_resident_mb(), 1), "peak_device_memory_mb": peak_device_mb(engine.device)}

    engines = {"frame_ms": engine}
    if engine.matching is not None:
        engines["network_frame_ms"] = DepthEngine(copy.deepcopy(network), device_config.replace(matching="off"))
    network_name = list(engines)[-1]
    if with_reference:
        plain = config.replace(mode="reference", precision="float32", matching="off", confidence=False)
        engines["reference_frame_ms"] = DepthEngine(copy.deepcopy(network), plain)
    if engine.device.type == "cuda":
        engines["with_confidence_frame_ms"] = DepthEngine(copy.deepcopy(network), config.replace(confidence=True))
    runs_as = None
    while runs_as != (now := [one.runs_as for one in engines.values()]):  # a GPU may fail while it is measured
        runs_as = now
        timings, differences = _measure(engines, network_name, warm_up, keyframes, advance)
    figures = {"device": str(engine.device), "runs_as": engine.runs_as, "start_s": round(start_s, 2), **memory}
    figures.update({name: timing.summary() for name, timing in timings.items()})
    if with_reference:
        reference, own = figures["reference_frame_ms"], figures[network_name]
        figures["speedup"] = round(reference["median"] / own["median"], 2)
        figures["cpu_speedup"] = round(reference["cpu_median"] / own["cpu_median"], 2)
        figures["mean_relative_difference"] = float(np.mean(differences))
        figures["max_relative_difference"] = float(np.max(differences))
    plain = config.replace(mode="reference", matching="off")
    for name, one in {"stages_ms": config, "reference_stages_ms": plain}.items():
        if name == "stages_ms" or (with_reference and config.precision in ("auto", "float32")):
            figures[name] = _stages(network, one.replace(confidence=True), max(3, keyframes // 2))
    return figures


def _measure(
    engines: dict[str, DepthEngine], network_name: str, warm_up: int, keyframes: int, advance: Callable[[int], None]
) -> tuple[dict[str, Timing], list[np.ndarray]]:
    """Timings of each engine, and relative differences of depth from the reference, where it is one of them."""
    timings = {name: Timing() for name in engines}
    differences = []
    frames = list(islice(wall_frames(), warm_up + keyframes))
    for one in engines.values():
        one.reset()
        for frame in frames[:warm_up]:
            one.step(frame)
    for start in range(warm_up, len(frames), IN_A_ROW):
        block = frames[start : start + IN_A_ROW]
        depths = {name: [timings[name].measure(one, f).depth for f in block] for name, one in engines.items()}
        for own, plain in zip(depths[network_name], depths.get("reference_frame_ms", ()), strict=False):
            differences.append(np.abs(own - plain) / plain)
        advance(len(block))
    return timings, differences


def _stages(network: PairNet | FusionNet, config: EngineConfig, keyframes: int) -> dict[str, float]:
    clock = StageClock()
    engine = DepthEngine(copy.deepcopy(network), config, timer=clock)
    clock.device = engine.device
    engine.warm_up()
    frames = wall_frames()
    for frame in islice(frames, warm_up_frames(config)):
        engine.step(frame)
    clock.clear()
    for frame in islice(frames, keyframes):
        engine.step(frame)
        clock.end_frame()
    return clock.medians()


def describe(network: PairNet | FusionNet, config: EngineConfig) -> dict:
    """What was measured, for JSON."""
    model = network.config
    return {
        "preset": model.preset,
        "network": model.network,
        "precision": network_precision(config, model.preset, resolve_device(config.device)),
        "mode": config.mode,
        "matching": config.matching,
        "resolution": [model.width, model.height],
        "depth_hypotheses": model.depth_hypotheses,
        "measurement_frames": config.keyframes.measurement_frames,
        "threads": torch.get_num_threads(),
    }
