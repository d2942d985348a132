# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The loop that trains the regulariser, while other processes record what it learns from.

A run folder holds `clips/` and `held_out/` (recorded keyframes), `last.pt` (everything needed to go on), `log.jsonl`
(one object a line) and `regulariser.safetensors` (the averaged weights).

What a step draws depends on the seed and its number. So a run of a number of steps on clips that are all there comes
to the same weights, resumed or not.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dvmvs_core.config import SIZE_MULTIPLE
from dvmvs_core.errors import ConfigError, DataError
from dvmvs_core.model.regulariser import (
    Regulariser,
    RegulariserInputs,
    load_regulariser,
    prepared,
    regulariser_metadata,
)
from dvmvs_core.runtime.devices import resolve_device
from dvmvs_core.training.autocast import Arithmetic
from dvmvs_core.training.loop import LoopConfig
from dvmvs_core.training.monitoring import Stopwatch, training_progress
from dvmvs_core.training.part_trainer import PartTrainer
from dvmvs_core.training.regulariser.clip_files import Keyframes, joined, read_clip
from dvmvs_core.training.regulariser.held_out_figures import held_out_figures
from dvmvs_core.training.regulariser.input_augmentation import augmented
from dvmvs_core.training.regulariser.recording import Walks
from dvmvs_core.training.regulariser.recording_processes import STOPPING_S, ClipFolder, RecordingProcesses
from dvmvs_core.training.regulariser.regulariser_loss import keyframes_loss
from dvmvs_core.training.run_folder import attempt
from dvmvs_core.training.stopping import Deadline, stop_on_signal

logger = logging.getLogger(__name__)

WEIGHTS_NAME = "regulariser.safetensors"

LEARNING_RATE, TUNING_RATE = 1e-3, 3e-4
"""Highest rate of a run from nothing, and of one that goes on from weights."""

CLIPS_A_STEP, KEYFRAMES_A_CLIP = 4, 2

HELD_OUT_SEED = 2**29 - 1
"""Worlds of this seed are never trained on."""

_LOOK_STEPS = 50  # between two looks at what was recorded
_DRAWS = 31  # next to the seed of a run


