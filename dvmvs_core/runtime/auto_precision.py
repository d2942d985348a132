# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What precision "auto" means.

Where depth is matched, a network only says where to look, what two places have in common, or which of the depths that
were found to take. Half precision changes matched depth by less than any recording can tell, and on a processor that
computes in bfloat16 it takes little more than half of the time.
"""

from __future__ import annotations

import torch

from dvmvs_core.config import EngineConfig, matching_preset
from dvmvs_core.runtime.devices import openvino_core, openvino_target


def cpu_precision(precision: str) -> str:
    """Return the arithmetic of what runs beside a network on the CPU, for the precision asked for of the network."""
    if precision == "float32":
        return precision
    try:
        capabilities = openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    except ImportError:
        return "float32"
    return "bfloat16" if "BF16" in capabilities else "float32"


def network_precision(config: EngineConfig, preset: str, device: torch.device) -> str:
    """Return the arithmetic of a network.

    Args:
        config: where depth is matched, "auto" is bfloat16 on a CPU that computes in it, and float16 on CUDA; else it
            is float32.
        preset: of the network.
        device: where it runs.
    """
    if config.precision != "auto":
        return config.precision
    matched = matching_preset(config.matching, preset) is not None and config.mode != "reference"
    if matched and device.type == "cuda":
        return "float16"
    on_cpu = device.type == "cpu" and openvino_target(config.device) in (None, "CPU")
    return cpu_precision("auto") if matched and on_cpu else "float32"
