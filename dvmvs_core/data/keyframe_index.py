# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Keyframe index files, as published: which frames get depth, against which measurement frames, and of which sequence.

One line a keyframe, "REFERENCE.png BEST.png SECOND.png …", or the line "TRACKING LOST" where all state must be
forgotten. A file is named KEYFRAMING+DATASET+SCENE+nmeas+N, such as keyframe+7scenes+office-seq-01+nmeas+2.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dvmvs_core.config import KeyframeConfig
from dvmvs_core.data.sequence import FrameSequence, PoseItem
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


SEPARATOR = "+"
ONLINE = "keyframe"
"""Keyframing of the keyframe buffer."""


def simple_keyframing(step: int) -> str:
    """Return the name of the keyframing that takes every `step`-th frame."""
    return f"simple{step}"


@dataclass(frozen=True)
class IndexName:
    """The parts of an index file's name.

    Attributes:
        keyframing: "keyframe" for the keyframe buffer, "simple10" for every tenth frame, or a name of your own.
        dataset: the data set.
        scene: the sequence of it.
        measurement_frames: how many the keyframes have at most.

    Raises:
        DataError: if a part is empty, or holds the sign that separates parts.
    """

    keyframing: str
    dataset: str
    scene: str
    measurement_frames: int

    def __post_init__(self) -> None:
        """Refuse parts that the file name could not be taken apart into again."""
        for part in (self.keyframing, self.dataset, self.scene):
            if not part or SEPARATOR in part or "/" in part:
                raise DataError(
                    f"a name in an index file's name must not be empty nor hold {SEPARATOR!r} or '/'; got {part!r}."
                    " Name the data set with --dataset, or rename the folder"
                )

    def __str__(self) -> str:
        return SEPARATOR.join((self.keyframing, self.dataset, self.scene, "nmeas", str(self.measurement_frames)))

    @classmethod
    def parse(cls, name: str) -> IndexName | None:
        """Return the parts of a file name, or None if it does not follow the rule."""
        parts = name.split(SEPARATOR)
        if len(parts) != 5 or parts[3] != "nmeas" or not parts[4].isdecimal() or not all(parts[:3]):
            return None
        return cls(parts[0], parts[1], parts[2], int(parts[4]))


@dataclass(frozen=True)
class IndexFile:
    """An index file, read.

    Attributes:
        path: where it lies.
        name: the parts of its name; None where it does not follow the rule.
        entries: its lines.
    """

    path: Path
    name: IndexName | None
    entries: tuple[IndexEntry, ...]

    @property
    def measurement_frames(self) -> int:
        """How many measurement frames the file is for: what its name says, else the most on a line."""
        if self.name:
            return self.name.measurement_frames
        return max((len(entry.measurements) for entry in self.entries), default=0)


def dataset_name(sequence: FrameSequence) -> str:
    """Return the name of a sequence's data set: the folder that holds it, as in the published layout."""
    return sequence.path.resolve().parent.name


def match_index_files(
    paths: Iterable[Path], sequences: Collection[FrameSequence], measurement_frames: int | None = None
) -> list[list[IndexFile]]:
    """Return the index files of each sequence, read, in the order of their names.

    A file of a folder belongs to the sequence whose name is its SCENE; where several sequences bear that name, to the
    one whose data set is its DATASET. A file that is named itself goes by the same rule, but if there is one sequence
    only it is that one's, whatever its name.

    Args:
        paths: files, and folders of files; what is no index file in a folder is passed over.
        sequences: the sequences.
        measurement_frames: of a folder take only files for so many, and of every line only the first so many.

    Raises:
        DataError: if a path is missing or no index file, or a file or a sequence is left without the other.
    """
    found: list[list[IndexFile]] = [[] for _ in sequences]
    for path in paths:
        if path.is_dir():
            _match_folder(path, sequences, found, measurement_frames)
            continue
        name = IndexName.parse(path.name)
        owners = [0] if len(sequences) == 1 else _owners(name, sequences)
        if not owners:
            raise DataError(
                f"{path} cannot be told to belong to one of {len(sequences)} sequences: name it"
                f" KEYFRAMING{SEPARATOR}DATASET{SEPARATOR}SCENE{SEPARATOR}nmeas{SEPARATOR}N with the SCENE one of"
                f" {', '.join(sequence.name for sequence in sequences)}"
            )
        for owner in owners:
            found[owner].append(_read(path, name, measurement_frames))
    for sequence, files in zip(sequences, found, strict=True):
        if not files:
            wanted = "" if measurement_frames is None else f" with {measurement_frames} measurement frames"
            raise DataError(
                f"no index file belongs to {sequence.path}{wanted}; one of that rule would be named"
                f" {IndexName(ONLINE, dataset_name(sequence), sequence.name, measurement_frames or 2)}."
                " Name the file itself, or write it with dvmvs keyframes"
            )
    return found


def _match_folder(
    folder: Path, sequences: Collection[FrameSequence], found: list[list[IndexFile]], measurement_frames: int | None
) -> None:
    for path in sorted(folder.iterdir()):
        name = IndexName.parse(path.name)
        if name is None or not path.is_file() or measurement_frames not in (None, name.measurement_frames):
            continue
        for owner in _owners(name, sequences):
            found[owner].append(_read(path, name, measurement_frames))


def _owners(name: IndexName | None, sequences: Collection[FrameSequence]) -> list[int]:
    """The positions of the sequences that a file of this name belongs to."""
    if name is None:
        return []
    by_scene = [i for i, sequence in enumerate(sequences) if sequence.name == name.scene]
    if len(by_scene) < 2:
        return by_scene
    return [i for i, sequence in enumerate(sequences) if i in by_scene and dataset_name(sequence) == name.dataset]


def _read(path: Path, name: IndexName | None, measurement_frames: int | None) -> IndexFile:
    entries = tuple(IndexEntry(entry.reference, entry.measurements[:measurement_frames]) for entry in read_index(path))
    return IndexFile(path, name, entries)
