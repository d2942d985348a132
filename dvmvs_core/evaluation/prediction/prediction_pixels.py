# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.


"""Predictions on disk with their frames: pictures and depth of a camera at the pixels of predictions."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dvmvs_core.data.sequence import FrameSequence, SequenceItem
from dvmvs_core.errors import DataError
from dvmvs_core.evaluation.prediction.prediction_files import PredictionReader
from dvmvs_core.preprocess import Preprocessor
from dvmvs_core.types import DepthPrediction


@dataclass(frozen=True, eq=False)
class StoredKeyframe:
    """A prediction on disk with its frame, all images of one size.

    Attributes:
        item: the frame as it was recorded.
        image: (h, w, 3) uint8 RGB, as the network saw it.
        depth: (h, w) float32 metres.
        confidence: (h, w) float32; None if none was stored.
        truth: (h, w) float32 metres of the sensor, 0 = none; None if the frame has none.
        K: (3, 3) intrinsics of all.
    """

    item: SequenceItem
    image: np.ndarray
    depth: np.ndarray
    confidence: np.ndarray | None
    truth: np.ndarray | None
    K: np.ndarray


class StoredKeyframes:
    """Predictions by frame, in the order of the frames; an index file may name them in any order.

    Args:
        path: the npz.
        wanted: indices of frames; by default all that were predicted.

    Attributes:
        reader: of the npz.
        missing: indices of wanted frames that have not come yet.
    """

    def __init__(self, path: Path, wanted: Collection[int] | None = None) -> None:
        self.reader = reader = PredictionReader(path)
        self.missing = set(reader.frame_index.tolist())
        if wanted is not None:
            self.missing &= set(wanted)
        self._held: dict[int, tuple[np.ndarray, np.ndarray | None]] = {}
        self._coming = zip(reader.frame_index.tolist(), reader.depths(), reader.confidences(), strict=True)

    def take(self, item: SequenceItem) -> StoredKeyframe | None:
        """Return the prediction of a frame, or None; later calls must be about later frames.

        Raises:
            DataError: if the predictions are of another camera.
        """
        index = item.frame.index
        if index not in self.missing:
            return None
        while index not in self._held:
            coming, depth, confidence = next(self._coming)
            if coming in self.missing:
                self._held[coming] = depth, confidence
        self.missing.discard(index)
        return stored_keyframe(item, *self._held.pop(index), self.reader.K)

    def of(
        self, sequence: FrameSequence, depth: bool = False, advance: Callable[[int], None] | None = None
    ) -> Iterator[StoredKeyframe]:
        """Yield them with the frames of their sequence.

        Args:
            sequence: what was predicted.
            depth: read sensor depth.
            advance: called with 1 after each frame.
        """
        for item in sequence.items(depth):
            if keyframe := self.take(item):
                yield keyframe
            if advance:
                advance(1)
            if not self.missing:
                return


def stored_keyframe(
    item: SequenceItem, depth: np.ndarray, confidence: np.ndarray | None, K: np.ndarray
) -> StoredKeyframe:
    """Return a prediction (h, w) of intrinsics K (3, 3) with its frame.

    Raises:
        DataError: if no crop leads from the frame's intrinsics to those of the predictions.
    """
    preprocessor = as_predicted(item.frame.K, item.frame.image.shape[:2], depth.shape, K)
    image = np.clip(np.rint(preprocessor.image(item.frame.image)), 0, 255).astype(np.uint8)
    truth = None if item.sensor_depth is None else preprocessor.depth(item.sensor_depth)
    return StoredKeyframe(item, image, depth, confidence, truth, K)


def sensor_depth_of(prediction: DepthPrediction, item: SequenceItem) -> np.ndarray | None:
    """Return the sensor depth of a prediction's frame at its pixels (h, w); None if it has none."""
    if item.sensor_depth is None:
        return None
    return resize_truth(item.sensor_depth, item.frame.K, prediction.depth.shape, prediction.K)


def resize_truth(
    sensor_depth: np.ndarray, K: np.ndarray, size: tuple[int, int], prediction_K: np.ndarray
) -> np.ndarray:
    """Return sensor depth (H, W) at the predictions' resolution (h, w), cropped as they were, by nearest neighbour.

    Raises:
        DataError: if no crop leads from K to the intrinsics of the predictions.
    """
    return as_predicted(K, sensor_depth.shape, size, prediction_K).depth(sensor_depth)


def as_predicted(
    K: np.ndarray, camera_size: tuple[int, int], size: tuple[int, int], prediction_K: np.ndarray
) -> Preprocessor:
    """Return what brings pictures of a camera to the resolution of predictions, cropped as they were.

    Args:
        K: (3, 3) intrinsics of the camera.
        camera_size: (H, W) of its pictures.
        size: (h, w) of the predictions.
        prediction_K: (3, 3) their intrinsics.

    Raises:
        DataError: if no crop leads from K to the intrinsics of the predictions.
    """
    for crop in (False, True):
        preprocessor = Preprocessor(K, camera_size, size, crop=crop)
        if np.allclose(preprocessor.K, prediction_K, rtol=1e-5):
            return preprocessor
    raise DataError(
        f"the predictions have intrinsics {np.round(prediction_K, 2).tolist()}, which do not follow from the sequence's"
        f" {np.round(K, 2).tolist()}: they belong to another sequence"
    )
