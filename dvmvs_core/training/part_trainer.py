# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What trainers of the networks that serve matching have in common: loop, step, and going on from a checkpoint."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dvmvs_core.environment import versions
from dvmvs_core.foreign import foreign
from dvmvs_core.model.part_files import save_part
from dvmvs_core.training.loop import LoopConfig
from dvmvs_core.training.optimisation import WeightAverage, learning_rate_at
from dvmvs_core.training.run_folder import RunFolder, attempt
from dvmvs_core.training.stopping import SkippedSteps


class PartTrainer(ABC):
    """Trains one network. A subclass draws what it learns from, and says what a step is.

    Args:
        trains: what it trains, for a person.
        weights: the file that is written, in the run folder.
        loop: length, rates and intervals.
        network: on its device.
        optimiser: of its parameters.
        commands: that led to the weights.

    Raises:
        DataError: if the run folder cannot be made.
    """

    def __init__(
        self,
        trains: str,
        weights: Path,
        loop: LoopConfig,
        network: nn.Module,
        optimiser: torch.optim.Optimizer,
        commands: tuple[str, ...],
    ) -> None:
        self.config = loop
        self.network = network
        self.step = 0
        self.elapsed_s = 0.0
        self.weights = weights
        self._trains = trains
        self._left_s = math.inf
        self._average = WeightAverage(network, loop.average_decay)
        self._optimiser = optimiser
        self._folder = RunFolder(weights.parent)
        self._commands = commands
        self._losses: list[float] = []
        self._skipped = SkippedSteps()

    @property
    def progress(self) -> float:
        """The part of the run that is over, 0…1."""
        return self.config.progress(self.step, self.elapsed_s, self._left_s)

    def save(self) -> None:
        """Write everything that is needed to go on from here.

        Raises:
            DataError: if that fails; the checkpoint before it is still whole.
        """
        self._folder.save(
            {
                "network": self.network.state_dict(),
                "average": self._average.network.state_dict(),
                "optimiser": self._optimiser.state_dict(),
                "step": self.step,
                "elapsed_s": self.elapsed_s,
                "bad_steps": self._skipped.in_a_row,
                "losses": self._losses,
                "commands": list(self._commands),
            }
        )

    def resume(self) -> None:
        """Go on from the checkpoint in the run folder.

        Raises:
            DataError: if there is none, it is broken, or it is of another network.
        """
        state = self._folder.load()
        with foreign(f"{self._folder.checkpoint} is no checkpoint of {self._trains}"):
            self.network.load_state_dict(state["network"])
            self._average.network.load_state_dict(state["average"])
            self._optimiser.load_state_dict(state["optimiser"])
            self.step, self.elapsed_s = state["step"], state["elapsed_s"]
            self._skipped.in_a_row, self._losses = state["bad_steps"], state["losses"]
            self._commands = (*state["commands"], *self._commands)
        self._folder.forget_after(self.step)

    @abstractmethod
    def train_step(self) -> float:
        """Do one optimiser step and return its loss."""

    @abstractmethod
    def export(self) -> Mapping[str, float | None]:
        """Validate and write the averaged weights, and return the figures."""

    def _steps(self, stop: Callable[[], bool]) -> Iterator[int]:
        """Do step after step to the end of the run, or until stopped, and yield the number of each that is done.

        Their time counts, and checkpoints are written on the way.
        """
        last_saved, clock = self.elapsed_s, time.monotonic()
        while self.progress < 1.0 and not stop():
            self.train_step()
            now = time.monotonic()
            self.elapsed_s, clock = self.elapsed_s + now - clock, now
            yield self.step
            if self.elapsed_s - last_saved >= 60.0 * self.config.save_minutes:
                attempt(self.save)
                last_saved = self.elapsed_s

    def _end(self) -> bool:
        """Write checkpoint and weights, and return whether the end of the run was reached."""
        self.save()
        self.export()
        return self.progress >= 1.0

    def _set_learning_rate(self) -> None:
        """Set that of the next step."""
        rate = learning_rate_at(
            self.config.learning_rate, self.step, self.progress, self.config.warm_up_steps, self.config.final_rate
        )
        for group in self._optimiser.param_groups:
            group["lr"] = rate

    def _finish_step(self, loss: Tensor) -> float:
        """Change the weights by their gradients, unless these are not finite, and return the loss.

        Raises:
            DataError: if they were not in many steps one after the other.
        """
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip_norm or math.inf)
        finite = bool(torch.isfinite(norm))
        if finite:
            self._optimiser.step()
            self._average.update(self.network, self.step)
        self._losses.append(loss.item())
        self._skipped.note(self.step, finite, self._folder.checkpoint)
        self.step += 1
        return self._losses[-1]

    def _write_weights(self, figures: Mapping[str, Any], size: tuple[int, int], **more: Any) -> None:
        """Write the averaged weights with what made them: figures on what was held out, the size, and more.

        Raises:
            WeightsError: if they cannot be written.
        """
        metadata = {
            "commands": list(self._commands),
            "step": self.step,
            "minutes": round(self.elapsed_s / 60.0, 1),
            "finished": self.progress >= 1.0,
            **more,
            "size": list(size),
            "held_out": figures,
            "versions": versions(),
        }
        save_part(self.weights, self._average.network, metadata)
