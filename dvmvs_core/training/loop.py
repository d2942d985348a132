# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The training loop: steps, stages, validation, checkpoints that a run can go on from, and a clean end on Ctrl-C.

A run folder holds `last.pt` (everything needed to go on), `log.jsonl` (one object a line), `NETWORK.safetensors`
(the averaged weights, ready for the engine), `NETWORK_best.safetensors` (those of the last validation in which any of
the four losses fell below all before it, the published rule) and `pictures/` (a contact sheet of every validation).

Nothing that a step does depends on when it is done: step n of a run counted in steps sees the same clips and random
numbers, resumed or not.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from dvmvs_core.data.encodings.pictures import encode_png
from dvmvs_core.errors import ConfigError, DataError
from dvmvs_core.foreign import foreign
from dvmvs_core.model.checkpoint import save_checkpoint
from dvmvs_core.model.checkpoint_parts import write_parts
from dvmvs_core.model.dvmvs import FusionNet, PairNet
from dvmvs_core.synthetic.clips import ClipBatch
from dvmvs_core.training.augmentation import augment_clip, draw_clip, prepare_clip
from dvmvs_core.training.autocast import Arithmetic, Precision, compile_parts
from dvmvs_core.training.clip_loss import ClipLoss
from dvmvs_core.training.clip_sources import HeldOut
from dvmvs_core.training.contact_sheets import contact_sheet
from dvmvs_core.training.losses import DepthLoss, LossMeter
from dvmvs_core.training.monitoring import Board, Stopwatch, training_progress
from dvmvs_core.training.optimisation import WeightAverage, learning_rate_at, recompute_batch_norm
from dvmvs_core.training.passes import predictions
from dvmvs_core.training.processes import Processes, share_batch_norm, single_process
from dvmvs_core.training.run_folder import RunFolder, attempt
from dvmvs_core.training.stages import Stage, enter_stage, stage_at
from dvmvs_core.training.stopping import Deadline, SkippedSteps, stop_on_signal

logger = logging.getLogger(__name__)

# Beside the seed of a run: what is drawn for a step, and for a clip.
_STEP_DRAWS, _CLIP_DRAWS = 23, 29


@dataclass(frozen=True)
class LoopConfig:
    """How long and how to optimise.

    Args:
        steps: optimiser steps of the whole run; or give `minutes` or `deadline_s`.
        minutes: wall-clock minutes of the whole run, earlier parts of a resumed one counted in.
        deadline_s: seconds from the start of the process to the end of its last export, start-up counted in; with
            `steps`, whichever comes first.
        seed: of every random number that is drawn here.
        loss: which error is minimised.
        edge_weight: weight of the edge loss added to it, 0 for none, as published.
        learning_rate: Adam's highest rate.
        warm_up_steps: steps of each stage until that rate.
        final_rate: the rate at the end of the run, as a part of the highest; 1 keeps it.
        clip_norm: gradients are scaled down to this norm; None leaves them.
        measurement_frames: most measurement frames of a reference frame; each step draws 1 up to this many.
        mirror: PairNet sees frames mirrored half of the time, each with one measurement frame.
        defects: whether images get the defects of small cameras.
        average_decay: of the moving average of the weights that is kept.
        precision: arithmetic of the forward pass.
        compile: whether the parts of the network run under torch.compile.
        log_steps: steps between two lines of the log.
        save_minutes: minutes between two checkpoints.
        validate_minutes: minutes between two validations, each of which also writes the weights.
        part_mib: size of the parts that weights are written in, too, MiB; None for none.
    """

    steps: int | None = None
    minutes: float | None = None
    deadline_s: float | None = None
    seed: int = 0
    loss: DepthLoss = DepthLoss.L1_INVERSE
    edge_weight: float = 0.0
    learning_rate: float = 1e-3
    warm_up_steps: int = 100
    final_rate: float = 0.02
    clip_norm: float | None = 1.0
    measurement_frames: int = 2
    mirror: bool = False
    defects: bool = True
    average_decay: float = 0.998
    precision: Precision = "float32"
    compile: bool = False
    log_steps: int = 20
    save_minutes: float = 5.0
    validate_minutes: float = 10.0
    part_mib: int | None = None

    def __post_init__(self) -> None:
        """Refuse a run without an end."""
        given = [length for length in (self.steps, self.minutes, self.deadline_s) if length is not None]
        if not given or (self.minutes is not None and len(given) > 1):
            raise ConfigError(
                "give either steps or minutes or a deadline, or steps that end at a deadline at the latest; got"
                f" steps={self.steps}, minutes={self.minutes} and deadline={self.deadline_s}"
            )
        if min(given) <= 0:
            raise ConfigError(f"a run must last longer than 0; got {min(given)}")
        if self.part_mib is not None and self.part_mib < 1:
            raise ConfigError(f"parts of the weights must be of at least 1 MiB; got {self.part_mib}")

    def progress(self, step: int, elapsed_s: float, left_s: float = math.inf) -> float:
        """Return the part of the run that is over, 0…1, after that many steps and seconds, so many before its deadline.

        The seconds left matter only to a run that has a deadline.
        """
        by_steps = 0.0 if self.steps is None else min(1.0, step / self.steps)
        if self.deadline_s is not None:
            return max(by_steps, elapsed_s / (elapsed_s + left_s) if left_s > 0.0 else 1.0)
        return by_steps if self.steps is not None else min(1.0, elapsed_s / (60.0 * self.minutes))


