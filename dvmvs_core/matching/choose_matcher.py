# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Which matcher an engine gets, and what extracts the pretrained maps for it."""

from __future__ import annotations

import functools
import logging
import threading
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from dvmvs_core.config import MATCHING_PRESETS, ModelConfig, matching_preset
from dvmvs_core.errors import DeviceError
from dvmvs_core.model.lite0 import load_lite0
from dvmvs_core.model.monocular import MonocularDepth, load_monocular
from dvmvs_core.model.parts import Part, lite0_part, monocular_part, regulariser_part
from dvmvs_core.model.regulariser import Regularised, load_regulariser
from dvmvs_core.runtime.devices import cpu_precision

if TYPE_CHECKING:
    from collections.abc import Callable

    from dvmvs_core.matching.descriptors import Extractor
    from dvmvs_core.matching.gpu.checked_matcher import CheckedMatcher
    from dvmvs_core.matching.gpu.checked_prior import CheckedMonocularPrior
    from dvmvs_core.matching.matcher import Matcher
    from dvmvs_core.matching.monocular_prior import MonocularAnswer, MonocularPrior
    from dvmvs_core.matching.regularise import Regularise

logger = logging.getLogger(__name__)


def choose_matcher(matching: str, model: ModelConfig, precision: str = "auto") -> Matcher | None:
    """Return what `EngineConfig.matching` means for a network; None where nothing is matched.

    Args:
        matching: as in `EngineConfig`.
        model: of the network.
        precision: as in `EngineConfig`; but float16 is for GPUs.

    Raises:
        DeviceError: if matching was asked for by name, and numba cannot be loaded.
    """
    chosen = matching_preset(matching, model.preset)
    if chosen is None:
        return None
    try:
        from dvmvs_core.matching.descriptors import Describer
        from dvmvs_core.matching.matcher import Matcher
        from dvmvs_core.matching.warm_up import start_compiling
    except ImportError as error:
        if matching != "auto":
            raise DeviceError(
                f"matching {matching} needs numba, which cannot be loaded ({error}); pip install numba, or choose"
                " matching off"
            ) from error
        logger.warning("numba cannot be loaded (%s): depth is the network's alone, and much worse for it", error)
        return None
    start_compiling(MATCHING_PRESETS[chosen])
    how = (model.height, model.width, cpu_precision(precision))
    return Matcher(MATCHING_PRESETS[chosen], Describer(shared_extractor(*how)), shared_regulariser(*how))


def matcher_on_device(
    matcher: Matcher | None, model: ModelConfig, device: torch.device, mode: str
) -> Matcher | CheckedMatcher | None:
    """Return what matches where the network runs: on a GPU as long as it can be trusted; else the matcher itself.

    Args:
        matcher: of `choose_matcher`.
        model: of the network.
        device: of the network.
        mode: as in `EngineConfig`: "reference" matches on the CPU, which the GPU is compared with.

    Raises:
        DeviceError: in mode fast, if the GPU cannot match.
    """
    if matcher is None or device.type != "cuda" or mode == "reference":
        return matcher
    from dvmvs_core.matching.gpu.checked_matcher import CheckedMatcher

    return CheckedMatcher(matcher, model, device, mode)


def choose_monocular(
    model: ModelConfig, device: torch.device, precision: str
) -> MonocularPrior | CheckedMonocularPrior:
    """Return what informs network depth before it is matched, where the network runs as long as that works.

    Args:
        model: of the network.
        device: of the network.
        precision: as in `EngineConfig`.

    Raises:
        WeightsError: if its weights are missing or damaged.
    """
    from dvmvs_core.matching.monocular_prior import MonocularPrior  # needs numba

    def on_cpu() -> MonocularPrior:
        return MonocularPrior(shared_monocular(model.height, model.width, cpu_precision(precision)))

    if device.type != "cuda":
        return on_cpu()
    from dvmvs_core.matching.gpu.checked_prior import CheckedMonocularPrior

    return CheckedMonocularPrior(MonocularPrior(shared_monocular_on_gpu(device)), on_cpu)


@functools.cache
def shared_monocular(height: int, width: int, precision: str) -> MonocularAnswer:
    """Return what says how far away things are by one image of that size: one for all engines of a process."""
    network = load_monocular()
    run = _shared(monocular_part(network, height, width), network, precision)
    return lambda *inputs: MonocularDepth(*run(*inputs))


@functools.cache
def shared_monocular_on_gpu(device: torch.device) -> MonocularAnswer:
    """Return the same on a GPU, for images of any size."""
    return load_monocular().to(device)


@functools.cache
def shared_extractor(height: int, width: int, precision: str) -> Extractor:
    """Return what gives EfficientNet-Lite0's maps of images of that size: one for all engines of a process."""
    network = load_lite0()
    return _shared(lite0_part(network, height, width), network, precision)


@functools.cache
def shared_regulariser(height: int, width: int, precision: str) -> Regularise:
    """Return what regularises depth at that size: one for all engines of a process.

    Raises:
        WeightsError: if its weights are missing or damaged.
    """
    network = load_regulariser()
    run = _shared(regulariser_part(network, height, width), network, precision)
    return lambda inputs: Regularised(*run(*inputs))


def _shared(part: Part, network: nn.Module, precision: str) -> Callable[..., tuple[Tensor, ...]]:
    """A part of a network as OpenVINO runs it, one call at a time; as it is where OpenVINO cannot be loaded."""
    try:
        from dvmvs_core.runtime.openvino_export import ExportedFunction, Target, network_key
    except ImportError:
        return part.run
    target, lock = Target("CPU", precision), threading.Lock()
    exported = ExportedFunction(part.run, part.examples, target, network_key(network, target, part.inputs))

    def run(*inputs: Tensor) -> tuple[Tensor, ...]:
        with lock:
            return exported(*inputs)

    return run
