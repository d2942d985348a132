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

from dvmvs_core.config import MATCHING_PRESETS, ModelConfig, matching_preset
from dvmvs_core.errors import DeviceError
from dvmvs_core.model.lite0 import load_lite0

if TYPE_CHECKING:
    from dvmvs_core.matching.descriptors import Extractor
    from dvmvs_core.matching.matcher import Matcher

logger = logging.getLogger(__name__)


def choose_matcher(matching: str, model: ModelConfig) -> Matcher | None:
    """Return what `EngineConfig.matching` means for a network; None where nothing is matched.

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
    return Matcher(MATCHING_PRESETS[chosen], Describer(shared_extractor(model.height, model.width)))


@functools.cache
def shared_extractor(height: int, width: int) -> Extractor:
    """Return what gives the 1/4 and 1/8 maps of images of that size: one for all engines of a process."""
    network = load_lite0(stages=3)

    def maps(pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        _, quarter, eighth = network(pixels)
        return quarter, eighth

    try:
        from dvmvs_core.runtime.openvino_export import ExportedFunction, Target, network_key
    except ImportError:
        return maps
    target, lock = Target("CPU", "float32"), threading.Lock()
    exported = ExportedFunction(
        maps, lambda: (torch.zeros(1, 3, height, width),), target, network_key(network, target, height, width)
    )

    def exported_maps(pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        with lock:
            quarter, eighth = exported(pixels)
        return quarter, eighth

    return exported_maps
