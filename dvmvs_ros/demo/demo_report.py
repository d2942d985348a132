# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What a demo's recording says: counts, latency and the published metrics, and pictures of depth and clouds.

Depth and statuses are read and scored as the evaluation node does it; when an image was sent, the player has noted.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dvmvs_core.atomic import replacing
from dvmvs_core.data.bags.bag_files import BagFiles, deserialise
from dvmvs_core.data.bags.bag_images import read_header
from dvmvs_core.data.encodings.pictures import encode_png
from dvmvs_core.data.sequence import FrameSequence
from dvmvs_core.errors import DataError
from dvmvs_core.evaluation.prediction.depth_pictures import depth_strip
from dvmvs_core.evaluation.prediction.prediction_files import PredictionReader
from dvmvs_core.evaluation.prediction.prediction_pixels import as_predicted
from dvmvs_core.evaluation.report.cloud_picture import Cloud, draw_sides
from dvmvs_core.evaluation.scoring.metrics import DepthMetrics
from dvmvs_core.evaluation.scoring.score import score_predictions
from dvmvs_core.geometry import is_finite_pose
from dvmvs_core.keyframes import KeyframeDecision
from dvmvs_ros import recorder_node
from dvmvs_ros.evaluation.evaluation_report import spread_ms, write_heard
from dvmvs_ros.evaluation.topics import EvaluationTopics
from dvmvs_ros.messages.conversions import confidence_from_message, points_from_message

TOPICS = EvaluationTopics(
    image=f"/{recorder_node.IMAGE}",
    info=f"/{recorder_node.CAMERA_INFO}",
    mask=f"/{recorder_node.VALID_MASK}",
    truth=f"/{recorder_node.SENSOR_DEPTH}",
    depth=f"/{recorder_node.DEPTH}",
    status=f"/{recorder_node.STATUS}",
    points=f"/{recorder_node.POINTS}",
    poses=(),
    types={},
)
"""What the recorder records, as the evaluation names it."""

ROWS = 4
CLOUD_SIZE = (540, 1280)
CLOUDS = 60
"""Clouds that are drawn at most, evenly from the first to the last."""

MIN_CONFIDENCE = 0.5
"""Points whose depth is more likely right than not."""


@dataclass(frozen=True)
class DemoReport:
    """The figures of a demo.

    Attributes:
        sequence: its name.
        weights: the checkpoint.
        frames_sent: images that the player published.
        frames_answered: images that the node said something of.
        keyframes: images that became a keyframe, the first without depth too.
        depths: keyframes that got a depth.
        depth_images: depth images that the recorder received.
        clouds: clouds that the recorder received.
        dropped: reason → number of images.
        latency_ms: from an image's publication to the arrival of its depth at the recorder: median and p95.
        inference_ms: the engine's part of that.
        metrics: against sensor depth, mean over keyframes; None without sensor depth.
        constant_abs_relative_error: that of a constant, the median of each keyframe's truth; None without sensor depth.
    """

    sequence: str
    weights: str
    frames_sent: int
    frames_answered: int
    keyframes: int
    depths: int
    depth_images: int
    clouds: int
    dropped: dict[str, int]
    latency_ms: dict[str, float]
    inference_ms: dict[str, float]
    metrics: DepthMetrics | None
    constant_abs_relative_error: float | None

    def to_dict(self) -> dict[str, object]:
        """Return the figures as JSON holds them."""
        return {**self.__dict__, "metrics": self.metrics.to_dict() if self.metrics else None}


