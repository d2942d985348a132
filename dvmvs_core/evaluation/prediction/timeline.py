# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What became of every frame of a sequence, in order: for the report's timeline."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import groupby

import numpy as np

from dvmvs_core.config import KeyframeConfig
from dvmvs_core.data.sequence import PoseItem
from dvmvs_core.keyframes import KeyframeBuffer

KEYFRAME, MEASUREMENT, UNUSED, UNREADABLE = "keyframe", "measurement", "unused", "unreadable"

RunLengths = list[tuple[str, int]]
"""What became of frames, and of how many in a row."""


def online_timeline(poses: Iterable[PoseItem], config: KeyframeConfig, unreadable: Collection[int] = ()) -> RunLengths:
    """Return what the keyframe buffer decides on each frame: the names of `KeyframeDecision`, in small letters.

    Args:
        poses: of every frame.
        config: of the buffer.
        unreadable: indices of the frames whose images it never got.
    """
    buffer: KeyframeBuffer[None] = KeyframeBuffer(config)
    return _run_lengths(
        UNREADABLE if pose.index in unreadable else buffer.add(pose.world_T_cam, None).name.lower() for pose in poses
    )


def indexed_timeline(frames: int, frame_index: np.ndarray, measurement_index: np.ndarray) -> RunLengths:
    """Return what an index file makes of each frame: a keyframe, only ever a measurement frame, or nothing.

    Args:
        frames: number of frames of the sequence.
        frame_index: (N,) indices of keyframes.
        measurement_index: (N, M) indices of their measurement frames, -1 = none.
    """
    uses = np.full(frames, UNUSED, dtype=object)
    uses[measurement_index[measurement_index >= 0]] = MEASUREMENT
    uses[frame_index] = KEYFRAME
    return _run_lengths(uses)


def _run_lengths(names: Iterable[str]) -> RunLengths:
    return [(name, sum(1 for _ in same)) for name, same in groupby(names)]
