# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Memory of this process in MiB, and whether it grows with the number of keyframes."""

from __future__ import annotations

import gc
from collections.abc import Callable
from itertools import islice

import torch

from dvmvs_core.config import EngineConfig
from dvmvs_core.engine import DepthEngine
from dvmvs_core.model.dvmvs import FusionNet, PairNet, build_network
from dvmvs_core.process import peak_resident_bytes, resident_bytes
from dvmvs_core.runtime.wall_frames import wall_frames

_MIB = 2**20

SIZE = (96, 128)
"""Network resolution: what leaks, leaks at any, and this one is fast."""

SETTLED = 0.1
"""Share of the keyframes after which every buffer is filled."""


def resident_mb() -> float:
    """Resident memory now; the peak where the system does not tell."""
    return resident_bytes() / _MIB


def peak_resident_mb() -> float:
    """Largest resident memory so far."""
    return peak_resident_bytes() / _MIB


def peak_device_mb(device: torch.device) -> float | None:
    """Largest memory reserved on a CUDA device so far; None on a CPU."""
    return torch.cuda.max_memory_reserved(device) / _MIB if device.type == "cuda" else None


def growth(
    network: PairNet | FusionNet,
    config: EngineConfig,
    keyframes: int,
    advance: Callable[[int], None] = lambda steps: None,
) -> dict:
    """Measure memory after a tenth of the keyframes and after all of them.

    Returns:
        Resident memory at both, in MiB, and the growth between them in percent; on CUDA the device's too.
    """
    model = build_network(network.config.replace(height=SIZE[0], width=SIZE[1]))
    engine = DepthEngine(model, config)
    engine.warm_up()
    settled = max(1, int(keyframes * SETTLED))
    before = None
    for number, frame in enumerate(islice(wall_frames((120, 160)), keyframes + 1)):
        engine.step(frame)
        advance(1)
        if number == settled:
            before = _memory(engine.device)
    after = _memory(engine.device)
    return {
        "keyframes": keyframes,
        "settled_after": settled,
        "before_mb": before,
        "after_mb": after,
        "growth_percent": {key: round(100 * (after[key] / before[key] - 1), 3) for key in before},
    }


def _memory(device: torch.device) -> dict[str, float]:
    gc.collect()
    memory = {"resident": round(resident_mb(), 2)}
    if device.type == "cuda":
        memory["device"] = round(torch.cuda.memory_allocated(device) / 2**20, 2)
    return memory
