# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What is said where a CUDA device fails: how much memory a network needs, or what else is wrong."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dvmvs_core.config import ModelConfig
from dvmvs_core.errors import DeviceError, first_line
from dvmvs_core.model.dvmvs import FusionNet, build_network

_MIB = 2**20
_LARGEST_MEASUREMENTS = 2


def out_of_memory(error: Exception, config: ModelConfig, device: torch.device) -> str:
    """Return one line: what is missing, how much is needed, and what to do.

    Args:
        error: what the allocation raised.
        config: of the network.
        device: where it was to run.
    """
    return (
        f"{device} has too little free memory for {config.network} at {config.width}x{config.height}: it needs about"
        f" {needed_mb(config):.0f} MiB besides CUDA's own, {_free(device)}; close other programs, choose a smaller"
        f" network, or device cpu ({str(error).split('.')[0].strip()})"
    )


@contextlib.contextmanager
def enough_memory(config: ModelConfig, device: torch.device) -> Iterator[None]:
    """Say how much memory is needed where it runs out.

    Args:
        config: of the network.
        device: where it runs.

    Raises:
        DeviceError: in place of torch's own error.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise DeviceError(out_of_memory(error, config, device)) from error


@contextlib.contextmanager
def working_device(config: ModelConfig, device: torch.device, failure: str) -> Iterator[None]:
    """Say what to do where a device does not work: the driver is missing, too old, or lost its GPU.

    Args:
        config: of the network.
        device: where it runs.
        failure: what the device cannot do: "be used".

    Raises:
        DeviceError: in place of whatever was raised.
    """
    with enough_memory(config, device):
        try:
            yield
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            raise DeviceError(
                f"{device} cannot {failure} ({type(error).__name__}: {first_line(error)}); check the driver with"
                " nvidia-smi, or choose device cpu"
            ) from error


def needed_mb(config: ModelConfig) -> float:
    """Return the MiB of two copies of the weights, and of all that is alive at once in a step.

    Worked out on tensors without contents on the CPU, where the plane sweep takes as little as the fused one does.
    """
    # Imported here: it takes a second, and is needed only where something failed.
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode(), torch.no_grad():
        network = build_network(config).eval()
        weights = sum(t.untyped_storage().nbytes() for t in (*network.parameters(), *network.buffers()))
        image, K = torch.empty(1, 3, config.height, config.width), torch.empty(1, 3, 3)
        pose = torch.empty(1, 4, 4)
        with _Peak() as peak:
            features = network.extract(image)
            measurements = [features.matching] * _LARGEST_MEASUREMENTS
            views = (measurements, pose, [pose] * _LARGEST_MEASUREMENTS, K)
            past = (None, None, None) if isinstance(network, FusionNet) else ()
            network(image, features, *views, *past)
    return (2 * weights + peak.bytes) / _MIB


class _Peak(TorchDispatchMode):
    """Adds up the storage of what operations return, as long as it is alive.

    Attributes:
        bytes: the largest sum so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bytes = self._alive = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._known:
            return
        self._known.add(key)
        self._alive += storage.nbytes()
        self.bytes = max(self.bytes, self._alive)
        weakref.finalize(storage, self._release, key, storage.nbytes())

    def _release(self, key: int, size: int) -> None:
        self._known.discard(key)
        self._alive -= size


def _free(device: torch.device) -> str:
    try:
        free, total = torch.cuda.mem_get_info(device)
    except Exception:  # the device is gone, or was never there
        return "more than is free"
    return f"{free / _MIB:.0f} of {total / _MIB:.0f} MiB are free"
