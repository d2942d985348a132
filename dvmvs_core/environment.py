# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What a figure was made with: the command, the versions and the machine."""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import sys
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import dvmvs_core

PACKAGES = ("torch", "numpy", "opencv-python", "safetensors")


def command_line() -> str:
    """Return the command that runs now, as a shell would take it."""
    return shlex.join(("dvmvs", *sys.argv[1:]))


def now() -> str:
    """Return the time of day in UTC, to the second."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")


def versions() -> dict[str, str]:
    """Return the version of everything that figures depend on."""
    found = {"dvmvs": dvmvs_core.__version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # such as OpenCV from a distribution's own packages
            continue
    return found


def hardware(device: object) -> dict[str, str | int]:
    """Return what the machine has.

    Args:
        device: the torch device that the network ran on.
    """
    import torch

    machine: dict[str, str | int] = {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "memory": _memory(),
        "system": f"{platform.system()} {platform.machine()}",
    }
    if getattr(device, "type", "cpu") == "cuda":
        machine["gpu"] = torch.cuda.get_device_name(device)
    return machine


def fingerprint(path: Path) -> str:
    """Return the first 16 digits of a file's SHA-256, by which two runs know whether they had the same weights."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()[:16]


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:  # no Linux
        pass
    return platform.processor() or platform.machine()


def _memory() -> str:
    try:
        return f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB"
    except (ValueError, OSError, AttributeError):  # no POSIX
        return "unknown"
