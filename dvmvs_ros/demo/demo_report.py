# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What a demo's recording says: counts, latency, depth as `dvmvs predict` writes it, and the published metrics.

Everything is read from the mcap that another process recorded, and from the player's list of what it sent.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dvmvs_core.data.bags.bag_files import BagFiles, deserialise
from dvmvs_core.data.sequence import FrameSequence
from dvmvs_core.errors import DataError
from dvmvs_core.evaluation.prediction.prediction_files import PredictionWriter
from dvmvs_core.evaluation.scoring.metrics import DepthMetrics
from dvmvs_core.evaluation.scoring.score import score_predictions
from dvmvs_core.keyframes import KeyframeDecision
from dvmvs_core.types import DepthPrediction
from dvmvs_ros import recorder_node
from dvmvs_ros.depth.frame_status import FrameStatus
from dvmvs_ros.messages.conversions import camera_from_message, depth_from_message, stamp_to_ns


@dataclass
class Recording:
    """What the recorder received, by the stamp of the image that it belongs to.

    Attributes:
        depths: (h, w) float32 metres, 0 = invalid.
        arrivals_ns: wall-clock time at which each depth image arrived.
        intrinsics: (3, 3) of each depth image.
        statuses: what the node said of each image.
        clouds: stamps of the clouds.
        images: stamps of the camera's images.
    """

    depths: dict[int, np.ndarray] = field(default_factory=dict)
    arrivals_ns: dict[int, int] = field(default_factory=dict)
    intrinsics: dict[int, np.ndarray] = field(default_factory=dict)
    statuses: dict[int, FrameStatus] = field(default_factory=dict)
    clouds: list[int] = field(default_factory=list)
    images: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Report:
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


def read_recording(path: Path) -> Recording:
    """Read a recorder's mcap.

    Raises:
        DataError: if it holds nothing.
    """
    files, recording = BagFiles(path), Recording()
    handlers = {
        f"/{recorder_node.DEPTH}": _add_depth,
        f"/{recorder_node.DEPTH_INFO}": _add_depth_info,
        f"/{recorder_node.STATUS}": _add_status,
        f"/{recorder_node.POINTS}": lambda r, message, _: r.clouds.append(stamp_to_ns(message.header.stamp)),
        f"/{recorder_node.IMAGE}": lambda r, message, _: r.images.append(stamp_to_ns(message.header.stamp)),
    }
    for raw in files.messages(set(handlers)):
        message = deserialise(raw.data, files.topics[raw.topic].message_type)
        handlers[raw.topic](recording, message, raw.log_ns)
    return recording


def make_report(recording: Recording, sent: Path, sequence: FrameSequence, weights: str, predictions: Path) -> Report:
    """Write the received depth to an npz, score it, and gather the figures.

    Args:
        recording: what was received.
        sent: the player's JSON of what it sent.
        sequence: what was played.
        weights: the checkpoint, for the report.
        predictions: the npz to write.

    Raises:
        DataError: if no depth arrived.
    """
    if not recording.depths:
        raise DataError(
            f"no depth image was received for {sequence.name}: {_why_no_depth(recording)}. The logs say more"
        )
    _write_predictions(recording, sequence, predictions)
    frames = json.loads(sent.read_text())["sent"]
    published_ns = {frame["stamp_ns"]: frame["published_ns"] for frame in frames}
    statuses = recording.statuses.values()
    depths = sum(status.has_depth for status in statuses)
    score = score_predictions(predictions, sequence) if sequence.has_depth else None
    latencies_ms = [(arrival - published_ns[stamp]) * 1e-6 for stamp, arrival in recording.arrivals_ns.items()]
    return Report(
        sequence=sequence.name,
        weights=weights,
        frames_sent=len(frames),
        frames_answered=len(statuses),
        keyframes=depths + sum(status.outcome is KeyframeDecision.FIRST for status in statuses),
        depths=depths,
        depth_images=len(recording.depths),
        clouds=len(recording.clouds),
        dropped=dict(Counter(status.outcome.value for status in statuses if status.dropped)),
        latency_ms=_spread(latencies_ms),
        inference_ms=_spread([status.inference_ms for status in statuses if status.has_depth]),
        metrics=score.mean if score else None,
        constant_abs_relative_error=(
            float(np.mean([metrics.abs_relative_error for metrics in score.constant])) if score else None
        ),
    )


def _add_depth(recording: Recording, message: object, log_ns: int) -> None:
    stamp_ns = stamp_to_ns(message.header.stamp)
    recording.depths[stamp_ns] = depth_from_message(message)
    recording.arrivals_ns[stamp_ns] = log_ns


def _add_depth_info(recording: Recording, message: object, _: int) -> None:
    recording.intrinsics[stamp_to_ns(message.header.stamp)] = camera_from_message(message).K


def _add_status(recording: Recording, message: object, _: int) -> None:
    status = FrameStatus.from_message(message)
    recording.statuses[status.stamp_ns] = status


def _write_predictions(recording: Recording, sequence: FrameSequence, path: Path) -> None:
    poses = {pose.stamp_ns: pose for pose in sequence.poses()}
    with PredictionWriter(path) as writer:
        for stamp_ns, depth in sorted(recording.depths.items()):
            pose, status = poses[stamp_ns], recording.statuses[stamp_ns]
            writer.append(
                DepthPrediction(
                    depth=depth,
                    K=recording.intrinsics[stamp_ns],
                    image=np.broadcast_to(np.uint8(0), (*depth.shape, 3)),
                    world_T_cam=pose.world_T_cam,
                    stamp_ns=stamp_ns,
                    frame_index=pose.index,
                    measurement_index=tuple(poses[ns].index for ns in status.measurement_stamps_ns),
                    measurement_stamps_ns=status.measurement_stamps_ns,
                    latency_ms=status.inference_ms,
                )
            )


def _spread(values_ms: list[float]) -> dict[str, float]:
    return {"median": float(np.median(values_ms)), "p95": float(np.percentile(values_ms, 95))}


def _why_no_depth(recording: Recording) -> str:
    outcomes = Counter(str(getattr(s.outcome, "name", s.outcome)).lower() for s in recording.statuses.values())
    if not outcomes:
        return "the node answered no image"
    return "the node said " + ", ".join(f"{outcome} {count}×" for outcome, count in outcomes.items())
