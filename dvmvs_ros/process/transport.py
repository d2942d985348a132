# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Shared memory that is large enough for images and clouds, for every process that publishes them.

Fast DDS gives a process 512 KiB by default; messages beyond go out as UDP fragments, of which best effort loses nearly
all at camera rate. config/fastdds.xml enlarges it. It is the publisher's process that needs it, so each of our nodes
asks for it itself.
"""

from __future__ import annotations

import os
from pathlib import Path

PROFILE = "fastdds.xml"
VARIABLES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
FAST_DDS_2 = ("humble", "iron", "jazzy")
"""Distributions whose Fast DDS knows the second of these names only; later ones complain about it."""


def use_shared_memory_profile() -> None:
    """Name our profile in this process's environment, unless one is named already (empty: Fast DDS's own)."""
    if any(variable in os.environ for variable in VARIABLES):
        return
    profile = _profile()
    if profile is not None:
        os.environ[VARIABLES[os.environ.get("ROS_DISTRO") in FAST_DDS_2]] = str(profile)


def _profile() -> Path | None:
    """The file in a checkout, or where pip and colcon install it: PREFIX/lib/pythonX.Y/site-packages, PREFIX/share."""
    root = Path(__file__).resolve().parents[2]
    folders = (root / "config", root / "../../../share/dvmvs_ros/config")
    return next((folder.resolve() / PROFILE for folder in folders if (folder / PROFILE).exists()), None)
