# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Predictions as a rosbag2, with the frames that they were made from: for RViz, Foxglove, rerun and `ros2 bag`.

Topics are those of the node and of the evaluation node, so that one layout shows a live robot and this.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dvmvs_core.data.bags import bag_messages
from dvmvs_core.data.bags.bag_messages import CAMERA_INFO, DIAGNOSTICS, IMAGE, POINT_CLOUD
from dvmvs_core.data.bags.bag_writer import CAMERA_FRAME, OpenBag, SequenceRecorder, new_bag
from dvmvs_core.data.point_clouds import cloud_points_of
from dvmvs_core.data.sequence import FrameSequence
from dvmvs_core.evaluation.prediction.depth_pictures import colourise_error
from dvmvs_core.evaluation.prediction.predict_sequence import Advance
from dvmvs_core.evaluation.prediction.prediction_files import PredictionReader
from dvmvs_core.evaluation.prediction.prediction_pixels import StoredKeyframe, StoredKeyframes
from dvmvs_core.evaluation.scoring.metrics import RunningMean, evaluate_depth
from dvmvs_core.types import DepthPrediction

DEPTH, DEPTH_INFO, CONFIDENCE, POINTS = "/depth/image", "/depth/camera_info", "/depth/confidence", "/points"
METRICS, ERROR_IMAGE = "/evaluation_node/metrics", "/evaluation_node/error_image"


def write_result_bag(
    sequence: FrameSequence,
    predictions: Path,
    out: Path,
    storage: str = "mcap",
    min_depth_m: float = 0.5,
    advance: Advance | None = None,
) -> None:
    """Write all frames of a sequence, and with its keyframes their depth, confidence, cloud and figures.

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
    stored = StoredKeyframes(predictions)
    with new_bag(out, storage) as bag:
        bag.describe(sequence)
        recorder = SequenceRecorder(bag, sequence.has_depth)
        results = _Results(bag, stored.reader, sequence.has_depth, min_depth_m)
        for item in sequence.items():
            recorder.add(item)
            if keyframe := stored.take(item):
                results.add(keyframe)
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

    def add(self, keyframe: StoredKeyframe) -> None:
        """Write what one keyframe gave."""
        frame, depth, confidence = keyframe.item.frame, keyframe.depth, keyframe.confidence
        at = (frame.stamp_ns, CAMERA_FRAME)
        prediction = DepthPrediction(
            depth=depth,
            K=self._K,
            image=keyframe.image,
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
        if keyframe.truth is not None:
            truth = np.where(valid, keyframe.truth, np.float32(0))
            metrics = evaluate_depth(depth, truth, self._min_depth_m)
            self._figures.add(metrics)
            self._write(METRICS, frame.stamp_ns, bag_messages.diagnostics(*at, self._figures.statuses(metrics)))
            picture = colourise_error(depth, truth)
            self._write(ERROR_IMAGE, frame.stamp_ns, bag_messages.image(*at, picture, "rgb8"))

    def _write(self, topic: str, stamp_ns: int, message: object) -> None:
        self._bag.write(topic, stamp_ns, message)