def make_report(mcap: Path, sent: Path, sequence: FrameSequence, weights: str, predictions: Path) -> DemoReport:
    """Write the received depth to an npz, score it, and gather the figures.

    Args:
        mcap: what the recorder received.
        sent: the player's JSON of what it sent.
        sequence: what was played.
        weights: the checkpoint, for the report.
        predictions: the npz to write.

    Raises:
        DataError: if no depth arrived.
    """
    try:
        statuses = write_heard(mcap, TOPICS, sequence, sequence.name, predictions).values()
    except DataError as error:
        raise DataError(f"{error}. The logs say more") from error
    frames = json.loads(sent.read_text())["sent"]
    published_ns = {frame["stamp_ns"]: frame["published_ns"] for frame in frames}
    files = BagFiles(mcap)
    arrivals_ns = {read_header(raw.data)[0]: raw.log_ns for raw in files.messages({TOPICS.depth})}
    depths = sum(status.has_depth for status in statuses)
    score = score_predictions(predictions, sequence) if sequence.has_depth else None
    return DemoReport(
        sequence=sequence.name,
        weights=weights,
        frames_sent=len(frames),
        frames_answered=len(statuses),
        keyframes=depths + sum(status.outcome is KeyframeDecision.FIRST for status in statuses),
        depths=depths,
        depth_images=len(arrivals_ns),
        clouds=sum(1 for _ in files.messages({TOPICS.points})),
        dropped=dict(Counter(status.outcome.value for status in statuses if status.dropped)),
        latency_ms=spread_ms([(arrival - published_ns[stamp]) * 1e-6 for stamp, arrival in arrivals_ns.items()]),
        inference_ms=spread_ms([status.inference_ms for status in statuses if status.has_depth]),
        metrics=score.mean if score else None,
        constant_abs_relative_error=(
            float(np.mean([metrics.abs_relative_error for metrics in score.constant])) if score else None
        ),
    )


def write_pictures(predictions: Path, mcap: Path, sequence: FrameSequence, strip: Path, cloud: Path) -> None:
    """Write a strip of keyframes next to their depth, and the published clouds in the world, from two sides.

    Args:
        predictions: depth as `make_report` wrote it.
        mcap: what the recorder received.
        sequence: what was played; images, poses and the recording's own depth are taken from it.
        strip: png to write.
        cloud: png to write.
    """
    depth = PredictionReader(predictions)
    for path, picture in (
        (strip, _draw_strip(depth, sequence)),
        (cloud, _draw_clouds(depth.stamp_ns.tolist(), mcap, sequence)),
    ):
        with replacing(path) as unfinished:
            unfinished.write_bytes(encode_png(picture))


def _draw_strip(predictions: PredictionReader, sequence: FrameSequence) -> np.ndarray:
    chosen = set(np.linspace(0, len(predictions) - 1, 2 * ROWS + 1).astype(int)[1::2].tolist())
    depths = {
        stamp_ns: depth
        for i, (stamp_ns, depth) in enumerate(zip(predictions.stamp_ns.tolist(), predictions.depths(), strict=True))
        if i in chosen
    }
    rows = []
    for item in sequence.items():
        frame, truth = item.frame, item.sensor_depth
        depth = depths.get(frame.stamp_ns)
        if depth is None:
            continue
        pixels = as_predicted(frame.K, frame.image.shape[:2], depth.shape, predictions.K)
        image = np.clip(np.rint(pixels.image(frame.image)), 0, 255).astype(np.uint8)
        truth = None if truth is None else pixels.depth(truth)
        rows.append(depth_strip(image, depth, truth, legend=True, truth_name=sequence.depth_name))
    return np.vstack(rows)


def _draw_clouds(depth_stamps_ns: list[int], mcap: Path, sequence: FrameSequence) -> np.ndarray:
    poses = {pose.stamp_ns: pose.world_T_cam for pose in sequence.poses() if is_finite_pose(pose.world_T_cam)}
    stamps = [stamp_ns for stamp_ns in depth_stamps_ns if stamp_ns in poses]
    drawn = {stamps[i] for i in np.linspace(0, len(stamps) - 1, min(len(stamps), CLOUDS)).astype(int)}
    cloud = Cloud()
    files = BagFiles(mcap)
    for raw in files.messages({TOPICS.points}):
        stamp_ns = read_header(raw.data)[0]
        if stamp_ns in drawn:
            message = deserialise(raw.data, files.topics[raw.topic].message_type)
            points, colours = points_from_message(message)
            confidence = confidence_from_message(message)
            keep = slice(None) if confidence is None else confidence >= MIN_CONFIDENCE
            cloud.add(points[keep], colours[keep], poses[stamp_ns])
    return draw_sides(cloud, [poses[stamp_ns] for stamp_ns in stamps], CLOUD_SIZE)
