# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Running the engine over a whole sequence, by its own keyframe rule or by an index file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from dvmvs_core.atomic import unfinished_folder
from dvmvs_core.data.keyframe_index import IndexEntry
from dvmvs_core.data.lens.valid_mask import apply_valid_mask
from dvmvs_core.data.sequence import FrameSequence, SequenceItem
from dvmvs_core.errors import DataError
from dvmvs_core.evaluation.prediction.prediction_files import PredictionWriter
from dvmvs_core.geometry import is_finite_pose
from dvmvs_core.keyframes import KeyframeDecision
from dvmvs_core.types import DepthPrediction

if TYPE_CHECKING:
    from dvmvs_core.engine import DepthEngine

PREDICTIONS = "predictions.npz"
PICTURES = "pictures"

Advance = Callable[[float], None]
Item = TypeVar("Item")
Prediction = tuple[DepthPrediction, SequenceItem]
"""A prediction with the item of its reference frame."""


def predict_online(
    engine: DepthEngine, sequence: FrameSequence, depth: bool = False, advance: Advance | None = None
) -> Iterator[Prediction]:
    """Yield the depth of every keyframe that the engine chooses.

    Args:
        engine: reset first, so that nothing of another sequence is left in it.
        sequence: the frames.
        depth: read sensor depth into the items.
        advance: called with 1 after each frame.
    """
    for prediction, item, _ in predict_every_frame(engine, sequence, depth, advance, others=False):
        yield prediction, item


def predict_every_frame(
    engine: DepthEngine,
    sequence: FrameSequence,
    depth: bool = False,
    advance: Advance | None = None,
    others: bool = True,
) -> Iterator[tuple[DepthPrediction, SequenceItem, bool]]:
    """Yield the depth of every frame that has something to be measured against, and whether it became a keyframe.

    Args:
        engine: as for `predict_online`; keyframes get the same depth as there.
        sequence: the frames.
        depth: read sensor depth into the items.
        advance: called with 1 after each frame.
        others: yield frames that became no keyframe, too.
    """
    engine.reset()
    for item in _fitted(sequence, engine).items(depth):
        prediction = engine.step(item.frame)
        is_keyframe = prediction is not None
        if others and engine.last_decision is KeyframeDecision.TOO_CLOSE:
            prediction = engine.predict_without_update(item.frame)
        if prediction is not None:
            yield apply_valid_mask(prediction, item.valid_mask, engine.config.crop), item, is_keyframe
        if advance:
            advance(1)


def predict_indexed(
    engine: DepthEngine,
    sequence: FrameSequence,
    entries: list[IndexEntry],
    depth: bool = False,
    advance: Advance | None = None,
) -> Iterator[Prediction]:
    """Yield the depth of the keyframes of an index file, against the measurement frames that it names.

    A frame is kept only from where it comes to its last use, so any length of sequence goes through. A measurement
    frame without image or pose is done without; a keyframe without them, or without measurement frames, is left out.

    Args:
        engine: reset first, and wherever the index says that tracking was lost.
        sequence: the frames.
        entries: the index.
        depth: read sensor depth into the items.
        advance: called with 1 after each frame.

    Raises:
        DataError: if the index names a frame that the sequence lacks.
    """
    indices = {pose.name: pose.index for pose in sequence.poses()}
    missing = sorted({name for entry in entries for name in _names(entry)} - indices.keys())
    if missing:
        raise DataError(
            f"the index names {len(missing)} frames that {sequence.path} lacks, the first {missing[0]};"
            " it belongs to another sequence, or take fewer keyframes with --limit"
        )
    last_use = {name: position for position, entry in enumerate(entries) for name in _names(entry)}
    held: dict[str, SequenceItem] = {}
    position = 0
    engine.reset()
    for item in chain(_fitted(sequence, engine).items(depth), (None,)):
        newest = len(sequence) if item is None else item.frame.index
        if item is not None and item.name in last_use and is_finite_pose(item.frame.world_T_cam):
            held[item.name] = item
        # A frame that has not come when a later one has will not come at all.
        while position < len(entries) and all(indices[name] <= newest for name in _names(entries[position])):
            entry = entries[position]
            measurements = [held[name].frame for name in entry.measurements if name in held]
            if entry.reference is None:
                engine.reset()
            elif entry.reference in held and measurements:
                reference = held[entry.reference]
                prediction = engine.predict(reference.frame, measurements)
                yield apply_valid_mask(prediction, reference.valid_mask, engine.config.crop), reference
            for name in set(_names(entry)):
                if last_use[name] == position:
                    held.pop(name, None)
            position += 1
        if item is not None and advance:
            advance(1)
        if position == len(entries):
            return