@dataclass(frozen=True)
class RegulariserPlan:
    """What to record, and how to train.

    Args:
        out: the run folder.
        loop: length, seed, rates, arithmetic and intervals; what concerns depth networks alone is not looked at.
        init: weights to start from; None starts from matched depth.
        height: of the images, pixels.
        width: of the images, pixels.
        workers: processes that record.
        clips: recorded at most: about 11 MB each at 320×256.
        held_out: clips that figures are made on.
        device: that trains.
        textures: that the worlds of each kind of clip share.
        commands: that led to the weights.
    """

    out: Path
    loop: LoopConfig
    init: Path | None = None
    height: int = 256
    width: int = 320
    workers: int = 1
    clips: int = 1000
    held_out: int = 3
    device: str = "auto"
    textures: int = 256
    commands: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what cannot be recorded or trained."""
        for name, value in {"height": self.height, "width": self.width}.items():
            if value < 2 * SIZE_MULTIPLE or value % SIZE_MULTIPLE:
                raise ConfigError(
                    f"{name} must be a multiple of {SIZE_MULTIPLE}, at least {2 * SIZE_MULTIPLE}; got {value}"
                )
        for name, value in {"clips": self.clips, "held-out clips": self.held_out}.items():
            if value < 1:
                raise ConfigError(f"{name} must be 1 or more; got {value}")
        if self.workers < 0:
            raise ConfigError(f"workers must be 0 or more; got {self.workers}")


class RegulariserTrainer(PartTrainer):
    """Trains the regulariser.

    Args:
        plan: what to record, and how to train.

    Raises:
        WeightsError: if the weights to start from cannot be loaded.
        DeviceError: if the device does not exist, or cannot compute in that precision.
        DataError: if the run folder cannot be made.
    """

    def __init__(self, plan: RegulariserPlan) -> None:
        self.plan = plan
        self._deadline = None if plan.loop.deadline_s is None else Deadline(plan.loop.deadline_s)
        device = resolve_device(plan.device)
        self._device = device
        torch.manual_seed(plan.loop.seed)
        network = load_regulariser(plan.init).requires_grad_(True).train() if plan.init else Regulariser()
        network = network.to(device, memory_format=torch.channels_last)
        rates = {"betas": (0.9, 0.99), "weight_decay": 1e-4}
        optimiser = torch.optim.AdamW(network.parameters(), plan.loop.learning_rate, **rates)
        self._arithmetic = Arithmetic(plan.loop.precision, device)
        before = regulariser_metadata(plan.init).get("commands", ()) if plan.init else ()
        commands = (*before, *plan.commands)
        super().__init__("a regulariser", plan.out / WEIGHTS_NAME, plan.loop, network, optimiser, commands)
        self.stopwatch = Stopwatch(device)
        self._damaged: set[Path] = set()
        size = (plan.height, plan.width)
        self._clips = ClipFolder(plan.out / "clips", Walks(*size, self.config.seed, plan.textures), plan.clips)
        self._held_out = ClipFolder(plan.out / "held_out", Walks(*size, HELD_OUT_SEED, plan.textures), plan.held_out)
        self._files: list[Path] = []

    def run(self) -> bool:
        """Record and train to the end of the run, or until the first Ctrl-C or SIGTERM.

        Either way a checkpoint and the weights are written. Time counts from the first step on, but for a deadline.

        Returns:
            Whether the end was reached.

        Raises:
            DataError: if nothing can be recorded, in time, or the last checkpoint cannot be written.
            WeightsError: if the last weights cannot be written.
        """
        folders = (self._held_out, self._clips)
        with (
            stop_on_signal() as stop,
            RecordingProcesses(folders, self.plan.workers) as recording,
            training_progress(True) as show,
        ):
            if not self._wait_for_clips(recording, stop, show):
                return False
            last_validated = self.elapsed_s
            self._look_at_the_deadline()
            for step in self._steps(stop):
                self._look_at_the_deadline()
                if step % self.config.log_steps == 0:
                    self._log_training()
                show(self.progress, self.elapsed_s, f"step {step}, {len(self._files)} clips")
                if step % _LOOK_STEPS == 0:
                    recording.check()
                if self.elapsed_s - last_validated >= 60.0 * self.config.validate_minutes:
                    attempt(self.export)
                    last_validated = self.elapsed_s
        return self._end()

    def train_step(self) -> float:
        """Do one optimiser step and return its loss; a step whose gradient is not finite changes no weight.

        Raises:
            DataError: if that happened in many steps one after the other, or there is no clip to learn from.
        """
        clock = self.stopwatch.phase
        random = np.random.default_rng([self.config.seed, _DRAWS, self.step])
        self._set_learning_rate()
        with clock("data"):
            keyframes = self._drawn(random).to(self._device)
        with clock("augmentation"):
            inputs = augmented(prepared(keyframes.inputs), random)
            inputs = RegulariserInputs(*(part.contiguous(memory_format=torch.channels_last) for part in inputs))
        with clock("forward"):
            loss = keyframes_loss(self.network, inputs, keyframes, self._arithmetic)
        with clock("backward"):
            self._optimiser.zero_grad(set_to_none=True)
            loss.backward()
        with clock("optimiser"):
            return self._finish_step(loss)

    def validate(self) -> dict[str, float | None]:
        """Return the figures of the averaged weights on the held-out clips."""
        clips = (self._read(path).to(self._device) for path in self._held_out.files())
        return held_out_figures(self._average.network, clips)

    def export(self) -> dict[str, float | None]:
        """Validate and write the averaged weights, and return the figures.

        Raises:
            WeightsError: if they cannot be written.
            DataError: if a held-out clip cannot be read.
        """
        started = time.monotonic()
        figures = self.validate()
        self._log({"held_out": figures})
        self._write_weights(figures, (self.plan.height, self.plan.width), clips=len(self._clips.files()))
        if self._deadline is not None:
            self._deadline.note_export(time.monotonic() - started + STOPPING_S)
        return figures

    def _wait_for_clips(
        self, recording: RecordingProcesses, stop: Callable[[], bool], show: Callable[[float, float, str], None]
    ) -> bool:
        """Wait for all that figures are made on, and for enough to begin with; False if stopped."""
        first = min(CLIPS_A_STEP, self.plan.clips)
        while not stop():
            running = recording.running  # before the last look at the files
            recording.check()
            held_out, clips = len(self._held_out.files()), len(self._clips.files())
            if held_out == self.plan.held_out and clips >= first:
                return True
            if not running and not (clips and held_out):
                raise DataError(
                    f"{self.plan.out} holds {clips} clips and {held_out} held-out ones, and nothing records more; give"
                    " workers"
                )
            if not running:
                return True
            self._look_at_the_deadline()
            if self._left_s <= 0.0:
                raise DataError(
                    f"{self.plan.out} holds {clips} clips and {held_out} held-out ones of the {first} and"
                    f" {self.plan.held_out} that training begins with, and its deadline of {self.config.deadline_s:g} s"
                    " is near; give more seconds or workers, or go on with resume"
                )
            show(0.0, 0.0, f"recording: {held_out} of {self.plan.held_out} held out, {clips} clips")
            time.sleep(0.2)
        return False

    def _look_at_the_deadline(self) -> None:
        if self._deadline is not None:
            self._left_s = self._deadline.left_s()

    def _drawn(self, random: np.random.Generator) -> Keyframes:
        """The keyframes of a step."""
        if self.step % _LOOK_STEPS == 0 or not self._files:
            self._files = [path for path in self._clips.files() if path not in self._damaged]
        while self._files:
            chosen = random.choice(len(self._files), min(CLIPS_A_STEP, len(self._files)), replace=False)
            parts = []
            for path in [self._files[index] for index in chosen]:
                try:
                    parts.append(self._read(path, random, KEYFRAMES_A_CLIP))
                except DataError as error:
                    logger.warning("%s; it is left out", error)
                    self._damaged.add(path)
                    self._files.remove(path)
            if parts:
                return joined(parts)
        raise DataError(f"{self._clips.path} holds no clip that can be read")

    def _read(self, path: Path, *draws: Any) -> Keyframes:
        keyframes = read_clip(path, *draws)
        size, wanted = tuple(keyframes.truth.shape[-2:]), (self.plan.height, self.plan.width)
        if size != wanted:
            raise DataError(f"{path} is of images of {size}, this run of {wanted}; choose another folder or that size")
        return keyframes

    def _log_training(self) -> None:
        self._log(
            {
                "loss": sum(self._losses) / len(self._losses),
                "learning_rate": self._optimiser.param_groups[0]["lr"],
                "clips": len(self._files),
                "seconds": {phase: round(seconds, 3) for phase, seconds in self.stopwatch.seconds.items()},
            }
        )
        self._losses.clear()
        self.stopwatch.reset()

    def _log(self, values: dict[str, Any]) -> None:
        self._folder.log({"step": self.step, "minutes": round(self.elapsed_s / 60.0, 2), **values})
