# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What this process takes of the machine: cores, threads that sleep while they wait, and memory that goes back."""

from __future__ import annotations

import ctypes
import os
import resource
from pathlib import Path


def share_cores() -> None:
    """Let threads that wait for one another sleep instead of spinning; call it before torch is imported.

    OpenMP's threads spin at the end of every parallel step by default. On a robot that runs anything else, the
    spinning thread keeps the core from the one that it waits for: with one other busy process on two cores, a keyframe
    of `small` took 8.9 s, and 0.31 s with sleeping threads. OMP_WAIT_POLICY in the environment still has the last word.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def usable_cores() -> int:
    """Return how many cores this process may use, which can be fewer than the machine has."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1


_M_ARENA_MAX = -8
"""Of glibc's malloc.h."""


def share_heaps() -> None:
    """Let threads that start from now on share the heaps that are there, instead of getting their own; call it early.

    glibc makes up to eight heaps for each core, and what is free in one is of no use to another. Whenever the inference
    thread was started again, it filled the next heap with keyframes: a depth node that was deactivated and activated
    at random grew from 1289 to 1537 MB in 19 minutes. MALLOC_ARENA_MAX in the environment still has the last word.
    """
    if "MALLOC_ARENA_MAX" not in os.environ and (mallopt := _of_glibc("mallopt")):
        mallopt(_M_ARENA_MAX, 1)


def return_free_memory() -> None:
    """Return to the system what the heap holds and nothing uses: some milliseconds."""
    if malloc_trim := _of_glibc("malloc_trim"):
        malloc_trim(ctypes.c_size_t(0))


def _of_glibc(name: str):
    """A function of the C library; None where that is another."""
    return getattr(ctypes.CDLL(None), name, None)


def resident_bytes() -> int:
    """Resident memory now; the peak where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:  # no Linux
        return peak_resident_bytes()
    return pages * os.sysconf("SC_PAGE_SIZE")


def peak_resident_bytes() -> int:
    """Largest resident memory so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # KiB on Linux
