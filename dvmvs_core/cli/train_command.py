# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Train PairNet, FusionNet, both from scratch, the regulariser of matched depth, or monocular depth.

Ctrl-C saves a checkpoint in DIR and stops; --resume continues from it with the same results. DIR/NETWORK.safetensors
holds the current weights for every other command, DIR/log.jsonl the losses, DIR/pictures predictions on held-out clips.
`torchrun --nproc_per_node=N -m dvmvs_core train ...` trains with N processes.
"""

from __future__ import annotations

import os
import shlex
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from dvmvs_core.atomic import replacing
from dvmvs_core.cli.common_options import Count, OptionalCount, OptionalFile, OutputFile, RequiredFolder

if TYPE_CHECKING:
    from dvmvs_core.training.monocular.monocular_trainer import MonocularTrainer
    from dvmvs_core.training.processes import Processes
    from dvmvs_core.training.regulariser.regulariser_trainer import RegulariserTrainer
    from dvmvs_core.training.training_run import RunPlan

SPEED_STEPS = 12


@dataclass(frozen=True)
class _Common:
    out: RequiredFolder
    """run folder: checkpoint, log, weights and pictures"""
    data: Annotated[tuple[str, ...], tyro.conf.arg(metavar="synthetic|FOLDER[:WEIGHT] ...")] = ("synthetic",)
    """synthetic (worlds rendered while training), folders of training files (train.txt, npz), or a weighted mix,
    such as synthetic:0.7 /data/scannet:0.3"""
    preset: Literal["paper", "small"] = "small"
    """size of a network that starts from random weights"""
    height: OptionalCount = None
    """input height, pixels; by default that of the preset or the weights"""
    width: OptionalCount = None
    """input width, pixels; by default that of the preset or the weights"""
    minutes: Annotated[float | None, tyro.conf.arg(metavar="MINUTES")] = None
    """length of the whole run"""
    steps: OptionalCount = None
    """length of the whole run in optimiser steps, instead of --minutes"""
    seed: Count = 0
    """seed of weights, worlds, order and augmentation"""
    workers: OptionalCount = None
    """loading processes for each data set; by default 1 on a CPU, and one per core but one for a GPU, which renders the
    worlds that they generate"""
    threads: OptionalCount = None
    """CPU threads for training; by default one per core"""
    device: Annotated[str, tyro.conf.arg(metavar="DEVICE")] = "auto"
    """auto, cpu, cuda or cuda:N"""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """arithmetic of the forward pass; 16 bits are faster on GPUs only"""
    compile: bool = False
    """use torch.compile: takes minutes at the start and is faster on GPUs only"""
    tensorboard: bool = False
    """write curves and pictures for TensorBoard to DIR/tensorboard"""
    save_minutes: float = 5.0
    """minutes between two checkpoints"""
    validate_minutes: float = 10.0
    """minutes between two validations, each of which writes weights and a contact sheet"""
    held_out_batches: Count = 8
    """validation batches of each data set"""


@dataclass(frozen=True)
class _Network(_Common):
    init: Annotated[str | None, tyro.conf.arg(metavar="FILE|NAME")] = None
    """weights to start from instead of a preset: the same network, or a PairNet for FusionNet"""
    schedule: Literal["short", "published", "last-stage"] = "short"
    """short: for runs of minutes; published: the paper's stages (needs --steps); last-stage: only the paper's last
    stage, which tunes FusionNet's ConvLSTM cell with predicted depth"""
    epoch_steps: OptionalCount = None
    """steps of an epoch of the published schedule; by default one pass over the folders, or 5000 of live worlds"""
    batch_size: OptionalCount = None
    """clips per step, in each process; by default 3 for pairnet and 2 for fusionnet, published 14 and 4"""
    frames: OptionalCount = None
    """frames per clip; by default 3 for pairnet and 5 for fusionnet, published 2 and 8"""
    measurement_frames: OptionalCount = None
    """largest number of measurement frames; by default 2, published 1"""
    loss: Literal["l1", "l1-inv", "l1-rel", "huber"] = "l1-inv"
    """error to minimise"""
    edge_weight: Annotated[float, tyro.conf.arg(metavar="WEIGHT")] = 0.0
    """weight of an additional loss on depth differences between neighbouring pixels, which sharpens edges; at 1 it is
    about half of the loss"""
    learning_rate: Annotated[float | None, tyro.conf.arg(metavar="RATE")] = None
    """Adam's highest rate; by default 1e-3, published 1e-4"""
    warm_up_steps: OptionalCount = None
    """warm-up steps of each stage; by default 100, published 1"""
    deadline: Annotated[float | None, tyro.conf.arg(metavar="SECONDS")] = None
    """stop this many seconds after the process started, start-up and final export included, instead of --minutes; with
    --steps, whichever comes first"""
    part_mib: OptionalCount = None
    """also write the weights in parts of this many MiB; --init reads NETWORK.safetensors from its parts"""
    log_steps: Count = 20
    """steps between two lines of log.jsonl"""
    resume: bool = False
    """continue from the checkpoint in DIR"""
    profile: OutputFile = None
    """do not train: profile 12 steps (or --steps) next to plain ones and write the result to this file"""


