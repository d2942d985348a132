"""Train PairNet, or FusionNet from a trained PairNet, on synthetic worlds that are made while it trains.

Ctrl-C ends a run with a checkpoint in DIR, from which --resume goes on. DIR/NETWORK.safetensors holds the weights so
far, ready for every other command, and DIR/log.jsonl the losses.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from dvmvs_core.cli.options import Count, OptionalCount


@dataclass(frozen=True)
class Options:
    """Train a network."""

    network: Annotated[Literal["pairnet", "fusionnet"], tyro.conf.Positional]
    """which network"""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """run folder for checkpoint, log and weights"""
    preset: Literal["paper", "small"] = "small"
    """sizes of a network that starts from random weights"""
    init: Annotated[str | None, tyro.conf.arg(metavar="FILE|NAME")] = None
    """weights to start from, in place of a preset: of the same network, or of a PairNet for FusionNet"""
    height: OptionalCount = None
    """network input height, pixels; by default that of the preset or of the weights"""
    width: OptionalCount = None
    """network input width, pixels"""
    minutes: Annotated[float | None, tyro.conf.arg(metavar="MINUTES")] = None
    """length of the whole run; or give --steps"""
    steps: OptionalCount = None
    """length of the whole run in optimiser steps; or give --minutes"""
    batch_size: Count = 3
    """clips a step"""
    frames: Count = 3
    """frames a clip; FusionNet needs 5 or more to learn to remember"""
    measurement_frames: Count = 2
    """most measurement frames of a reference frame"""
    loss: Literal["l1", "l1-inv", "l1-rel", "huber"] = "l1-inv"
    """which error is minimised"""
    learning_rate: Annotated[float, tyro.conf.arg(metavar="RATE")] = 1e-3
    """Adam's highest rate"""
    warm_up_steps: Count = 100
    """steps of each stage until that rate"""
    seed: Count = 0
    """of weights, worlds and augmentation"""
    threads: OptionalCount = None
    """CPU threads that compute; one more process renders"""
    resume: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """go on from the checkpoint in DIR"""


def run(options: Options) -> None:
    """Train to the end of the run.

    Raises:
        KeyboardInterrupt: if it was stopped before, after a checkpoint was written.
    """
    import torch

    from dvmvs_core.training.loop import LoopConfig, Trainer, describe
    from dvmvs_core.training.losses import DepthLoss
    from dvmvs_core.training.setup import held_out_clips, initial_network, stages_of, training_clips

    if options.threads is not None:
        torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    config = LoopConfig(
        steps=options.steps,
        minutes=options.minutes,
        seed=options.seed,
        loss=DepthLoss(options.loss),
        learning_rate=options.learning_rate,
        warm_up_steps=options.warm_up_steps,
        measurement_frames=options.measurement_frames,
    )
    network, companions = initial_network(options.network, options.preset, options.init, options.height, options.width)
    size = (network.config.height, network.config.width)
    trainer = Trainer(
        network,
        training_clips(size, options.frames, options.batch_size, options.seed),
        held_out_clips(size, options.frames, options.batch_size),
        stages_of(options.network, options.init),
        config,
        options.out,
        companions,
        {"data": "synthetic worlds", "init": Path(options.init).name if options.init else "random", **describe(config)},
    )
    if options.resume:
        trainer.resume()
    if not trainer.run():
        raise KeyboardInterrupt
