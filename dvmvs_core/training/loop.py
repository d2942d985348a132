"""The training loop: steps, stages, validation, checkpoints that a run can go on from, and a clean end on Ctrl-C.

A run folder holds `last.pt` (everything needed to go on), `log.jsonl` (one object a line) and `NETWORK.safetensors`
(the averaged weights, ready for the engine), each replaced only by a complete successor. Nothing that a step does
depends on when it is done: step n of a run counted in steps sees the same clips and random numbers, resumed or not.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import json
import logging
import math
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from torch import nn

from dvmvs_core.data.synthetic.clips import ClipBatch
from dvmvs_core.errors import ConfigError, DataError
from dvmvs_core.model.checkpoint import save_checkpoint
from dvmvs_core.model.dvmvs import FusionNet, PairNet
from dvmvs_core.training.augmentation import augment_clip, prepare_clip
from dvmvs_core.training.losses import DepthLoss, LossMeter, depth_loss
from dvmvs_core.training.optimisation import WeightAverage, learning_rate_at, recompute_batch_norm
from dvmvs_core.training.passes import predictions
from dvmvs_core.training.stages import Stage, enter_stage, stage_at

logger = logging.getLogger(__name__)

CHECKPOINT_NAME = "last.pt"
LOG_NAME = "log.jsonl"
_MAX_BAD_STEPS = 20


@dataclass(frozen=True)
class LoopConfig:
    """How long and how to optimise.

    Args:
        steps: optimiser steps of the whole run; or give `minutes`.
        minutes: wall-clock minutes of the whole run, earlier parts of a resumed one counted in; or give `steps`.
        seed: of every random number that is drawn here.
        loss: which error is minimised.
        learning_rate: Adam's highest rate.
        warm_up_steps: steps of each stage until that rate.
        clip_norm: gradients are scaled down to this norm.
        measurement_frames: most measurement frames of a reference frame; each step draws 1 up to this many.
        average_decay: of the moving average of the weights that is kept.
        log_steps: steps between two lines of the log.
        save_minutes: minutes between two checkpoints.
        validate_minutes: minutes between two validations, each of which also writes the weights.
    """

    steps: int | None = None
    minutes: float | None = None
    seed: int = 0
    loss: DepthLoss = DepthLoss.L1_INVERSE
    learning_rate: float = 1e-3
    warm_up_steps: int = 100
    clip_norm: float = 1.0
    measurement_frames: int = 2
    average_decay: float = 0.998
    log_steps: int = 20
    save_minutes: float = 5.0
    validate_minutes: float = 10.0

    def __post_init__(self) -> None:
        """Refuse a run without an end."""
        if (self.steps is None) == (self.minutes is None):
            raise ConfigError(f"give either steps or minutes; got steps={self.steps} and minutes={self.minutes}")
        length = self.minutes if self.steps is None else self.steps
        if length <= 0:
            raise ConfigError(f"a run must last longer than 0; got {length}")


@dataclass(frozen=True)
class HeldOut:
    """Clips that are never trained on.

    Args:
        calibration: batches that batch-norm statistics are estimated from before validation.
        validation: batches that the losses of validation are measured on.
    """

    calibration: Sequence[ClipBatch]
    validation: Sequence[ClipBatch]


class Trainer:
    """Trains one network.

    Args:
        network: the network, initialised or loaded; trained in place.
        clips: called with a step number, gives the batches of that step and of all later ones.
        held_out: clips for validation.
        stages: what learns when.
        config: how long and how.
        folder: run folder, made if it is missing.
        companions: finished networks that are written beside the trained one (the PairNet that a FusionNet came from).
        metadata: what the written weights say of themselves, besides step and losses.
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
    ) -> None:
        # Convolutions of few channels run 1.4 times as fast in this layout on CPUs, forward and backward.
        self.network = network.to(memory_format=torch.channels_last)
        self.config = config
        self.folder = folder
        self.step = 0
        self.elapsed_s = 0.0
        self.bad_steps = 0
        self._clips = clips
        self._held_out = held_out
        self._stages = stages
        self._companions = companions or {}
        self._metadata = metadata or {}
        self._average = WeightAverage(network, config.average_decay)
        self._stage_index = -1
        self._stage_start = 0
        self._enter_stage(0)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"cannot make the run folder {folder}: {error}") from error

    @property
    def progress(self) -> float:
        """The part of the run that is over, 0…1."""
        if self.config.steps is not None:
            return min(1.0, self.step / self.config.steps)
        return min(1.0, self.elapsed_s / (60.0 * self.config.minutes))

    @property
    def stage(self) -> Stage:
        """What learns now."""
        return self._stages[self._stage_index]

    def run(self) -> bool:
        """Train to the end of the run, or until the first Ctrl-C or SIGTERM.

        Either way a checkpoint and the weights are written.

        Returns:
            Whether the end was reached.
        """
        last_saved = last_validated = self.elapsed_s
        recent: list[float] = []
        waited_s = 0.0
        with _stop_on_signal() as stop, _progress_bar() as show:
            waiting = clock = time.monotonic()
            for batch in self._clips(self.step):
                waited_s += time.monotonic() - waiting
                recent.append(self.train_step(batch))
                now = time.monotonic()
                self.elapsed_s += now - clock
                clock = now
                if self.step % self.config.log_steps == 0:
                    self._log_training(recent, waited_s)
                    recent.clear()
                    waited_s = 0.0
                show(self.progress, self.elapsed_s, f"{self.stage.name}, step {self.step}")
                if stop() or self.progress >= 1.0:
                    break
                if self.elapsed_s - last_validated >= 60.0 * self.config.validate_minutes:
                    self.export()
                    last_validated = self.elapsed_s
                if self.elapsed_s - last_saved >= 60.0 * self.config.save_minutes:
                    self.save()
                    last_saved = self.elapsed_s
                waiting = time.monotonic()
        self.save()
        self.export()
        return self.progress >= 1.0

    def train_step(self, batch: ClipBatch) -> float:
        """Do one optimiser step and return its loss, averaged over predictions.

        A step whose gradient is not finite changes no weight.

        Raises:
            DataError: if that happened in many steps one after the other.
        """
        config, model = self.config, self.network.config
        index = stage_at(self._stages, self.progress)
        if index != self._stage_index:
            self._enter_stage(index)
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + self.step)
        clip = augment_clip(batch, generator, model.min_depth_m, model.max_depth_m)
        measured = int(torch.randint(1, config.measurement_frames + 1, (), generator=generator))
        predicted_state = float(torch.rand((), generator=generator)) < self.stage.predicted_state
        rate = learning_rate_at(
            config.learning_rate, self.step - self._stage_start, self.progress, config.warm_up_steps
        )
        for group in self._optimiser.param_groups:
            group["lr"] = rate

        losses = [
            depth_loss(pyramid, truth, config.loss)
            for pyramid, truth in predictions(self.network, clip, measured, predicted_state)
        ]
        loss = torch.stack(losses).mean()
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self._learning, config.clip_norm)
        if torch.isfinite(norm):
            self._optimiser.step()
            self._average.update(self.network, self.step)
            self.bad_steps = 0
        else:
            self.bad_steps += 1
            logger.warning("step %d skipped: its gradient is not finite", self.step)
            if self.bad_steps >= _MAX_BAD_STEPS:
                raise DataError(
                    f"{self.bad_steps} steps in a row had no finite gradient; lower the learning rate and resume from"
                    f" {self.folder / CHECKPOINT_NAME}"
                )
        self.step += 1
        return loss.item()

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
        """Validate the averaged network and write it to `NETWORK.safetensors`; return the losses."""
        network = self.averaged_network()
        losses = self.validate(network)
        name = network.config.network
        metadata = {
            **self._metadata,
            "step": self.step,
            "minutes": round(self.elapsed_s / 60.0, 1),
            "validation": losses,
        }
        save_checkpoint(self.folder / f"{name}.safetensors", {name: network, **self._companions}, metadata)
        self._log({"validation": losses})
        return losses

    def save(self) -> None:
        """Write everything that is needed to go on from here."""
        state = {
            "model": self.network.config.to_dict(),
            "network": self.network.state_dict(),
            "average": self._average.network.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "step": self.step,
            "elapsed_s": self.elapsed_s,
            "stage_index": self._stage_index,
            "stage_start": self._stage_start,
        }
        path = self.folder / CHECKPOINT_NAME
        unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            torch.save(state, unfinished)
            os.replace(unfinished, path)
        except (OSError, RuntimeError) as error:
            raise DataError(f"cannot write {path}: {error}; the checkpoint before it is still whole") from error
        finally:
            unfinished.unlink(missing_ok=True)

    def resume(self) -> None:
        """Go on from the checkpoint in the run folder.

        Raises:
            DataError: if there is none, it is broken, or it is of a network with other settings.
        """
        path = self.folder / CHECKPOINT_NAME
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except FileNotFoundError as error:
            raise DataError(f"{self.folder} holds no {CHECKPOINT_NAME} to resume from; start without resume") from error
        except Exception as error:
            raise DataError(f"{path} cannot be read, so it cannot be resumed from: {error}") from error
        # JSON turns the tuples of a configuration into the lists that a checkpoint may hold.
        if json.dumps(state["model"]) != json.dumps(self.network.config.to_dict()):
            raise DataError(
                f"{path} is of another network: it was trained as {state['model']}; got {self.network.config.to_dict()}"
            )
        self.network.load_state_dict(state["network"])
        self._average.network.load_state_dict(state["average"])
        self._stage_index = state["stage_index"]
        self._stage_start = state["stage_start"]
        self._learn()
        self._optimiser.load_state_dict(state["optimiser"])
        self.step = state["step"]
        self.elapsed_s = state["elapsed_s"]

    def _enter_stage(self, index: int) -> None:
        self._stage_index = index
        self._stage_start = self.step
        if self.stage.calibrate:
            for network in (self.network, self._average.network):
                self._calibrate(network)
        self._learn()

    def _learn(self) -> None:
        """Freeze, unfreeze and start Adam anew, as the stage says."""
        self._learning = enter_stage(self.network, self.stage)
        self._optimiser = torch.optim.Adam(self._learning, lr=self.config.learning_rate)

    def _calibrate(self, network: PairNet | FusionNet) -> None:
        def forward(batch: ClipBatch) -> Callable[[nn.Module], None]:
            clip = prepare_clip(batch)
            return lambda net: [None for _ in predictions(net, clip, self.config.measurement_frames, True)]

        recompute_batch_norm(network, (forward(batch) for batch in self._held_out.calibration))

    def _log_training(self, losses: list[float], waited_s: float) -> None:
        self._log(
            {
                "stage": self.stage.name,
                "loss": round(sum(losses) / len(losses), 5),
                "learning_rate": self._optimiser.param_groups[0]["lr"],
                "waited_for_data_s": round(waited_s, 3),
            }
        )

    def _log(self, values: dict[str, Any]) -> None:
        entry = {"step": self.step, "minutes": round(self.elapsed_s / 60.0, 2), **values}
        with (self.folder / LOG_NAME).open("a") as log:
            log.write(json.dumps(entry) + "\n")
        logger.info("%s", json.dumps(entry))


@contextlib.contextmanager
def _stop_on_signal() -> Iterator[Callable[[], bool]]:
    """Give a function that says whether SIGINT or SIGTERM came; a second one has its usual effect."""
    came: list[int] = []

    def note(number: int, _frame: object) -> None:
        came.append(number)
        logger.warning("stopping after this step, with a checkpoint; once more to stop at once")
        signal.signal(number, before[number])

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _progress_bar() -> Iterator[Callable[[float, float, str], None]]:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[left]}"), TimeElapsedColumn())
    with Progress(*columns, transient=True) as bar:
        task = bar.add_task("training", total=1.0, left="")

        def show(progress: float, elapsed_s: float, text: str) -> None:
            left = elapsed_s * (1.0 - progress) / progress if progress > 0.0 else math.nan
            bar.update(task, completed=progress, description=text, left=f"{left / 60.0:.1f} min left")

        yield show


def describe(config: LoopConfig) -> dict[str, Any]:
    """Return the settings as plain values, for the metadata of the weights."""
    return {**dataclasses.asdict(config), "loss": config.loss.value}
