# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Choose keyframes and measurement frames from the poses of sequences, and write the published index format.

Prints one line per keyframe, "REFERENCE.png BEST.png SECOND.png" or "TRACKING LOST". Needs neither network nor images.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from dvmvs_core.atomic import replacing
from dvmvs_core.cli.common_options import (
    BagOptions,
    Count,
    OptionalCount,
    OptionalName,
    OutputFile,
    OutputFolder,
    SequencePaths,
)
from dvmvs_core.cli.tables import print_faults
from dvmvs_core.config import KeyframeConfig
from dvmvs_core.errors import ConfigError

if TYPE_CHECKING:
    from dvmvs_core.data.keyframe_index import IndexEntry
    from dvmvs_core.data.sequence import FrameSequence


@dataclass(frozen=True)
class Options:
    """Choose keyframes."""

    sequences: SequencePaths
    """scene folders or rosbag2 recordings; several only with --published"""
    measurement_frames: Count = 2
    """how many measurement frames each keyframe gets"""
    every: OptionalCount = None
    """take every N-th frame against those taken before it, in place of the keyframe buffer"""
    out: OutputFile = None
    """file to write; by default the lines are printed"""
    published: OutputFolder = None
    """folder to write to, with the published file names KEYFRAMING+DATASET+SCENE+nmeas+N"""
    dataset: OptionalName = None
    """DATASET of those names; by default the folder that holds the sequence"""
    scene: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """SCENE of the name, for one sequence; by default the name of the sequence"""
    bag: BagOptions = field(default_factory=BagOptions)


def run(options: Options) -> None:
    """Write or print the index."""
    from dvmvs_core.data.keyframe_index import format_index

    if options.out and options.published:
        raise ConfigError("--out names the file and --published the folder to write to; give one of them")
    if len(options.sequences) > 1 and (options.scene or not options.published):
        raise ConfigError(
            f"got {len(options.sequences)} sequences: write them with --published DIR, and without --scene"
        )
    # All before any is written, so that a broken sequence leaves nothing behind.
    indices = [(sequence, list(_choose(options, sequence))) for sequence in options.bag.open_all(options.sequences)]
    for sequence, entries in indices:
        if options.published:
            _write(options.published / _file_name(options, sequence), sequence, entries)
        elif options.out:
            _write(options.out, sequence, entries)
        else:
            print(format_index(entries), end="")
        if options.published or options.out:
            print_faults(sequence.name, sequence)


def _choose(options: Options, sequence: FrameSequence):
    from dvmvs_core.data.keyframe_index import every_nth_keyframe, simulate_keyframes

    if options.every is not None:
        return every_nth_keyframe(sequence.poses(), options.every, options.measurement_frames)
    return simulate_keyframes(sequence.poses(), KeyframeConfig(measurement_frames=options.measurement_frames))


def _file_name(options: Options, sequence: FrameSequence) -> str:
    from dvmvs_core.data.keyframe_index import ONLINE, IndexName, dataset_name, simple_keyframing

    keyframing = ONLINE if options.every is None else simple_keyframing(options.every)
    dataset = options.dataset or dataset_name(sequence)
    return str(IndexName(keyframing, dataset, options.scene or sequence.name, options.measurement_frames))


def _write(path: Path, sequence: FrameSequence, entries: list[IndexEntry]) -> None:
    from dvmvs_core.data.keyframe_index import format_index

    with replacing(path) as unfinished:
        unfinished.write_text(format_index(entries))
    keyframes = sum(entry.reference is not None for entry in entries)
    print(f"{path}: {keyframes} keyframes with measurement frames, of {len(sequence)} frames")
