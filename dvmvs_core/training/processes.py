# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Several processes that train one network together, as torchrun starts them; or one, which needs none of this.

Each process takes its own batches and computes its own gradient; DistributedDataParallel averages the gradients. With
the batch norm of this module, and losses divided by the number of valid pixels of all processes, that average is the
gradient of one process with the whole batch.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from dvmvs_core.errors import DeviceError
from dvmvs_core.runtime.devices import resolve_device

_PATIENCE = timedelta(hours=1)
"""How long the others wait while the first process validates and writes."""


@dataclass(frozen=True)
class Processes:
    """The processes that train together.

    Attributes:
        rank: number of this one.
        size: how many there are.
        device: where this one computes.
    """

    rank: int
    size: int
    device: torch.device

    @property
    def writes(self) -> bool:
        """Whether this one writes files and shows progress: only the first does."""
        return self.rank == 0

    def sums(self, *values: float) -> list[float]:
        """Return the sums of numbers over all processes."""
        if self.size == 1:
            return list(values)
        shared = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(shared)
        return shared.tolist()

    def mean(self, value: Tensor) -> Tensor:
        """Return the mean of a tensor over all processes, without gradient."""
        if self.size == 1:
            return value
        total = value.detach().clone()
        dist.all_reduce(total)
        return total / self.size

    def wait(self) -> None:
        """Wait until all processes are here, as before one reads what another writes."""
        self.sums(0.0)

    def wrap(self, module: nn.Module) -> nn.Module:
        """Return a module that averages gradients over all processes after its backward pass."""
        if self.size == 1:
            return module
        # The pyramid's last convolution never gets a gradient: it is there for the layout of released files.
        return DistributedDataParallel(module, find_unused_parameters=True)


def single_process(device: str = "cpu") -> Processes:
    """Return the one process of a run that is not shared.

    Raises:
        DeviceError: if this machine has no such device.
    """
    return Processes(0, 1, resolve_device(device))


@contextlib.contextmanager
def training_processes(device: str) -> Iterator[Processes]:
    """Join the processes that torchrun started, for as long as the block runs.

    Args:
        device: "auto", "cpu" or "cuda"; of several processes on one machine, each takes a GPU of its own.

    Raises:
        DeviceError: if this machine has no such device, or fewer GPUs than processes.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield single_process(device)
        return
    chosen = resolve_device(device)
    if chosen.type == "cuda":
        local = int(os.environ["LOCAL_RANK"])
        if chosen.index is not None:
            raise DeviceError(f"device must be auto, cpu or cuda where several processes train; got {device!r}")
        if local >= torch.cuda.device_count():
            raise DeviceError(
                f"process {local} needs a GPU of its own, but this machine has {torch.cuda.device_count()};"
                " start as many with torchrun --nproc_per_node"
            )
        chosen = torch.device("cuda", local)
        torch.cuda.set_device(chosen)
    dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield Processes(dist.get_rank(), dist.get_world_size(), chosen)
    finally:
        dist.destroy_process_group()


class _SumOverProcesses(torch.autograd.Function):
    """The sum of a tensor over all processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(_context, value: Tensor) -> Tensor:
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(_context, gradient: Tensor) -> Tensor:
        return _SumOverProcesses.forward(_context, gradient)


class SharedBatchNorm2d(nn.BatchNorm2d):
    """Batch norm whose statistics are those of the batches of all processes together.

    torch's own SyncBatchNorm does the same, on GPUs only. Every process must have as many samples as the others.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, C, H, W); in training with the statistics of all processes."""
        if not self.training:
            return super().forward(x)
        wide = x.float()
        size = dist.get_world_size()
        mean = _SumOverProcesses.apply(wide.mean(dim=(0, 2, 3))) / size
        centred = wide - mean.view(1, -1, 1, 1)
        variance = _SumOverProcesses.apply(centred.square().mean(dim=(0, 2, 3))) / size
        if self.track_running_stats:
            self._follow(mean.detach(), variance.detach(), size * x.numel() // x.shape[1])
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (centred * scale.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)).to(x.dtype)

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor, count: int) -> None:
        self.num_batches_tracked += 1
        rate = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, rate)
        self.running_var.lerp_(variance * (count / max(1, count - 1)), rate)


def share_batch_norm(network: nn.Module) -> None:
    """Make every batch norm of a network count the batches of all processes; its weights and names stay."""
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SharedBatchNorm2d
