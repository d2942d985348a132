# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What a run shows while it trains: where the time of a step goes, a progress bar, and the curves of TensorBoard."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from dvmvs_core.errors import PackageError

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


@contextlib.contextmanager
def training_progress(visible: bool) -> Iterator[Callable[[float, float, str], None]]:
    """Show a bar on stderr, and give a function that takes the share done, the seconds that it took, and a text."""
    if not visible:
        yield lambda progress, elapsed_s, text: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[left]}"), TimeElapsedColumn())
    with Progress(*columns, transient=True, console=Console(stderr=True)) as bar:
        task = bar.add_task("training", total=1.0, left="")

        def show(progress: float, elapsed_s: float, text: str) -> None:
            left = elapsed_s * (1.0 - progress) / progress if progress > 0.0 else math.nan
            bar.update(task, completed=progress, description=text, left=f"{left / 60.0:.1f} min left")

        yield show


FOLDER_NAME = "tensorboard"


class Board:
    """Writes what TensorBoard shows.

    Args:
        folder: the run folder; the events go into a folder of it.

    Raises:
        PackageError: if TensorBoard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise PackageError(
                f"TensorBoard is not installed ({error}); install it: pip install tensorboard"
            ) from error
        self._writer = SummaryWriter(str(folder / FOLDER_NAME))

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Add a point to each of some curves."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def picture(self, step: int, name: str, picture: np.ndarray) -> None:
        """Add an image (H, W, 3) uint8 RGB."""
        self._writer.add_image(name, picture, step, dataformats="HWC")

    def flush(self) -> None:
        """Write everything to disk."""
        self._writer.flush()
