# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.


"""Check the poses, K, clock and scale of a recording against its images: bad depth is usually a bad pose.

Needs no depth sensor and no network. Prints what is wrong and what could not be checked; the exit code is 3 if
something is wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from dvmvs_core.cli.common_options import BagOptions, OutputFile, SequencePaths
from dvmvs_core.cli.tables import print_faults
from dvmvs_core.config import KeyframeConfig, ModelConfig
from dvmvs_core.progress import progress

EXIT_WRONG = 3


@dataclass(frozen=True)
class Options:
    """Check recordings."""

    sequences: SequencePaths
    """scene folders or rosbag2 recordings"""
    json: OutputFile = None
    """file for the figures"""
    bag: BagOptions = field(default_factory=BagOptions)


def run(options: Options) -> int:
    """Check each recording and return the exit code."""
    from dvmvs_core.evaluation.scoring.figures import write_figures

    model = ModelConfig()
    found = {}
    for sequence in options.bag.open_all(options.sequences):
        found[str(sequence.path)] = print_check(sequence, KeyframeConfig(), (model.min_depth_m, model.max_depth_m))
        print_faults(sequence.name, sequence)
    if options.json:
        write_figures(options.json, {"sequences": found})
    return EXIT_WRONG if any(check["findings"] for check in found.values()) else 0


def print_check(
    sequence,
    keyframes,
    depth_range_m: tuple[float, float],
    step: Callable[[str], str] = lambda description: description,
) -> dict:
    """Check a sequence, print what was found, and return the figures.

    Args:
        sequence: what to check.
        keyframes: the keyframe rule.
        depth_range_m: nearest and farthest depth that the network can tell.
        step: numbers the description of the bar.
    """
    from dvmvs_core.evaluation.trajectory.trajectory_check import check_trajectory

    with progress(step(f"checking the trajectory of {sequence.name}"), len(sequence)) as advance:
        check = check_trajectory(sequence, keyframes, depth_range_m, advance)
    not_checked = (f"not checked: {sentence}" for sentence in check.not_checked)
    for sentence in (check.summary(), *check.findings, *not_checked):
        print(f"{sequence.name}: {sentence}")
    return check.to_dict()
