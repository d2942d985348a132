# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Which sequences are predicted by which rule: one run for each sequence, or for each index file of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from dvmvs_core.data.keyframe_index import ONLINE, IndexEntry, IndexFile, dataset_name, match_index_files
from dvmvs_core.data.sequence import FrameSequence
from dvmvs_core.errors import ConfigError
from dvmvs_core.evaluation.prediction.predict_sequence import (
    Advance,
    Prediction,
    TwoPasses,
    predict_indexed,
    predict_online,
)
from dvmvs_core.evaluation.prediction.prediction_files import PredictionReader
from dvmvs_core.evaluation.prediction.timeline import RunLengths, indexed_timeline, online_timeline
from dvmvs_core.evaluation.scoring.published import system_name

if TYPE_CHECKING:
    from dvmvs_core.engine import DepthEngine


@dataclass(frozen=True)
class Run:
    """One pass of the engine over one sequence.

    Attributes:
        name: of the run, different from every other's: for tables and folders.
        sequence: the sequence.
        dataset: name of its data set.
        index: the index file to follow; None for the keyframe rule.
        limit: how many keyframes to predict at most.
    """

    name: str
    sequence: FrameSequence
    dataset: str
    index: IndexFile | None = None
    limit: int | None = None

    @property
    def scene(self) -> str:
        """The name of the sequence in published file names: what the index file calls it."""
        return self.index.name.scene if self.index and self.index.name else self.sequence.name

    def predict(self, engine: DepthEngine, depth: bool, advance: Advance, refine: bool = False) -> Iterator[Prediction]:
        """Yield the predictions.

        Args:
            engine: what predicts.
            depth: read sensor depth into their items.
            advance: called with 1 after each frame; with ½ when it was read and ½ when it was refined.
            refine: refine each against those before and after it.
        """
        passes = TwoPasses(advance)
        after_reading = passes.first if refine else advance
        if self.index is None:
            predictions = predict_online(engine, self.sequence, depth, after_reading)
        else:
            entries = _first_keyframes(self.index.entries, self.limit)
            predictions = predict_indexed(engine, self.sequence, entries, depth, after_reading)
        if not refine:
            return predictions
        from dvmvs_core.evaluation.reconstruction.view_refinement import refined_predictions

        return passes.second(refined_predictions(predictions), lambda one: one[0].frame_index)

    def entries_of(self, predictions: Path) -> list[IndexEntry]:
        """Return the keyframes and measurement frames of what was predicted, as an index."""
        reader = PredictionReader(predictions)
        names = {pose.index: pose.name for pose in self.sequence.poses()}
        return [
            IndexEntry(names[reference], tuple(names[i] for i in measurements if i >= 0))
            for reference, measurements in zip(
                reader.frame_index.tolist(), reader.measurement_index.tolist(), strict=True
            )
        ]

    def timeline(self, engine: DepthEngine, predictions: Path) -> RunLengths:
        """Return what became of every frame, up to the last that was predicted."""
        reader = PredictionReader(predictions)
        frames = int(max(reader.frame_index.max(), reader.measurement_index.max())) + 1
        if self.index is None:
            poses = islice(self.sequence.poses(), frames)
            return online_timeline(poses, engine.config.keyframes, self.sequence.unreadable)
        return indexed_timeline(frames, reader.frame_index, reader.measurement_index)

    def system(self, engine: DepthEngine) -> str:
        """Return the published name of what predicts here."""
        rule = self.index.name if self.index else None
        config = engine.model_config
        return system_name(
            keyframing=rule.keyframing if rule else ONLINE if self.index is None else self.index.path.stem,
            dataset=rule.dataset if rule else self.dataset,
            size=(config.height, config.width),
            measurement_frames=(self.index or engine.config.keyframes).measurement_frames,
            network=config.network,
            online=self.index is None,
        )


def plan_runs(
    sequences: list[FrameSequence],
    indices: tuple[Path, ...] = (),
    measurement_frames: int | None = None,
    dataset: str | None = None,
    limit: int | None = None,
) -> list[Run]:
    """Return the runs, in the order of the sequences.

    Args:
        sequences: what to predict.
        indices: index files and folders of them; none for the keyframe rule.
        measurement_frames: see `match_index_files`.
        dataset: name of the data set of all of them, where their folders are not named so.
        limit: how many keyframes of each run to predict at most.

    Raises:
        ConfigError: if a limit is not positive, or two sequences cannot be told apart.
        DataError: if index files and sequences do not match.
    """
    if limit is not None and limit < 1:
        raise ConfigError(f"--limit must be at least 1 keyframe; got {limit}")
    names = _names(sequences)
    if not indices:
        return [
            Run(name, sequence, dataset or dataset_name(sequence), None, limit)
            for name, sequence in zip(names, sequences, strict=True)
        ]
    runs = []
    files_of_each = match_index_files(indices, sequences, measurement_frames)
    for name, sequence, files in zip(names, sequences, files_of_each, strict=True):
        for file in files:
            full_name = name if len(files) == 1 else f"{name}_{_index_label(file)}"
            runs.append(Run(full_name, sequence, dataset or dataset_name(sequence), file, limit))
    _refuse_equal([run.name for run in runs], "index files")
    return runs


def _first_keyframes(entries: tuple[IndexEntry, ...], limit: int | None) -> list[IndexEntry]:
    """The lines up to and with the keyframe that reaches the limit."""
    taken, keyframes = [], 0
    for entry in entries:
        if limit is not None and keyframes == limit:
            break
        taken.append(entry)
        keyframes += entry.reference is not None
    return taken


def _names(sequences: list[FrameSequence]) -> list[str]:
    """The names of the sequences, with the folder's name in front where they would be equal."""
    counts = Counter(sequence.name for sequence in sequences)
    names = [
        f"{dataset_name(sequence)}_{sequence.name}" if counts[sequence.name] > 1 else sequence.name
        for sequence in sequences
    ]
    _refuse_equal(names, "sequences")
    return names


def _index_label(file: IndexFile) -> str:
    return f"{file.name.keyframing}_{file.name.measurement_frames}" if file.name else file.path.stem


def _refuse_equal(names: list[str], what: str) -> None:
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise ConfigError(f"two {what} go by the name {repeated[0]}, so their results could not be told apart")
