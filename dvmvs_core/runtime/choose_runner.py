# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Which runner suits a device, precision and mode."""

from __future__ import annotations

import logging

import torch

from dvmvs_core.config import EngineConfig
from dvmvs_core.errors import DeviceError
from dvmvs_core.model.dvmvs import FusionNet, PairNet
from dvmvs_core.runtime.device_memory import working_device
from dvmvs_core.runtime.devices import network_precision, openvino_target, resolve_device
from dvmvs_core.runtime.plain_runner import PlainRunner
from dvmvs_core.runtime.runner import Runner

logger = logging.getLogger(__name__)


def choose_runner(network: PairNet | FusionNet, config: EngineConfig) -> Runner:
    """Return the runner for a device, precision and mode.

    Args:
        network: it is moved to the device and put in evaluation mode.
        config: of which `device`, `precision`, `mode` and, for precision "auto", `matching` count.

    On device "auto", a GPU that cannot run it is left for the CPU, with a warning.

    Raises:
        DeviceError: if the device does not exist here or cannot run the network, the mode is "fast" and what it needs
            is missing, or the mode is "reference" in another precision than float32.
    """
    device, target = resolve_device(config.device), openvino_target(config.device)
    if config.mode == "reference" and config.precision not in ("auto", "float32"):
        raise DeviceError(f"mode reference runs in precision float32; got {config.precision}: choose mode auto or fast")
    if device.type == "cuda":
        try:
            return _cuda_runner(network, device, config)
        except DeviceError as error:
            if config.device != "auto" or config.mode == "fast":
                raise
            logger.warning("%s; depth comes from the CPU", error)
            device = torch.device("cpu")
    network = network.to(device).eval()
    if config.mode == "reference":
        return PlainRunner(network, keeps_features=False)
    return _cpu_runner(network, target, config)


def _cuda_runner(network: PairNet | FusionNet, device: torch.device, config: EngineConfig) -> Runner:
    from dvmvs_core.runtime.checked_runner import CheckedRunner

    # By default cuDNN rounds the factors of float32 convolutions to 10 bits; with half precision, the depth heads are
    # such convolutions.
    torch.backends.cudnn.allow_tf32 = False
    with working_device(network.config, device, "be used"):
        network = network.to(device).eval()
    if config.mode == "reference":
        return PlainRunner(network, keeps_features=False)
    return CheckedRunner(network, device, config)


def _cpu_runner(network: PairNet | FusionNet, target: str | None, config: EngineConfig) -> Runner:
    try:
        from dvmvs_core.runtime.openvino_runner import OpenVinoRunner
    except ImportError as error:
        if config.mode == "fast" or target is not None:
            raise DeviceError(
                f"mode {config.mode} on device {config.device} needs OpenVINO and numba ({error}); pip install openvino"
                " numba, or choose device cpu with mode auto"
            ) from error
        logger.warning("OpenVINO or numba cannot be loaded (%s): depth takes two to four times as long", error)
        return PlainRunner(network, keeps_features=True, description="plain network, for want of OpenVINO or numba")
    precision = network_precision(config, network.config.preset, torch.device("cpu"))
    return OpenVinoRunner(network, target or "CPU", precision, config.mode == "fast")