class Trainer:
    """Trains one network.

    Args:
        network: the network, initialised or loaded; trained in place.
        clips: called with a step number, gives the batches of that step and of all later ones.
        held_out: clips for validation.
        stages: what learns when.
        config: how long and how.
        folder: run folder, made if it is missing.
        companions: finished networks that are written next to the trained one (the PairNet that a FusionNet came from).
        metadata: what the written weights say of themselves, besides step and losses.
        processes: those that train together; by default this one alone, on the CPU.
        tensorboard: whether to write curves and contact sheets for TensorBoard.
        memory_format: layout of the network's weights.
        exact_timing: whether a GPU is waited for at the end of each phase of a step, so that the log tells them apart.
    """

    def __init__(
        self,
        network: PairNet | FusionNet,
        clips: Callable[[int], Iterator[ClipBatch]],
        held_out: HeldOut,
        stages: tuple[Stage, ...],
        config: LoopConfig,
        folder: Path,
        companions: dict[str, nn.Module] | None = None,
        metadata: dict[str, Any] | None = None,
        processes: Processes | None = None,
        tensorboard: bool = False,
        # Convolutions of few channels run 1.4 times as fast in this layout on CPUs, forward and backward.
        memory_format: torch.memory_format = torch.channels_last,
        exact_timing: bool = False,
    ) -> None:
        self.processes = processes or single_process()
        self.config = config
        self.step = 0
        self.elapsed_s = 0.0
        self._skipped = SkippedSteps()
        self.best: dict[str, float] = {}
        self._deadline = None if config.deadline_s is None else Deadline(config.deadline_s)
        self._left_s = math.inf
        self.network = network.to(self.processes.device, memory_format=memory_format)
        self.stopwatch = Stopwatch(self.processes.device, exact_timing)
        self._folder = RunFolder(folder)
        self.clips = clips
        self._held_out = HeldOut(*([self._here(batch) for batch in part] for part in vars(held_out).values()))
        self._stages = stages
        self._companions = companions or {}
        self._metadata = metadata or {}
        self._average = WeightAverage(network, config.average_decay)
        self._arithmetic = Arithmetic(config.precision, self.processes.device)
        self._recent_losses: list[float] = []
        self._board = Board(folder) if tensorboard and self.processes.writes else None
        if self.processes.size > 1:
            share_batch_norm(self.network)
        if config.compile:
            compile_parts(self.network)
        self._stage_index = -1
        self._stage_start = 0
        self._enter_stage(0)

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self._folder.path

    @property
    def progress(self) -> float:
        """The part of the run that is over, 0…1."""
        return self.config.progress(self.step, self.elapsed_s, self._left_s)

    @property
    def stage(self) -> Stage:
        """What learns now."""
        return self._stages[self._stage_index]

    def run(self) -> bool:
        """Train to the end of the run, or until the first Ctrl-C or SIGTERM.

        Either way a checkpoint and the weights are written. If they cannot be written on the way there, as on a full
        disk, training goes on, and what was written before stays.

        Returns:
            Whether the end was reached.

        Raises:
            DataError: if the last checkpoint cannot be written.
            WeightsError: if the last weights cannot.
        """
        last_saved = last_validated = self.elapsed_s
        with stop_on_signal() as stop, training_progress(self.processes.writes) as show:
            stopped, clock = False, time.monotonic()
            self._left_s = self.processes.sums(self._own_left_s())[0]
            batches = self.clips(self.step) if self.progress < 1.0 else iter(())
            while self.progress < 1.0 and not stopped:
                with self.stopwatch.phase("data"):
                    batch = next(batches, None)
                if batch is None:
                    break
                loss = self.train_step(batch)
                now = time.monotonic()
                # The clock of the first process is that of all, or they would part at the end of a stage.
                own_s = now - clock if self.processes.writes else 0.0
                clock = now
                loss, passed_s, stops, self._left_s = self.processes.sums(
                    loss / self.processes.size, own_s, float(stop()), self._own_left_s()
                )
                self.elapsed_s += passed_s
                stopped = stops > 0
                self._recent_losses.append(loss)
                if self.step % self.config.log_steps == 0:
                    self._log_training()
                show(self.progress, self.elapsed_s, f"{self.stage.name}, step {self.step}")
                if stopped or self.progress >= 1.0:
                    break
                if self.elapsed_s - last_validated >= 60.0 * self.config.validate_minutes:
                    self._attempt(self.export)
                    last_validated = self.elapsed_s
                if self.elapsed_s - last_saved >= 60.0 * self.config.save_minutes:
                    self._attempt(self.save)
                    last_saved = self.elapsed_s
        if self.processes.writes:
            # A validation that is stopped by force must not cost the checkpoint, which then learns of the best losses.
            self.save()
            self.export()
            self.save()
        return self.progress >= 1.0

    def train_step(self, batch: ClipBatch) -> float:
        """Do one optimiser step and return its loss, averaged over predictions.

        A step whose gradient is not finite changes no weight.

        Raises:
            DataError: if that happened in many steps one after the other.
        """
        config = self.config
        index = stage_at(self._stages, self.progress)
        if index != self._stage_index:
            self._enter_stage(index)
        for group in self._optimiser.param_groups:
            group["lr"] = self._learning_rate()
        clock, scaler = self.stopwatch.phase, self._arithmetic.scaler
        with clock("augmentation"):
            clip = self._augmented(self._here(batch))
        with clock("forward"), self._arithmetic.forward():
            loss = self._loss(clip, *self._drawn_for_step(clip.image.shape[1]))
        with clock("backward"):
            self._optimiser.zero_grad(set_to_none=True)
            scaler.scale(loss).backward()
        with clock("optimiser"):
            scaler.unscale_(self._optimiser)
            norm = nn.utils.clip_grad_norm_(self._learning, config.clip_norm or math.inf)
            finite = bool(torch.isfinite(norm))
            if finite:
                scaler.step(self._optimiser)
                self._average.update(self.network, self.step)
            scaler.update()
            value = loss.item()
        self._skipped.note(self.step, finite, self._folder.checkpoint)
        self.step += 1
        return value

    def averaged_network(self) -> PairNet | FusionNet:
        """Return a copy of the averaged network with batch-norm statistics that fit it, in evaluation mode."""
        network = copy.deepcopy(self._average.network)
        if self.stage.batch_norm:
            self._calibrate(network)
        return network.eval()

    @torch.no_grad()
    def validate(self, network: PairNet | FusionNet) -> dict[str, float]:
        """Return the four losses on the held-out clips, at full resolution and as at inference."""
        meter = LossMeter()
        for batch in self._held_out.validation:
            for pyramid, truth in predictions(network, prepare_clip(batch), self.config.measurement_frames, True):
                meter.add(pyramid.full, truth)
        return meter.means()

    def export(self) -> dict[str, float]:
        """Validate the averaged network, write it and a contact sheet, and return the losses.

        Raises:
            WeightsError: if the weights cannot be written.
            DataError: if the contact sheet cannot.
        """
        started = time.monotonic()
        network = self.averaged_network()
        losses = self.validate(network)
        improved = [name for name, loss in losses.items() if loss < self.best.get(name, math.inf)]
        self.best.update({name: losses[name] for name in improved})
        self._log({"validation": losses, "improved": improved})
        name = network.config.network
        metadata = {
            **self._metadata,
            "step": self.step,
            "minutes": round(self.elapsed_s / 60.0, 1),
            "finished": self.progress >= 1.0,
            "validation": losses,
        }
        for suffix in ("", "_best") if improved else ("",):
            path = self.folder / f"{name}{suffix}.safetensors"
            save_checkpoint(path, {name: network, **self._companions}, metadata)
            if self.config.part_mib is not None:
                write_parts(path, self.config.part_mib * 2**20)
        self._show(network, losses)
        if self._deadline is not None:
            self._deadline.note_export(time.monotonic() - started)
        return losses

    def save(self) -> None:
        """Write everything that is needed to go on from here.

        Raises:
            DataError: if that fails; the checkpoint before it is still whole.
        """
        self._folder.save(
            {
                "model": self.network.config.to_dict(),
                "network": self.network.state_dict(),
                "average": self._average.network.state_dict(),
                "optimiser": self._optimiser.state_dict(),
                "scaler": self._arithmetic.scaler.state_dict(),
                "step": self.step,
                "elapsed_s": self.elapsed_s,
                "stage_index": self._stage_index,
                "stage_start": self._stage_start,
                "bad_steps": self._skipped.in_a_row,
                "best": self.best,
                "recent_losses": self._recent_losses,
            }
        )

    def resume(self) -> None:
        """Go on from the checkpoint in the run folder.

        Raises:
            DataError: if there is none, it is broken, or it is of a network with other settings.
        """
        state = self._folder.load()
        with foreign(f"{self._folder.checkpoint} is no checkpoint of a network"):
            self._resume(state)

    def _resume(self, state: dict[str, Any]) -> None:
        # JSON turns the tuples of a configuration into the lists that a checkpoint may hold.
        if json.dumps(state["model"]) != json.dumps(self.network.config.to_dict()):
            raise DataError(
                f"{self._folder.checkpoint} is of another network: it was trained as {state['model']};"
                f" got {self.network.config.to_dict()}"
            )
        self.network.load_state_dict(state["network"])
        self._average.network.load_state_dict(state["average"])
        self._stage_index = state["stage_index"]
        self._stage_start = state["stage_start"]
        self._learn()
        self._optimiser.load_state_dict(state["optimiser"])
        self._arithmetic.scaler.load_state_dict(state["scaler"])
        self.step = state["step"]
        self.elapsed_s = state["elapsed_s"]
        self._skipped.in_a_row = state["bad_steps"]
        self.best = state["best"]
        self._recent_losses = state["recent_losses"]
        if self.processes.writes:
            self._folder.forget_after(self.step)

    def _enter_stage(self, index: int) -> None:
        self._stage_index = index
        self._stage_start = self.step
        if self.stage.calibrate:
            for network in (self.network, self._average.network):
                self._calibrate(network)
        self._learn()

    def _learn(self) -> None:
        """Freeze, unfreeze and start Adam again, as the stage says."""
        self._learning = enter_stage(self.network, self.stage)
        self._optimiser = torch.optim.Adam(self._learning, lr=self.config.learning_rate)
        # Wrapped again, since the wrapping of several processes knows which parameters learn; the old one goes first.
        self._loss = None
        self._loss = self.processes.wrap(
            ClipLoss(self.network, self.config.loss, self.config.edge_weight, self.processes.mean)
        )

    def _calibrate(self, network: PairNet | FusionNet) -> None:
        def forward(batch: ClipBatch) -> Callable[[nn.Module], None]:
            clip = prepare_clip(batch)
            return lambda net: [None for _ in predictions(net, clip, self.config.measurement_frames, True)]

        recompute_batch_norm(network, (forward(batch) for batch in self._held_out.calibration))

    def _here(self, batch: ClipBatch) -> ClipBatch:
        return ClipBatch(*(part.to(self.processes.device, non_blocking=True) for part in batch))

    def _augmented(self, batch: ClipBatch):
        """Augment each clip by what is drawn from its number among all clips of the run."""
        model, clips = self.network.config, len(batch.image)
        first = (self.step * self.processes.size + self.processes.rank) * clips
        draws = [
            draw_clip(np.random.default_rng([self.config.seed, _CLIP_DRAWS, number]), self.config.defects)
            for number in range(first, first + clips)
        ]
        return augment_clip(batch, draws, model.min_depth_m, model.max_depth_m)

    def _drawn_for_step(self, frames: int) -> tuple[int, bool, list[bool] | None]:
        """Measurement frames, whether the state is warped with predicted depth, and what is mirrored: for all alike."""
        rng = np.random.default_rng([self.config.seed, _STEP_DRAWS, self.step])
        measured = int(rng.integers(1, self.config.measurement_frames, endpoint=True))
        predicted_state = rng.random() < self.stage.predicted_state
        mirrored = (rng.random(frames) > 0.5).tolist() if self.config.mirror else None
        return measured, predicted_state, mirrored

    def _own_left_s(self) -> float:
        """Seconds left to train before the deadline: those of the first process count for all."""
        return self._deadline.left_s() if self._deadline is not None and self.processes.writes else 0.0

    def _learning_rate(self) -> float:
        config = self.config
        return learning_rate_at(
            self.stage.learning_rate or config.learning_rate,
            self.step - self._stage_start,
            self.progress,
            config.warm_up_steps,
            config.final_rate,
        )

    def _attempt(self, write: Callable[[], Any]) -> None:
        if self.processes.writes:
            attempt(write)

    def _show(self, network: PairNet | FusionNet, losses: dict[str, float]) -> None:
        sheet = contact_sheet(network, self._held_out.validation, self.config.measurement_frames)
        self._folder.save_picture(f"{self.step:08d}.png", encode_png(sheet))
        if self._board:
            self._board.scalars(self.step, {f"validation/{name}": loss for name, loss in losses.items()})
            self._board.picture(self.step, "validation", sheet)
            self._board.flush()

    def _log_training(self) -> None:
        loss = sum(self._recent_losses) / len(self._recent_losses)
        rate = self._optimiser.param_groups[0]["lr"]
        self._log(
            {
                "stage": self.stage.name,
                "loss": loss,
                "learning_rate": rate,
                "seconds": {phase: round(seconds, 3) for phase, seconds in self.stopwatch.seconds.items()},
                "left_out": len(getattr(self.clips, "skipped", ())),
            }
        )
        if self._board:
            self._board.scalars(self.step, {"training/loss": loss, "training/learning_rate": rate})
        self._recent_losses.clear()
        self.stopwatch.reset()

    def _log(self, values: dict[str, Any]) -> None:
        if self.processes.writes:
            self._folder.log({"step": self.step, "minutes": round(self.elapsed_s / 60.0, 2), **values})


def describe(config: LoopConfig) -> dict[str, Any]:
    """Return the settings as plain values, for the metadata of the weights."""
    return {**dataclasses.asdict(config), "loss": config.loss.value}
