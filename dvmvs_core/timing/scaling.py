# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Cost of a keyframe against measurement frames, planes and resolution."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from itertools import islice

from dvmvs_core.config import EngineConfig
from dvmvs_core.engine import DepthEngine
from dvmvs_core.model.dvmvs import FusionNet, PairNet, build_network
from dvmvs_core.runtime.wall_frames import wall_frames
from dvmvs_core.timing.compare import warm_up_frames
from dvmvs_core.timing.growth import peak_device_mb, resident_mb

MEASUREMENT_FRAMES = (1, 2, 3, 5, 7)
PLANES = (32, 64, 96, 128)
RESOLUTIONS = ((256, 320), (384, 480), (512, 640), (640, 960))


def points() -> list[tuple[str, int | tuple[int, int]]]:
    """What is varied, and to which values; sizes are (height, width)."""
    axes = {
        "measurement_frames": MEASUREMENT_FRAMES,
        "depth_hypotheses": PLANES,
        "resolution": RESOLUTIONS,
    }
    return [(axis, value) for axis, values in axes.items() for value in values]


def scaling(
    network: PairNet | FusionNet,
    config: EngineConfig,
    keyframes: int,
    advance: Callable[[int], None] = lambda steps: None,
) -> list[dict]:
    """Measure each point, all else as in the network and the configuration.

    Another number of planes or another resolution has weights of its own, which are random here: time does not depend
    on them.
    """
    rows = []
    for axis, value in points():
        model, one = network, config.replace(confidence=False)
        if axis == "measurement_frames":
            one = one.replace(keyframes=one.keyframes.replace(measurement_frames=value))
        elif axis == "depth_hypotheses":
            model = build_network(network.config.replace(depth_hypotheses=value))
        else:
            model = build_network(network.config.replace(height=value[0], width=value[1]))
        rows.append({"axis": axis, "value": _value(value), **measure_point(model, one, keyframes)})
        advance(1)
    return rows


def measure_point(network: PairNet | FusionNet, config: EngineConfig, keyframes: int) -> dict:
    """Return what so many keyframes take, the median, and memory after them."""
    engine = DepthEngine(network, config)
    needed = warm_up_frames(config)
    wall, cpu = [], []
    for number, frame in enumerate(islice(wall_frames(), needed + keyframes)):
        started_cpu, started = time.process_time(), time.perf_counter()
        engine.step(frame)
        if number >= needed:
            wall.append((time.perf_counter() - started) * 1e3)
            cpu.append((time.process_time() - started_cpu) * 1e3)
    return {
        "frame_ms": round(statistics.median(wall), 3),
        "cpu_ms": round(statistics.median(cpu), 3),
        "memory_mb": round(resident_mb(), 1),
        "device_memory_mb": peak_device_mb(engine.device),
    }


def _value(value: int | tuple[int, int]) -> int | str:
    return value if isinstance(value, int) else f"{value[1]}x{value[0]}"