@dataclass(frozen=True)
class Pairnet(_Network):
    """PairNet: depth of each keyframe from its measurement frames alone."""


@dataclass(frozen=True)
class Fusionnet(_Network):
    """FusionNet: PairNet with a recurrent state; start from a PairNet with --init."""

    refinement_channels: OptionalCount = None
    """width of a second, finer plane sweep around the predicted depth; by default that of the weights, or none, as
    published"""


@dataclass(frozen=True)
class Everything(_Common):
    """PairNet and FusionNet from scratch, in four parts that share --minutes.

    DIR/PRESET.safetensors holds both at the end. Run it again to continue.
    """

    batch_scale: OptionalCount = None
    """multiplies every batch; by default 1 on a CPU and 8 on a GPU"""


@dataclass(frozen=True)
class RegulariserOptions:
    """The regulariser of matched depth, trained on rendered worlds.

    Other processes record matching meanwhile, into DIR/clips and DIR/held_out.
    """

    out: RequiredFolder
    """run folder"""
    minutes: Annotated[float | None, tyro.conf.arg(metavar="MINUTES")] = None
    """length of the whole run, from the first step on"""
    steps: OptionalCount = None
    """length of the whole run in optimiser steps, instead of --minutes"""
    deadline: Annotated[float | None, tyro.conf.arg(metavar="SECONDS")] = None
    """stop this many seconds after the process started, start-up, recording and final export included, instead of
    --minutes; with --steps, whichever comes first"""
    init: OptionalFile = None
    """weights to start from; by default a network that returns matched depth unchanged"""
    height: Count = 256
    """of the images, pixels"""
    width: Count = 320
    """of the images, pixels"""
    workers: Count = 1
    """recording processes, each on its own core; 0 trains on the clips in DIR"""
    clips: Count = 1000
    """to record at most, about 11 MB each at 320x256"""
    held_out: Count = 3
    """clips that figures are made on, of worlds that are never trained on"""
    learning_rate: Annotated[float | None, tyro.conf.arg(metavar="RATE")] = None
    """AdamW's highest rate; by default 1e-3, with --init 3e-4"""
    seed: Count = 0
    """of worlds, order and augmentation"""
    threads: OptionalCount = None
    """CPU threads that train"""
    device: Annotated[str, tyro.conf.arg(metavar="DEVICE")] = "auto"
    """auto, cpu, cuda or cuda:N, for training; recording takes the CPU"""
    precision: Literal["float32", "bfloat16"] = "float32"
    """arithmetic of the forward pass"""
    log_steps: Count = 20
    """steps between two lines of log.jsonl"""
    save_minutes: float = 5.0
    """minutes between two checkpoints"""
    validate_minutes: float = 10.0
    """minutes between two validations on the held-out clips, each of which writes the weights"""
    resume: bool = False
    """continue from the checkpoint in DIR"""


@dataclass(frozen=True)
class MonocularOptions:
    """The head that says how far away things are by what one image shows.

    It learns from single images with depth, each changed anew every time.
    """

    out: RequiredFolder
    """run folder"""
    data: Annotated[tuple[str, ...], tyro.conf.arg(metavar="FOLDER[:WEIGHT] ...")]
    """folders of training files (train.txt, npz), perhaps weighted; dvmvs synthesize --clips --npz writes worlds"""
    minutes: Annotated[float | None, tyro.conf.arg(metavar="MINUTES")] = None
    """length of the whole run"""
    steps: OptionalCount = None
    """length of the whole run in optimiser steps, instead of --minutes"""
    height: Count = 256
    """of the images, pixels"""
    width: Count = 320
    """of the images, pixels"""
    held_out: Count = 64
    """images that figures are made on, of the scenes that the folders name in validation.txt"""
    learning_rate: Annotated[float, tyro.conf.arg(metavar="RATE")] = 1e-3
    """AdamW's highest rate"""
    seed: Count = 0
    """of weights, order and augmentation"""
    threads: OptionalCount = None
    """CPU threads"""
    device: Annotated[str, tyro.conf.arg(metavar="DEVICE")] = "auto"
    """auto, cpu, cuda or cuda:N"""
    log_steps: Count = 20
    """steps between two lines of log.jsonl"""
    save_minutes: float = 5.0
    """minutes between two checkpoints"""
    resume: bool = False
    """continue from the checkpoint in DIR"""


Options = (
    Annotated[Pairnet, tyro.conf.subcommand("pairnet")]
    | Annotated[Fusionnet, tyro.conf.subcommand("fusionnet")]
    | Annotated[Everything, tyro.conf.subcommand("all")]
    | Annotated[RegulariserOptions, tyro.conf.subcommand("regulariser")]
    | Annotated[MonocularOptions, tyro.conf.subcommand("monocular")]
)


