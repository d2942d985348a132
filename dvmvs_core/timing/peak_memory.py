# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Memory of this process, in MiB."""

from __future__ import annotations

import torch

from dvmvs_core.process import peak_resident_bytes, resident_bytes

_MIB = 2**20


def resident_mb() -> float:
    """Resident memory now; the peak where the system does not tell."""
    return resident_bytes() / _MIB


def peak_resident_mb() -> float:
    """Largest resident memory so far."""
    return peak_resident_bytes() / _MIB


def peak_device_mb(device: torch.device) -> float | None:
    """Largest memory reserved on a CUDA device so far; None on a CPU."""
    return torch.cuda.max_memory_reserved(device) / _MIB if device.type == "cuda" else None
