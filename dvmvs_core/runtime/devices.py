# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The names of devices, whether this machine has them, and which arithmetic suits them."""

from __future__ import annotations

import functools

import torch

from dvmvs_core.config import EngineConfig, matching_preset
from dvmvs_core.errors import DeviceError

_OPENVINO = "openvino"
_NAMES = "auto, cpu, cuda, cuda:N, openvino or openvino:DEVICE"


def resolve_device(name: str) -> torch.device:
    """Return the torch device that tensors live on; with OpenVINO that is the CPU.

    Args:
        name: "auto", "cpu", "cuda", "cuda:N", "openvino" or "openvino:DEVICE", as OpenVINO names it: CPU, GPU, NPU.

    Raises:
        DeviceError: if the name is unknown, or this machine has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    target = openvino_target(name)
    if target is not None:
        _require_openvino(target)
        return torch.device("cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceError(f"device must be {_NAMES}; got {name!r}") from error
    if device.type not in ("cpu", "cuda"):
        raise DeviceError(f"device must be {_NAMES}; got {name!r}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DeviceError(
            f"device {name!r} was asked for, but this machine has {torch.cuda.device_count()} CUDA devices;"
            " use device auto or cpu"
        )
    return device


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return a small CPU tensor on a device; pinned, or the host would wait for all that a GPU has to do."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def openvino_target(name: str) -> str | None:
    """Return OpenVINO's name of a device such as "openvino:GPU"; None where torch runs it."""
    kind, _, target = name.partition(":")
    return (target or "CPU") if kind == _OPENVINO else None


@functools.cache
def openvino_core():
    """Return OpenVINO's registry of devices, one a process.

    Raises:
        ImportError: if OpenVINO cannot be loaded.
    """
    import openvino

    return openvino.Core()


def _require_openvino(target: str) -> None:
    try:
        found = openvino_core().available_devices
    except ImportError as error:
        raise DeviceError(
            f"device openvino needs OpenVINO, which cannot be loaded ({error}); pip install openvino, or choose device"
            " cpu"
        ) from error
    if not any(device == target or device.startswith(f"{target}.") for device in found):
        raise DeviceError(
            f"device 'openvino:{target}' was asked for, but OpenVINO finds only {', '.join(found)} here; install the"
            " driver of the device, or choose one of these"
        )


def cpu_precision(precision: str) -> str:
    """Return the arithmetic of what runs next to a network on the CPU, for the precision asked for of the network."""
    if precision == "float32":
        return precision
    try:
        capabilities = openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    except ImportError:
        return "float32"
    return "bfloat16" if "BF16" in capabilities else "float32"


def network_precision(config: EngineConfig, preset: str, device: torch.device) -> str:
    """Return the arithmetic of a network.

    Half precision changes depth by less than any recording can tell, matched or not, and on a processor that computes
    in bfloat16 it takes little more than half of the time. But the depth of preset paper is to be as published.

    Args:
        config: "auto" is bfloat16 on a CPU that computes in it, and float16 on CUDA; but float32 in mode reference, and
            for preset paper where its depth is not matched.
        preset: of the network.
        device: where it runs.
    """
    if config.precision != "auto":
        return config.precision
    as_published = preset == "paper" and matching_preset(config.matching, preset) is None
    if as_published or config.mode == "reference":
        return "float32"
    if device.type == "cuda":
        return "float16"
    on_cpu = device.type == "cpu" and openvino_target(config.device) in (None, "CPU")
    return cpu_precision("auto") if on_cpu else "float32"