def run(options: Pairnet | Fusionnet | Everything | RegulariserOptions | MonocularOptions) -> None:
    """Train to the end of the run.

    Raises:
        KeyboardInterrupt: if it was stopped before, after a checkpoint was written.
    """
    if os.environ.get("RANK", "0") == "0":
        print(f"training into {options.out}: loading torch", file=sys.stderr, flush=True)
    import torch

    from dvmvs_core.training.processes import training_processes

    if options.threads is not None:
        torch.set_num_threads(options.threads)
    if isinstance(options, RegulariserOptions | MonocularOptions):
        train = _train_regulariser if isinstance(options, RegulariserOptions) else _train_monocular
        if not train(options):
            raise KeyboardInterrupt
        return
    with training_processes(options.device) as processes:
        if isinstance(options, Everything):
            finished = _train_everything(options, processes)
        elif options.profile:
            finished = _measure(options, processes)
        else:
            finished = _train(options, processes)
    if not finished:
        raise KeyboardInterrupt


def _train(options: Pairnet | Fusionnet, processes: Processes) -> bool:
    from dvmvs_core.training.training_run import build_trainer

    trainer = build_trainer(_plan(options, _network_loop(options)), processes)
    if options.resume:
        trainer.resume()
    return trainer.run()


def _train_regulariser(options: RegulariserOptions) -> bool:
    from dvmvs_core.training.loop import LoopConfig
    from dvmvs_core.training.regulariser import regulariser_trainer as training

    rate = options.learning_rate or (training.TUNING_RATE if options.init else training.LEARNING_RATE)
    names = ("minutes", "steps", "seed", "precision", "log_steps", "save_minutes", "validate_minutes")
    loop = LoopConfig(learning_rate=rate, deadline_s=options.deadline, **_values(options, *names))
    names = ("out", "init", "height", "width", "workers", "clips", "held_out", "device")
    plan = training.RegulariserPlan(loop=loop, commands=(_command(),), **_values(options, *names))
    return _run(training.RegulariserTrainer(plan), options.resume)


def _train_monocular(options: MonocularOptions) -> bool:
    from dvmvs_core.training.clip_sources import parse_data
    from dvmvs_core.training.loop import LoopConfig
    from dvmvs_core.training.monocular.monocular_trainer import MonocularPlan, MonocularTrainer

    names = ("minutes", "steps", "seed", "learning_rate", "log_steps", "save_minutes")
    loop = LoopConfig(**_values(options, *names))
    names = ("out", "height", "width", "held_out", "device")
    data = parse_data(options.data, rendered=False)
    plan = MonocularPlan(data=data, loop=loop, commands=(_command(),), **_values(options, *names))
    return _run(MonocularTrainer(plan), options.resume)


def _run(trainer: RegulariserTrainer | MonocularTrainer, resume: bool) -> bool:
    if resume:
        trainer.resume()
    finished = trainer.run()
    if finished:
        print(trainer.weights)
    return finished


def _command() -> str:
    """What runs now, with no folder of this machine: weights tell it to others."""
    return shlex.join(["dvmvs", *(Path(word).name if "/" in word else word for word in sys.argv[1:])])


def _train_everything(options: Everything, processes: Processes) -> bool:
    from dvmvs_core.training.program import train_everything

    weights = train_everything(_plan(options, {}), processes, options.batch_scale)
    if weights and processes.writes:
        print(weights)
    return weights is not None


def _measure(options: Pairnet | Fusionnet, processes: Processes) -> bool:
    from dvmvs_core.training.speed import measure_speed, speed_report

    steps = options.steps or SPEED_STEPS
    with tempfile.TemporaryDirectory() as folder:
        times = measure_speed(_plan(options, _network_loop(options)), processes, steps, Path(folder))
    report = speed_report(times, processes, steps)
    if processes.writes:
        with replacing(options.profile) as unfinished:
            unfinished.write_text(report)
        print(report)
    return True


def _plan(options: _Common, loop: dict[str, Any]) -> RunPlan:
    from dvmvs_core.training.training_run import RunPlan

    names = ("out", "preset", "height", "width", "data", "workers", "held_out_batches", "tensorboard")
    shared = _values(options, *names)
    names = ("minutes", "steps", "seed", "precision", "compile", "save_minutes", "validate_minutes")
    common = _values(options, *names)
    if isinstance(options, _Network):
        shared |= _values(options, "init", "schedule", "epoch_steps", "batch_size", "frames")
    if isinstance(options, Fusionnet):
        shared["refinement_channels"] = options.refinement_channels
    network = "fusionnet" if isinstance(options, Fusionnet) else "pairnet"
    return RunPlan(network=network, loop={**common, **loop}, **shared)


def _network_loop(options: _Network) -> dict[str, Any]:
    from dvmvs_core.training.losses import DepthLoss

    names = ("measurement_frames", "edge_weight", "learning_rate", "warm_up_steps", "log_steps", "part_mib")
    return {**_values(options, *names), "deadline_s": options.deadline, "loss": DepthLoss(options.loss)}


def _values(options: object, *names: str) -> dict[str, Any]:
    return {name: getattr(options, name) for name in names}
