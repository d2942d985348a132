# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""A whole training run, from what is asked for to weights in a folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from dvmvs_core.config import ModelConfig
from dvmvs_core.errors import ConfigError
from dvmvs_core.process import usable_cores
from dvmvs_core.training.clip_sources import DataPart, HeldOutWorlds, held_out_clips, parse_data, training_sources
from dvmvs_core.training.loop import LoopConfig, Trainer, describe
from dvmvs_core.training.processes import Processes
from dvmvs_core.training.setup import ScheduleName, initial_network, schedule_of, stages_of
from dvmvs_core.training.stages import Stage, published_stages
from dvmvs_core.training.streams import ClipStream, StreamPart

EPOCH_STEPS = 5000
"""Steps that stand for an epoch where the data has no end."""
HELD_OUT_BATCHES = 8
HELD_OUT_CLIPS = 8
"""Most clips of such a batch: those of a GPU's batches would take minutes to draw."""


@dataclass(frozen=True)
class RunPlan:
    """What to train, and how.

    Args:
        network: which network.
        out: the run folder.
        preset: sizes of a network that starts from random weights.
        init: weights to start from, in place of a preset.
        height: network input height; None takes that of the preset or of the weights.
        width: network input width.
        refinement_channels: width of FusionNet's fine sweep; None takes that of the weights, or none.
        data: parts of the data, as `parse_data` reads them.
        schedule: what learns when, and the settings that are not given.
        loop: settings of the loop; what is None or missing is the schedule's.
        batch_size: clips a step in each process; None takes the schedule's.
        frames: of a clip; None takes the schedule's.
        workers: processes that make the batches of each part of the data ahead; None takes one, and for a GPU, which
            renders faster than a process draws, as many as there are other cores.
        held_out_batches: for validation and for calibration, of each part of the data.
        epoch_steps: steps of an epoch of the published schedule; None takes one pass over the folders, or 5000.
        tensorboard: whether to write for TensorBoard.
        exact_timing: whether the log tells the phases of a step on a GPU apart.
    """

    network: Literal["pairnet", "fusionnet"]
    out: Path
    preset: str = "small"
    init: str | None = None
    height: int | None = None
    width: int | None = None
    refinement_channels: int | None = None
    data: tuple[str, ...] = ("synthetic",)
    schedule: ScheduleName = "short"
    loop: dict[str, Any] = field(default_factory=dict)
    batch_size: int | None = None
    frames: int | None = None
    workers: int | None = None
    held_out_batches: int = HELD_OUT_BATCHES
    epoch_steps: int | None = None
    tensorboard: bool = False
    exact_timing: bool = False


def build_trainer(
    plan: RunPlan, processes: Processes, held_out_worlds: HeldOutWorlds | None = None, **trainer_options: Any
) -> Trainer:
    """Open data and weights, and build what trains.

    Args:
        plan: what to train, and how.
        processes: those that train together.
        held_out_worlds: those of other runs; by default they are drawn here.
        trainer_options: passed on to the Trainer.

    Raises:
        ConfigError: if settings contradict each other.
        DataError: if the data or the run folder cannot be used.
        WeightsError: if the weights to start from cannot be loaded.
    """
    schedule = schedule_of(plan.schedule, plan.network)
    given = {name: value for name, value in plan.loop.items() if value is not None}
    config = LoopConfig(**{**schedule.loop, **given})
    parts = parse_data(plan.data)
    frames, batch_size = plan.frames or schedule.frames, plan.batch_size or schedule.batch_size
    _check_sizes(plan, config, frames, batch_size)
    # The same initial weights in every process.
    torch.manual_seed(config.seed)
    network, companions = initial_network(
        plan.network, plan.preset, plan.init, plan.height, plan.width, plan.refinement_channels
    )
    size = (network.config.height, network.config.width)
    device = str(processes.device)
    sources = training_sources(parts, size, frames, config.seed, device)
    stages = _stages(plan, network.config, parts, sources, config, batch_size * processes.size)
    on_gpu = processes.device.type == "cuda"
    workers = plan.workers if plan.workers is not None else _usual_workers(on_gpu)
    stream = ClipStream(
        [
            StreamPart(source, part.weight, workers, rendered_here=part.synthetic and on_gpu)
            for part, source in zip(parts, sources, strict=True)
        ],
        batch_size,
        processes.rank,
        processes.size,
    )
    held_out_size = min(batch_size, HELD_OUT_CLIPS)
    return Trainer(
        network,
        stream,
        held_out_clips(parts, sources, size, frames, held_out_size, plan.held_out_batches, device, held_out_worlds),
        stages,
        config,
        plan.out,
        companions,
        {
            "data": [Path(entry).name for entry in plan.data],
            "schedule": plan.schedule,
            "batch_size": batch_size * processes.size,
            "frames": frames,
            "init": Path(plan.init).name if plan.init else "random",
            **describe(config),
        },
        processes,
        plan.tensorboard,
        exact_timing=plan.exact_timing,
        **trainer_options,
    )


def _usual_workers(on_gpu: bool) -> int:
    return max(1, usable_cores() - 1) if on_gpu else 1


def _check_sizes(plan: RunPlan, config: LoopConfig, frames: int, batch_size: int) -> None:
    if frames < 2:
        raise ConfigError(f"a clip needs a reference frame and a measurement frame: at least 2 frames; got {frames}")
    if plan.workers is not None and plan.workers < 0:
        raise ConfigError(f"workers must be 0 or more; got {plan.workers}")
    positive = {
        "batch size": batch_size,
        "measurement frames": config.measurement_frames,
        "steps between two lines of the log": config.log_steps,
        "batches to validate on": plan.held_out_batches,
    }
    for name, value in positive.items():
        if value < 1:
            raise ConfigError(f"{name} must be 1 or more; got {value}")


def _stages(
    plan: RunPlan,
    model: ModelConfig,
    parts: Sequence[DataPart],
    sources: Sequence,
    config: LoopConfig,
    batch_size: int,
) -> tuple[Stage, ...]:
    if plan.schedule != "published":
        return stages_of(model, plan.init, last_stage=plan.schedule == "last-stage")
    if config.steps is None:
        raise ConfigError("the published schedule is counted in steps; give steps, not minutes")
    return published_stages(plan.network, config.steps, plan.epoch_steps or _epoch_steps(parts, sources, batch_size))


def _epoch_steps(parts: Sequence[DataPart], sources: Sequence, batch_size: int) -> int:
    """Steps after which a folder was seen once: the one that takes longest."""
    total = sum(part.weight for part in parts)
    passes = [
        len(source) * total / (part.weight * batch_size)
        for part, source in zip(parts, sources, strict=True)
        if not part.synthetic
    ]
    return max(1, round(max(passes))) if passes else EPOCH_STEPS
