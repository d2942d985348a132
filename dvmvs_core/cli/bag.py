"""Write a scene folder as a rosbag2: image, camera_info, sensor depth, /tf and /tf_static.

Poses become the chain odom, base_link (moving), camera_optical_frame (static). The bag plays with `ros2 bag play`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from dvmvs_core.cli.options import BagOptions, SequencePath


@dataclass(frozen=True)
class Options:
    """Write a rosbag2."""

    sequence: SequencePath
    """a scene folder, or a bag to write anew"""
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """folder of the new bag; it must not exist yet"""
    storage: Literal["mcap", "sqlite3"] = "mcap"
    """format of the storage file"""
    bag: BagOptions = field(default_factory=BagOptions)


def run(options: Options) -> None:
    """Write the bag and say where it lies."""
    from dvmvs_core.cli.faults import print_faults
    from dvmvs_core.cli.progress import progress
    from dvmvs_core.data.bag_writer import write_bag

    sequence = options.bag.open(options.sequence)
    with progress(f"writing {options.out}", len(sequence)) as advance:
        write_bag(sequence, options.out, options.storage, advance)
    print(f"{options.out}: {len(sequence) - sequence.dropped.total()} frames as {options.storage}")
    print_faults(sequence.name, sequence)
