"""Memory of this process, in MiB."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import torch

_MIB = 2**20


def resident_mb() -> float:
    """Resident memory now; the peak where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:  # no Linux
        return peak_resident_mb()
    return pages * os.sysconf("SC_PAGE_SIZE") / _MIB


def peak_resident_mb() -> float:
    """Largest resident memory so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # KiB on Linux


def peak_device_mb(device: torch.device) -> float | None:
    """Largest memory reserved on a CUDA device so far; None on a CPU."""
    return torch.cuda.max_memory_reserved(device) / _MIB if device.type == "cuda" else None
