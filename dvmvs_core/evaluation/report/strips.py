# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Keyframes of predictions on disk as one picture, a row each: image, depth, sensor depth, error and confidence."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from dvmvs_core.data.sequence import FrameSequence, SequenceItem
from dvmvs_core.errors import DataError
from dvmvs_core.evaluation.prediction.depth_pictures import captioned, depth_strip
from dvmvs_core.evaluation.prediction.prediction_files import PredictionReader
from dvmvs_core.evaluation.prediction.prediction_pixels import as_predicted
from dvmvs_core.evaluation.scoring.metrics import evaluate_depth


def spread_keyframes(predictions: Path, count: int) -> list[int]:
    """Return the frame index of `count` keyframes, evenly from the first to the last; all if there are fewer."""
    indices = PredictionReader(predictions).frame_index
    return indices[np.unique(np.linspace(0, len(indices) - 1, count).round().astype(int))].tolist()


def strip(
    predictions: Path, sequence: FrameSequence, frame_indices: Iterable[int], min_depth_m: float = 0.5
) -> np.ndarray:
    """Return the picture, the keyframes from top to bottom in the order of the sequence.

    Args:
        predictions: the npz.
        sequence: what it was made from; without sensor depth there are only image, depth and confidence.
        frame_indices: the keyframes, by their index in the sequence.
        min_depth_m: nearest sensor depth that counts in the error that a row names; all of it is drawn.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        DataError: if one of them is no keyframe, or the predictions are of another sequence.
    """
    reader = PredictionReader(predictions)
    wanted = set(frame_indices)
    missing = sorted(wanted - set(reader.frame_index.tolist()))
    if missing or not wanted:
        raise DataError(
            f"frames {missing} are no keyframes of {predictions}; it has {reader.frame_index.tolist()}"
            if missing
            else f"name at least one keyframe of {predictions}"
        )
    predicted = {
        index: (depth, confidence)
        for index, depth, confidence in zip(
            reader.frame_index.tolist(), reader.depths(), reader.confidences(), strict=True
        )
        if index in wanted
    }
    rows = []
    for item in sequence.items(depth=sequence.has_depth):
        if item.frame.index in wanted:
            rows.append(_row(item, *predicted[item.frame.index], reader.K, min_depth_m, sequence.depth_name))
        if len(rows) == len(wanted):
            break
    widest = max(row.shape[1] for row in rows)
    return np.vstack([np.pad(row, ((0, 0), (0, widest - row.shape[1]), (0, 0)), constant_values=255) for row in rows])


def _row(
    item: SequenceItem,
    depth: np.ndarray,
    confidence: np.ndarray | None,
    K: np.ndarray,
    min_depth_m: float,
    truth_name: str,
) -> np.ndarray:
    preprocessor = as_predicted(item.frame.K, item.frame.image.shape[:2], depth.shape, K)
    image = np.clip(np.rint(preprocessor.image(item.frame.image)), 0, 255).astype(np.uint8)
    said, truth = f"frame {item.frame.index} ({item.name})", None
    if item.sensor_depth is not None:
        truth = preprocessor.depth(item.sensor_depth)
        metrics = evaluate_depth(depth, np.where(depth > 0, truth, 0), min_depth_m)
        said += f": abs rel {metrics.abs_relative_error:.3f}, within 1.25 {metrics.ratio_125:.3f}"
    return captioned(said, depth_strip(image, depth, truth, confidence, legend=True, truth_name=truth_name))
