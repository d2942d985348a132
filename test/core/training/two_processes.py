# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What each of two processes does in test_program.py; torchrun starts it."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import torch
from torch import nn

from dvmvs_core.config import ModelConfig
from dvmvs_core.model.dvmvs import build_network
from dvmvs_core.synthetic.clips import ClipBatch
from dvmvs_core.training.clip_sources import HeldOut
from dvmvs_core.training.loop import LoopConfig, Trainer
from dvmvs_core.training.processes import Processes, share_batch_norm, training_processes
from dvmvs_core.training.stages import Stage

# With statistics of the batch, rounding alone (another memory layout) moves the gradients of a network with random
# weights by 2 %: batch norm is compared by itself.
STAGES = (
    Stage("everything, batch norm fixed", 0.5, batch_norm=False),
    Stage("decoder, batch norm fixed", 0.5, ("decoder",), batch_norm=False),
)


def trainer_of(inputs: dict, processes: Processes | None, folder: Path) -> Trainer:
    """The same network on the same clips, of which each process gets its part."""
    batch = ClipBatch(*inputs["batch"])
    rank, size = (processes.rank, processes.size) if processes else (0, 1)
    own = ClipBatch(*(part.chunk(size)[rank] for part in batch))

    def clips(step):
        for number in range(step, 100):
            if number == 2 and rank == size - 1:
                os.kill(os.getpid(), signal.SIGINT)
            yield own

    torch.manual_seed(0)
    network = build_network(ModelConfig.from_dict(inputs["model"]))
    config = LoopConfig(steps=6, clip_norm=None, learning_rate=1e-4, log_steps=1)
    return Trainer(network, clips, HeldOut([own], [own]), STAGES, config, folder, processes=processes)


def images_of(inputs: dict) -> torch.Tensor:
    return ClipBatch(*inputs["batch"]).image[:, 0].float() / 255


def gradients(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: p.grad for name, p in trainer.network.named_parameters() if p.grad is not None}


def batch_norm_gradients(images: torch.Tensor, processes: Processes | None) -> dict[str, torch.Tensor]:
    """Gradients and statistics of a layer of batch norm between two convolutions."""
    torch.manual_seed(1)
    layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.SiLU(), nn.Conv2d(4, 1, 3))
    wrapped = layers
    if processes:
        share_batch_norm(layers)
        wrapped = processes.wrap(layers)
        images = images.chunk(processes.size)[processes.rank]
    wrapped(images).square().mean().backward()
    return {**{name: p.grad for name, p in layers.named_parameters()}, **dict(layers.named_buffers())}


def main(folder: Path) -> None:
    inputs = torch.load(folder / "inputs.pt", weights_only=True)
    with training_processes("cpu") as processes:
        assert processes.size == 2
        trainer = trainer_of(inputs, processes, folder / f"run{processes.rank}")
        loss = trainer.train_step(next(trainer.clips(0)))
        loss = processes.sums(loss / processes.size)[0]
        outputs = {
            "loss": loss,
            "gradients": gradients(trainer),
            "batch_norm": batch_norm_gradients(images_of(inputs), processes),
        }
        torch.save(outputs, folder / f"first{processes.rank}.pt")

        trainer = trainer_of(inputs, processes, folder / f"run{processes.rank}")
        finished = trainer.run()  # only the last process is interrupted
        assert (finished, trainer.step) == (False, 3), (finished, trainer.step)

        trainer = trainer_of(inputs, processes, folder / "run0")
        trainer.resume()
        assert trainer.step == 3
        trainer.train_step(next(trainer.clips(3)))
        assert trainer.stage is STAGES[1]
        torch.save(trainer.network.state_dict(), folder / f"last{processes.rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
