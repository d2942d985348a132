"""Running the engine over a whole sequence, by its own keyframe rule or by an index file."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from dvmvs_core.data.keyframe_index import IndexEntry
from dvmvs_core.data.sequence import Sequence, SequenceItem
from dvmvs_core.errors import DataError
from dvmvs_core.evaluation.predictions import PredictionWriter
from dvmvs_core.types import DepthPrediction, Frame

if TYPE_CHECKING:
    from dvmvs_core.engine import DepthEngine

PREDICTIONS = "predictions.npz"
PICTURES = "pictures"

Advance = Callable[[int], None]
Prediction = tuple[DepthPrediction, SequenceItem]
"""A prediction with the item of its reference frame."""


def predict_online(
    engine: DepthEngine, sequence: Sequence, depth: bool = False, advance: Advance | None = None
) -> Iterator[Prediction]:
    """Yield the depth of every keyframe that the engine chooses.

    Args:
        engine: reset first, so that nothing of another sequence is left in it.
        sequence: the frames.
        depth: read sensor depth into the items.
        advance: called with 1 after each frame.
    """
    engine.reset()
    for item in sequence.items(depth):
        prediction = engine.step(item.frame)
        if prediction is not None:
            yield prediction, item
        if advance:
            advance(1)


def predict_indexed(
    engine: DepthEngine,
    sequence: Sequence,
    entries: list[IndexEntry],
    depth: bool = False,
    advance: Advance | None = None,
) -> Iterator[Prediction]:
    """Yield the depth of the keyframes of an index file, against the measurement frames that it names.

    A frame is kept only from where it comes to its last use, so any length of sequence goes through.

    Args:
        engine: reset first, and wherever the index says that tracking was lost.
        sequence: the frames.
        entries: the index.
        depth: read sensor depth into the items.
        advance: called with 1 after each frame.

    Raises:
        DataError: if the index names a frame that the sequence lacks.
    """
    known = {pose.name for pose in sequence.poses()}
    missing = sorted({name for entry in entries for name in _names(entry)} - known)
    if missing:
        raise DataError(
            f"the index names {len(missing)} frames that {sequence.path} lacks, the first {missing[0]};"
            " it belongs to another sequence, or take fewer keyframes with --limit"
        )
    last_use = {name: position for position, entry in enumerate(entries) for name in _names(entry)}
    held: dict[str, SequenceItem] = {}
    position = 0
    engine.reset()
    for item in sequence.items(depth):
        if item.name in last_use:
            held[item.name] = item
        while position < len(entries) and all(name in held for name in _names(entries[position])):
            entry = entries[position]
            if entry.reference is None:
                engine.reset()
            else:
                yield engine.predict(held[entry.reference].frame, _frames(held, entry)), held[entry.reference]
            for name in set(_names(entry)):
                if last_use[name] == position:
                    del held[name]
            position += 1
        if advance:
            advance(1)
        if position == len(entries):
            return
    if position < len(entries):
        raise DataError(f"{sequence.path} has no usable frame for the index line {str(entries[position])!r}")


def write_predictions(
    predictions: Iterator[Prediction], folder: Path, limit: int | None = None, pictures_every: int = 0
) -> list[float]:
    """Write predictions to `folder`/predictions.npz, and strips of pictures to `folder`/pictures.

    Args:
        predictions: what `predict_online` or `predict_indexed` yields.
        folder: made if missing.
        limit: how many keyframes to take at most.
        pictures_every: one picture for so many keyframes; 0 for none.

    Returns:
        The latency of each prediction in milliseconds.

    Raises:
        DataError: if there is no keyframe at all.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # The pictures of a run that fails half-way must not lie among those of the run before.
    with tempfile.TemporaryDirectory(prefix=".unfinished", dir=folder) as unfinished:
        with PredictionWriter(folder / PREDICTIONS) as writer:
            for prediction, item in islice(predictions, limit):
                if pictures_every and len(writer) % pictures_every == 0:
                    _write_picture(Path(unfinished) / f"{item.frame.index:05d}.png", prediction, item)
                writer.append(prediction)
            if not len(writer):
                raise DataError(
                    "no frame became a keyframe, so there is nothing to predict: the camera hardly moves, its poses are"
                    " not metric, or tracking is lost throughout"
                )
        if pictures_every:
            (folder / PICTURES).mkdir(exist_ok=True)
        for picture in Path(unfinished).iterdir():
            os.replace(picture, folder / PICTURES / picture.name)
        return writer.latencies_ms


def _write_picture(path: Path, prediction: DepthPrediction, item: SequenceItem) -> None:
    from dvmvs_core.evaluation.pictures import depth_strip, encode_png
    from dvmvs_core.evaluation.score import resize_truth

    truth = item.sensor_depth
    if truth is not None:
        truth = resize_truth(truth, item.frame.K, prediction.depth.shape, prediction.K)
    path.write_bytes(encode_png(depth_strip(prediction.image, prediction.depth, truth)))


def _names(entry: IndexEntry) -> tuple[str, ...]:
    return () if entry.reference is None else (entry.reference, *entry.measurements)


def _frames(held: dict[str, SequenceItem], entry: IndexEntry) -> list[Frame]:
    return [held[name].frame for name in entry.measurements]
