# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The published index format: which frames get depth, and against which measurement frames.

One line a keyframe, "REFERENCE.png BEST.png SECOND.png …", or the line "TRACKING LOST" where all state must be
forgotten.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dvmvs_core.config import KeyframeConfig
from dvmvs_core.data.sequence import PoseItem
from dvmvs_core.data.text_lines import read_lines
from dvmvs_core.errors import ConfigError, DataError
from dvmvs_core.foreign import quoted
from dvmvs_core.keyframes import KeyframeBuffer, KeyframeDecision

TRACKING_LOST = "TRACKING LOST"


@dataclass(frozen=True)
class IndexEntry:
    """One keyframe of an index file.

    Attributes:
        reference: file name of the reference image; None where tracking was lost.
        measurements: file names of the measurement images, best first.
    """

    reference: str | None
    measurements: tuple[str, ...] = ()

    def __str__(self) -> str:
        return TRACKING_LOST if self.reference is None else " ".join((self.reference, *self.measurements))


def simulate_keyframes(poses: Iterable[PoseItem], config: KeyframeConfig) -> Iterator[IndexEntry]:
    """Yield what the online keyframe buffer decides on poses alone."""
    buffer: KeyframeBuffer[str] = KeyframeBuffer(config)
    for pose in poses:
        decision = buffer.add(pose.world_T_cam, pose.name)
        if decision is KeyframeDecision.KEYFRAME:
            yield IndexEntry(pose.name, tuple(buffer.measurement_frames()))
        elif decision is KeyframeDecision.TRACKING_LOST:
            yield IndexEntry(None)


def every_nth_keyframe(
    poses: Iterable[PoseItem], step: int, measurement_frames: int, max_lost_frames: int = 30
) -> Iterator[IndexEntry]:
    """Yield the published "simple" keyframes: every `step`-th frame, against the keyframes just before it.

    It takes no notice of how far the camera moved, and is there for comparison with `simulate_keyframes`. After a
    frame that is kept, `step` - 1 frames are passed over; after one without a valid pose the next frame is tried.

    Args:
        poses: of every frame.
        step: distance between keyframes, in frames.
        measurement_frames: how many earlier keyframes each gets, oldest first.
        max_lost_frames: invalid poses in a row, of those tried, that are forgiven.

    Raises:
        ConfigError: if a count is not positive.
    """
    if step < 1:
        raise ConfigError(f"every n-th frame needs n of at least 1; got {step}")
    config = KeyframeConfig(
        buffer_size=max(measurement_frames, 1) + 1,
        pose_distance=0.0,
        measurement_frames=measurement_frames,
        max_lost_frames=max_lost_frames,
    )
    buffer: KeyframeBuffer[str] = KeyframeBuffer(config)
    earlier: deque[str] = deque(maxlen=measurement_frames)
    pass_over = 0
    for pose in poses:
        if pass_over:
            pass_over -= 1
            continue
        decision = buffer.add(pose.world_T_cam, pose.name)
        if decision is KeyframeDecision.KEYFRAME:
            yield IndexEntry(pose.name, tuple(earlier))
        elif decision is KeyframeDecision.TRACKING_LOST:
            earlier.clear()
            yield IndexEntry(None)
        if decision in (KeyframeDecision.FIRST, KeyframeDecision.KEYFRAME):
            earlier.append(pose.name)
            pass_over = step - 1


def format_index(entries: Iterable[IndexEntry]) -> str:
    """Return the text of an index file."""
    return "".join(f"{entry}\n" for entry in entries)


def read_index(path: Path) -> list[IndexEntry]:
    """Read an index file.

    Raises:
        DataError: if it cannot be read, is empty, or a line names no measurement frame.
    """
    entries = []
    for number, line in read_lines(path, "must be a keyframe index file"):
        names = line.split()
        if line.strip() == TRACKING_LOST:
            entries.append(IndexEntry(None))
        elif len(names) == 1:
            raise DataError(
                f"{path}, line {number} must name a reference and its measurement frames; got {quoted(line.strip())}"
            )
        elif names:
            entries.append(IndexEntry(names[0], tuple(names[1:])))
    if not entries:
        raise DataError(f"{path} must hold one keyframe a line; it is empty")
    return entries
