"""Memory of this process, in MiB."""

from __future__ import annotations

import torch

from dvmvs_core.process_memory import peak_resident_bytes, resident_bytes

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
