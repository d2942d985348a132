# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Write a scene folder as a rosbag2: image, camera_info, sensor depth, /tf and /tf_static.

Poses become the transforms odom → base_link (moving) → camera_optical_frame (static). Play it with `ros2 bag play`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from dvmvs_core.cli.common_options import BagOptions, NewFolder, SequencePath
from dvmvs_core.cli.tables import print_faults
from dvmvs_core.progress import progress


@dataclass(frozen=True)
class Options:
    """Write a rosbag2."""

    sequence: SequencePath
    """a scene folder, or a bag to rewrite"""
    out: NewFolder
    """folder of the new bag; it must not exist yet"""
    storage: Literal["mcap", "sqlite3"] = "mcap"
    """format of the storage file"""
    bag: BagOptions = field(default_factory=BagOptions)


def run(options: Options) -> None:
    """Write the bag and say where it lies."""
    from dvmvs_core.data.bags.bag_writer import write_bag

    sequence = options.bag.open(options.sequence)
    with progress(f"writing {options.out}", len(sequence)) as advance:
        write_bag(sequence, options.out, options.storage, advance)
    print(f"{options.out}: {len(sequence) - sequence.dropped.total()} frames as {options.storage}")
    print_faults(sequence.name, sequence)
