# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Predictions as a rosbag2, beside the frames that they were made from: for RViz, Foxglove, rerun and `ros2 bag`.

Topics are those of the node and of the evaluation beside it, so that one layout shows a live robot and this.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dvmvs_core.data.bags import bag_messages
from dvmvs_core.data.bags.bag_messages import CAMERA_INFO, DIAGNOSTICS, IMAGE, POINT_CLOUD
from dvmvs_core.data.bags.bag_writer import CAMERA_FRAME, OpenBag, SequenceRecorder, new_bag
from dvmvs_core.data.cloud import cloud_points_of
from dvmvs_core.data.sequence import FrameSequence, SequenceItem
from dvmvs_core.evaluation.prediction.depth_pictures import colourise_error
from dvmvs_core.evaluation.prediction.predict_sequence import Advance
from dvmvs_core.evaluation.prediction.prediction_files import PredictionReader
from dvmvs_core.evaluation.prediction.prediction_pixels import as_predicted
from dvmvs_core.evaluation.scoring.metrics import evaluate_depth
from dvmvs_core.evaluation.scoring.running_mean import RunningMean
from dvmvs_core.types import DepthPrediction

DEPTH, DEPTH_INFO, CONFIDENCE, POINTS = "/depth/image", "/depth/camera_info", "/depth/confidence", "/points"
METRICS, ERROR_IMAGE = "/evaluation_node/metrics", "/evaluation_node/error_image"


class _Stored(NamedTuple):
    """One prediction on disk, (h, w) each."""

    depth: np.ndarray
    confidence: np.ndarray | None


def write_result_bag(
    sequence: FrameSequence,
    predictions: Path,
    out: Path,
    storage: str = "mcap",
    min_depth_m: float = 0.5,
    advance: Advance | None = None,
) -> None:
    """Write all frames of a sequence, and beside its keyframes their depth, confidence, cloud and figures.

    Args:
        sequence: what was predicted.
        predictions: the npz.
        out: the bag's folder, which must not exist yet.
        storage: "mcap" or "sqlite3".
        min_depth_m: nearest sensor depth that counts.
        advance: called with 1 after each frame.

    Raises:
        DataError: if `out` exists, or predictions and sequence do not belong together.
    """
    reader = PredictionReader(predictions)
    with new_bag(out, storage) as bag:
        bag.describe(sequence)
        recorder = SequenceRecorder(bag, sequence.has_depth)
        results = _Results(bag, reader, sequence.has_depth, min_depth_m)
        stored = _Lookup(reader)
        for item in sequence.items():
            recorder.add(item)
            prediction = stored.take(item.frame.index)
            if prediction is not None:
                results.add(item, prediction)
            if advance:
                advance(1)
    recorder.say_what_was_lost()


class _Results:
    """Turns predictions into messages."""

    def __init__(self, bag: OpenBag, reader: PredictionReader, has_depth: bool, min_depth_m: float) -> None:
        self._bag = bag
        self._K = reader.K
        self._min_depth_m = min_depth_m
        self._figures = RunningMean()
        topics = {DEPTH: IMAGE, DEPTH_INFO: CAMERA_INFO, POINTS: POINT_CLOUD}
        if reader.has_confidence:
            topics[CONFIDENCE] = IMAGE
        if has_depth:
            topics.update({METRICS: DIAGNOSTICS, ERROR_IMAGE: IMAGE})
        for topic, message_type in topics.items():
            bag.open(topic, message_type)

    def add(self, item: SequenceItem, stored: _Stored) -> None:
        """Write what one keyframe gave."""
        frame, (depth, confidence) = item.frame, stored
        at = (frame.stamp_ns, CAMERA_FRAME)
        resized = as_predicted(frame.K, frame.image.shape[:2], depth.shape, self._K)
        prediction = DepthPrediction(
            depth=depth,
            K=self._K,
            image=np.clip(np.rint(resized.image(frame.image)), 0, 255).astype(np.uint8),
            world_T_cam=frame.world_T_cam,
            stamp_ns=frame.stamp_ns,
            frame_index=frame.index,
            measurement_index=(),
            measurement_stamps_ns=(),
            latency_ms=0.0,
            confidence=confidence,
        )
        valid = depth > 0
        self._write(DEPTH_INFO, frame.stamp_ns, bag_messages.camera_info(*at, self._K, depth.shape))
        metres = np.where(valid, depth, np.nan).astype("<f4")
        self._write(DEPTH, frame.stamp_ns, bag_messages.image(*at, metres, "32FC1"))
        if confidence is not None:
            self._write(CONFIDENCE, frame.stamp_ns, bag_messages.image(*at, confidence.astype("<f4"), "32FC1"))
        self._write(POINTS, frame.stamp_ns, bag_messages.cloud(*at, cloud_points_of(prediction, valid)))
        if item.sensor_depth is not None:
            truth = np.where(valid, resized.depth(item.sensor_depth), np.float32(0))
            metrics = evaluate_depth(depth, truth, self._min_depth_m)
            self._figures.add(metrics)
            self._write(METRICS, frame.stamp_ns, bag_messages.diagnostics(*at, self._figures.statuses(metrics)))
            picture = colourise_error(depth, truth)
            self._write(ERROR_IMAGE, frame.stamp_ns, bag_messages.image(*at, picture, "rgb8"))

    def _write(self, topic: str, stamp_ns: int, message: object) -> None:
        self._bag.write(topic, stamp_ns, message)


class _Lookup:
    """Predictions by frame, in the order of the frames; an index file may name them in any order."""

    def __init__(self, reader: PredictionReader) -> None:
        self._wanted = set(reader.frame_index.tolist())
        self._held: dict[int, _Stored] = {}
        self._coming: Iterator = zip(reader.frame_index.tolist(), reader.depths(), reader.confidences(), strict=True)

    def take(self, index: int) -> _Stored | None:
        """Return the prediction of a frame, or None."""
        if index not in self._wanted:
            return None
        while index not in self._held and (coming := next(self._coming, None)) is not None:
            self._held[coming[0]] = _Stored(*coming[1:])
        return self._held.pop(index, None)
