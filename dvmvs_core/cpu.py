# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""How the network's threads share the processor with other programs."""

from __future__ import annotations

import os


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