class TwoPasses:
    """Counts every frame of a sequence by halves, for a bar of two passes of which the second looks far ahead.

    Args:
        advance: of a bar as long as the sequence.
    """

    def __init__(self, advance: Advance) -> None:
        self._advance = advance
        self._read = 0.0

    def first(self, frames: float) -> None:
        """Count frames that have gone through the first pass."""
        self._read += frames
        self._advance(frames / 2)

    def second(self, items: Iterable[Item], frame_index: Callable[[Item], int]) -> Iterator[Item]:
        """Yield what leaves the second pass, and count the frames up to it.

        Args:
            items: what leaves it; frames that give none are counted with the next that does.
            frame_index: position in the sequence of the frame that an item is of.
        """
        counted = 0
        for item in items:
            frames = frame_index(item) + 1
            if frames > counted:
                self._advance((frames - counted) / 2)
                counted = frames
            yield item
        self._advance(max(self._read - counted, 0) / 2)


def write_predictions(
    predictions: Iterator[Prediction],
    folder: Path,
    limit: int | None = None,
    pictures_every: int = 0,
    truth_name: str = "sensor depth",
) -> list[float]:
    """Write predictions to `folder`/predictions.npz, and strips of pictures to `folder`/pictures.

    Args:
        predictions: what `predict_online` or `predict_indexed` yields.
        folder: made if missing.
        limit: how many keyframes to take at most.
        pictures_every: one picture for so many keyframes; 0 for none.
        truth_name: what pictures call the depth to compare with, `Sequence.depth_name`.

    Returns:
        The latency of each prediction in milliseconds.

    Raises:
        DataError: if there is no keyframe at all.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # The pictures of a run that fails half-way must not lie among those of the run before.
    with unfinished_folder(folder / PICTURES) as unfinished:
        with PredictionWriter(folder / PREDICTIONS) as writer:
            for prediction, item in islice(predictions, limit):
                if pictures_every and len(writer) % pictures_every == 0:
                    _write_picture(unfinished / f"{item.frame.index:05d}.png", prediction, item, truth_name)
                writer.append(prediction)
            if not len(writer):
                raise DataError(
                    "no frame became a keyframe, so there is nothing to predict: the camera hardly moves, its poses are"
                    " not metric, or tracking is lost throughout"
                )
        if pictures_every:
            (folder / PICTURES).mkdir(exist_ok=True)
        for picture in unfinished.iterdir():
            os.replace(picture, folder / PICTURES / picture.name)
        return writer.latencies_ms


def _write_picture(path: Path, prediction: DepthPrediction, item: SequenceItem, truth_name: str) -> None:
    from dvmvs_core.data.encodings.pictures import encode_png
    from dvmvs_core.evaluation.prediction.depth_pictures import depth_strip
    from dvmvs_core.evaluation.prediction.prediction_pixels import sensor_depth_of

    truth = sensor_depth_of(prediction, item)
    strip = depth_strip(
        prediction.image, prediction.depth, truth, prediction.confidence, legend=True, truth_name=truth_name
    )
    path.write_bytes(encode_png(strip))


def _fitted(sequence: FrameSequence, engine: DepthEngine) -> FrameSequence:
    config = engine.model_config
    return sequence.fitted((config.height, config.width), engine.config.crop)


def _names(entry: IndexEntry) -> tuple[str, ...]:
    return () if entry.reference is None else (entry.reference, *entry.measurements)
