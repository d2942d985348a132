# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Where the time of a step goes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import torch

PHASES = ("data", "augmentation", "forward", "backward", "optimiser")
"""Waiting for data; augmenting it; predictions and losses; gradients; clipping, Adam and the weight average."""


class Stopwatch:
    """Adds up seconds by phase.

    Args:
        device: where the phases compute.
        exact: wait for a GPU at the end of each phase; otherwise its work shows where something waits for it.
    """

    def __init__(self, device: torch.device, exact: bool = False) -> None:
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self._waits = exact and device.type == "cuda"
        self._device = device

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measure the block as a part of a phase."""
        start = time.perf_counter()
        yield
        if self._waits:
            torch.cuda.synchronize(self._device)
        self.seconds[name] += time.perf_counter() - start

    def reset(self) -> None:
        """Start again from 0."""
        self.seconds = dict.fromkeys(PHASES, 0.0)
