# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Processes that end with the one that started them, even if that was killed and could end nothing itself."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PARENT_PID = "DVMVS_PARENT_PID"
"""Environment variable: end when the process of this number does."""

PR_SET_PDEATHSIG = 1
"""prctl(2): the signal to get when the parent dies."""


def tied_to_this_process(environment: dict[str, str]) -> dict[str, str]:
    """Return the environment of a child process whose ROS nodes are to end with this process."""
    return {**environment, PARENT_PID: str(os.getpid())}


def end_with_parent() -> None:
    """Have this process get SIGTERM when its parent dies, if it was started for that; Linux only.

    Called in the child, since code between fork and exec is not safe in a parent with threads.
    """
    parent = os.environ.pop(PARENT_PID, "")  # not for children of this process
    if not parent or sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):  # it died before that was arranged
        signal.raise_signal(signal.SIGTERM)
