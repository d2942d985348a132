# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The figures and the page of what was heard, by the code that scores `dvmvs evaluate`'s predictions.

A recording is read in two passes: statuses and poses are held, depth goes from the bag to the prediction file one
image at a time.
"""

from __future__ import annotations

import math
import shlex
import sys
import tempfile
from collections import Counter, OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np

from dvmvs_core import environment
from dvmvs_core.config import KeyframeConfig, matching_preset
from dvmvs_core.data.bags.bag_files import BagFiles, deserialise
from dvmvs_core.data.bags.bag_sequence import BagTopics
from dvmvs_core.data.open_sequence import open_sequence
from dvmvs_core.data.sequence import FrameSequence, PoseItem
from dvmvs_core.errors import DataError, DvmvsError, MessageError
from dvmvs_core.evaluation.prediction.predict_sequence import PREDICTIONS
from dvmvs_core.evaluation.prediction.prediction_files import PredictionReader, PredictionWriter
from dvmvs_core.evaluation.report.keyframe_pictures import choose, draw
from dvmvs_core.evaluation.report.page import write_report
from dvmvs_core.evaluation.scoring.figures import RunResult, summary
from dvmvs_core.evaluation.scoring.score import score_predictions
from dvmvs_core.model.checkpoint import read_info
from dvmvs_core.runtime.devices import resolve_device
from dvmvs_core.types import DepthPrediction
from dvmvs_ros.depth.frame_status import FrameStatus
from dvmvs_ros.evaluation.topics import EvaluationTopics
from dvmvs_ros.messages.conversions import camera_from_message, depth_from_message, stamp_to_ns

UNANSWERED, UNKNOWN = "unanswered", "unknown"

IMAGES_JOINED = 8
"""Depth images whose confidence is waited for."""


@dataclass(frozen=True)
class Round:
    """One recording that was scored.

    Attributes:
        result: its figures.
        statuses: what became of its images, by their stamps.
        sequence: its inputs.
        predictions: its depth, as `dvmvs predict` writes it.
    """

    result: RunResult
    statuses: dict[int, FrameStatus]
    sequence: FrameSequence
    predictions: Path


def score_round(
    bag: Path,
    topics: EvaluationTopics,
    inputs: BagTopics,
    name: str,
    folder: Path,
    depth_range_m: tuple[float, float],
) -> Round:
    """Score one recording.

    Args:
        bag: the recording.
        topics: its topics.
        inputs: those of them that the depth node heard, with the truth as depth.
        name: what to call it.
        folder: for the predictions.
        depth_range_m: least and greatest truth that counts.

    Raises:
        DataError: if nothing can be compared.
    """
    sequence, path = open_sequence(bag, inputs), folder / PREDICTIONS
    statuses = write_heard(bag, topics, sequence, name, path)
    score = score_predictions(path, sequence, *depth_range_m)
    score.name = name
    stamps_ns, last_ns = {pose.stamp_ns for pose in sequence.poses()}, int(PredictionReader(path).stamp_ns.max())
    dropped = Counter(status.outcome.value for status in statuses.values() if status.dropped)
    silent = len(stamps_ns - statuses.keys())
    if silent:
        dropped[UNANSWERED] = silent
    runs = _runs_of_outcomes(stamps_ns | statuses.keys(), statuses, last_ns)
    result = RunResult(score, bag, runs, faults=sequence.faults, dropped=dict(dropped.most_common()))
    return Round(result, statuses, sequence, path)


def write_heard(
    bag: Path, topics: EvaluationTopics, sequence: FrameSequence, name: str, predictions: Path
) -> dict[int, FrameStatus]:
    """Write the depth of a recording as `dvmvs predict` does; return what the depth node said of its images, by stamp.

    Args:
        bag: the recording.
        topics: its topics.
        sequence: what the depth node heard; images and poses are numbered as in it.
        name: what to call it.
        predictions: the npz to write.

    Raises:
        DataError: if it holds no depth.
    """
    files = BagFiles(bag)
    statuses = {status.stamp_ns: status for status in _statuses(files, topics.status)}
    poses = {pose.stamp_ns: pose for pose in sequence.poses()}
    with PredictionWriter(predictions) as writer:
        for prediction in _predictions(files, topics, poses, statuses):
            writer.append(prediction)
        if not len(writer):
            raise DataError(f"{name}: no depth was heard; {_outcomes(statuses)}")
    return statuses


def spread_ms(times_ms: list[float]) -> dict[str, float | None]:
    """Return the median and the 95th percentile; None where there are no times."""
    if not times_ms:
        return {"median": None, "p95": None}
    return {"median": float(np.median(times_ms)), "p95": float(np.percentile(times_ms, 95))}


def report_recordings(
    bags: list[Path],
    topics: EvaluationTopics,
    inputs: BagTopics,
    name: str,
    folder: Path,
    depth_range_m: tuple[float, float],
    facts: dict[str, object],
) -> tuple[Path, dict, list[str]]:
    """Score recordings and write the report.

    Args:
        bags: one for each time that the images started again.
        topics: their topics.
        inputs: see `score_round`.
        name: what to call them.
        folder: for the report.
        depth_range_m: least and greatest truth that counts.
        facts: how the depth came about.

    Returns:
        The page, the figures, and a sentence for each recording that could not be scored.

    Raises:
        DataError: if none could.
    """
    with tempfile.TemporaryDirectory() as temporary:
        rounds, failures = [], []
        for number, bag in enumerate(bags, 1):
            called = name if number == 1 else f"{name} round {number}"
            try:
                rounds.append(score_round(bag, topics, inputs, called, Path(temporary) / str(number), depth_range_m))
            except DvmvsError as error:
                failures.append(str(error))
        if not rounds:
            raise DataError("; ".join(failures) or "nothing was heard")
        figures = summary([one.result for one in rounds], **facts)
        figures["live"] = [_live(one) for one in rounds]
        pictures = [
            draw(choose(part["per_keyframe"], len(rounds)), one.predictions, one.sequence)
            for one, part in zip(rounds, figures["sequences"], strict=True)
        ]
        return write_report(folder, figures, pictures), figures, failures


def _statuses(files: BagFiles, topic: str) -> Iterator[FrameStatus]:
    for raw in files.messages({topic}):
        try:
            yield FrameStatus.from_message(deserialise(raw.data, files.topics[topic].message_type))
        except MessageError:
            continue  # a DiagnosticArray of someone else


def _predictions(
    files: BagFiles, topics: EvaluationTopics, poses: dict[int, PoseItem], statuses: dict[int, FrameStatus]
) -> Iterator[DepthPrediction]:
    """Depth as the engine gave it, in the order of the stamps: from messages of up to three topics each."""
    parts: OrderedDict[int, dict[str, object]] = OrderedDict()
    newest_ns, K = -1, None
    for raw in files.messages({topics.depth, topics.depth_info, topics.confidence}):
        message = deserialise(raw.data, files.topics[raw.topic].message_type)
        stamp_ns = stamp_to_ns(message.header.stamp)
        if raw.topic == topics.depth_info:
            K = camera_from_message(message).K if K is None else K
            continue
        if stamp_ns in poses and stamp_ns > newest_ns:
            parts.setdefault(stamp_ns, {})[raw.topic] = depth_from_message(message)
        if len(parts) > IMAGES_JOINED and K is not None:
            newest_ns = min(parts)
            yield from _prediction(parts.pop(newest_ns), topics, K, poses, statuses, newest_ns)
    for stamp_ns in sorted(parts):
        if K is not None:
            yield from _prediction(parts[stamp_ns], topics, K, poses, statuses, stamp_ns)


def _prediction(part, topics, K, poses, statuses, stamp_ns: int) -> Iterator[DepthPrediction]:
    depth, status, pose = part.get(topics.depth), statuses.get(stamp_ns), poses[stamp_ns]
    if depth is None or status is None:
        return  # confidence whose depth was lost on its way, or depth whose status was
    measurements = tuple(poses[ns].index for ns in status.measurement_stamps_ns if ns in poses)
    yield DepthPrediction(
        depth=depth,
        K=K,
        image=np.broadcast_to(np.uint8(0), (*depth.shape, 3)),
        world_T_cam=pose.world_T_cam,
        stamp_ns=stamp_ns,
        frame_index=pose.index,
        measurement_index=measurements,
        measurement_stamps_ns=status.measurement_stamps_ns,
        latency_ms=status.inference_ms,
        confidence=part.get(topics.confidence),
    )


def _runs_of_outcomes(stamps_ns: set[int], statuses: dict[int, FrameStatus], last_ns: int) -> list[tuple[str, int]]:
    """What became of every image, up to the last that got depth."""
    outcomes = (_outcome(statuses.get(ns)) for ns in sorted(stamps_ns) if ns <= last_ns)
    return [(name, sum(1 for _ in same)) for name, same in groupby(outcomes)]


def _outcome(status: FrameStatus | None) -> str:
    if status is None:
        return UNANSWERED
    return status.outcome.value if status.dropped else status.outcome.name.lower()


def _outcomes(statuses: dict[int, FrameStatus]) -> str:
    counts = Counter(map(_outcome, statuses.values()))
    said = ", ".join(f"{name} {count}×" for name, count in counts.most_common())
    return f"the depth node said of the images: {said}" if said else "the depth node said nothing of any image"


def _live(one: Round) -> dict[str, object]:
    """What only a live run has: how many images came, which were dropped and why, and how long depth took."""
    statuses = one.statuses.values()
    latencies_ms = [status.latency_ms for status in statuses if status.has_depth]
    details = {status.outcome.value: status.detail for status in statuses if status.dropped}
    return {
        "name": one.result.score.name,
        "images": len(one.sequence),
        "answered": len(statuses),
        "dropped": dict(one.result.dropped),
        "dropped_because": details,
        "latency_ms": spread_ms(latencies_ms),
    }


def run_facts(node: dict[str, object], depth_range_m: tuple[float, float]) -> dict[str, object]:
    """Return what `evaluation.figures.summary` takes besides results, as `dvmvs evaluate` gives it.

    Args:
        node: parameters of the depth node; empty if it did not answer.
        depth_range_m: least and greatest truth that counted.
    """
    weights = str(node.get("weights", UNKNOWN))
    try:
        device = resolve_device(str(node.get("device", "auto")))
    except DvmvsError:  # the node's machine may be another
        device = resolve_device("cpu")
    hardware = environment.hardware(device)
    network = _network(weights, str(node.get("network") or ""))
    return {
        "weights": weights,
        **network,
        "measurement_frames": node.get("measurement_frames", KeyframeConfig().measurement_frames),
        "precision": node.get("precision", UNKNOWN),
        "matching": matching_preset(str(node.get("matching", "auto")), str(network["preset"])),
        "refined": False,
        "mask": None,
        "depth_range_m": [depth_range_m[0], None if math.isinf(depth_range_m[1]) else depth_range_m[1]],
        "device": hardware.get("gpu", device.type),
        "command": shlex.join(("evaluation_node", *sys.argv[1:])),
        "made": environment.now(),
        "versions": environment.versions(),
        "hardware": hardware,
    }


def _network(weights: str, network: str) -> dict[str, object]:
    """What the checkpoint says, if it is here too."""
    try:
        info = read_info(weights)
    except DvmvsError:
        return {"weights_sha256": UNKNOWN, "network": network or UNKNOWN, "preset": UNKNOWN, "resolution": []}
    config = info.networks.get(network) or next(iter(info.networks.values()))
    return {
        "weights_sha256": environment.fingerprint(info.path),
        "network": config.network,
        "preset": config.preset,
        "resolution": [config.width, config.height],
    }
