# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Scoring predictions on disk against sensor depth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dvmvs_core.data.sequence import DepthItem, FrameSequence
from dvmvs_core.errors import DataError
from dvmvs_core.evaluation.prediction.prediction_files import PredictionReader
from dvmvs_core.evaluation.prediction.prediction_pixels import resize_truth
from dvmvs_core.evaluation.scoring.bins import DISTANCE_EDGES_M, PARALLAX_EDGES_PX, BinnedErrors
from dvmvs_core.evaluation.scoring.boundaries import DepthSteps, boundary_f1, compare_steps
from dvmvs_core.evaluation.scoring.confidence_scores import ConfidenceScorer, SureAndWrong, sure_and_wrong
from dvmvs_core.evaluation.scoring.metrics import DepthMetrics, evaluate_depth, mean_metrics, valid_truth
from dvmvs_core.evaluation.scoring.parallax import parallax_px
from dvmvs_core.evaluation.scoring.temporal_consistency import ComparedDepth, temporal_disagreement
from dvmvs_core.geometry import is_finite_pose


@dataclass
class SequenceScore:
    """The figures of one sequence; the lists have one entry for each keyframe that has sensor depth.

    Attributes:
        name: the sequence.
        latency_ms: the engine's time for every keyframe, with or without sensor depth.
        position: position of each keyframe in the prediction file.
        frame_index: index of each in its sequence.
        stamp_ns: its time.
        metrics: its figures.
        constant: those of one depth for the whole picture, the median of the sensor's: the baseline of all baselines.
        boundary_f1: see `boundaries`; NaN where the truth has no contour.
        steps: the true depth steps and what the prediction has of them.
        parallax_px: median parallax of its pixels, see `parallax`; NaN if there is no sensor depth or no known pose.
        disagreement: with the prediction before, see `consistency`; NaN where views do not overlap.
        by_distance: errors of pixels by sensor depth, metres.
        by_parallax: errors of pixels by parallax, pixels.
        confidence: how well confidence ranks errors; empty if there is none.
        sure: how often confident pixels are wrong; no pixel at all where there is no confidence.
    """

    name: str
    latency_ms: tuple[float, ...]
    position: list[int] = field(default_factory=list)
    frame_index: list[int] = field(default_factory=list)
    stamp_ns: list[int] = field(default_factory=list)
    metrics: list[DepthMetrics] = field(default_factory=list)
    constant: list[DepthMetrics] = field(default_factory=list)
    boundary_f1: list[float] = field(default_factory=list)
    steps: list[DepthSteps] = field(default_factory=list)
    parallax_px: list[float] = field(default_factory=list)
    disagreement: list[float] = field(default_factory=list)
    by_distance: BinnedErrors = field(default_factory=lambda: BinnedErrors(DISTANCE_EDGES_M))
    by_parallax: BinnedErrors = field(default_factory=lambda: BinnedErrors(PARALLAX_EDGES_PX))
    confidence: ConfidenceScorer = field(default_factory=ConfidenceScorer)
    sure: list[SureAndWrong] = field(default_factory=list)

    @property
    def mean(self) -> DepthMetrics:
        """The mean over keyframes."""
        return mean_metrics(self.metrics)


def score_predictions(
    path: Path,
    sequence: FrameSequence,
    min_depth_m: float = 0.5,
    max_depth_m: float = np.inf,
    advance: Callable[[int], None] | None = None,
    mask: np.ndarray | None = None,
) -> SequenceScore:
    """Score one prediction file against the sensor depth of its sequence, at the resolution of the predictions.

    Args:
        path: the npz that `write_predictions` made.
        sequence: the sequence that it was made from.
        min_depth_m: nearest sensor depth that counts.
        max_depth_m: farthest sensor depth that counts.
        advance: called with 1 after each keyframe.
        mask: (H, W) which pixels of the sensor depth count, the same in every frame; None for all.

    Raises:
        DataError: if the sequence has no sensor depth, the predictions are of another camera, or the mask of another
            size.
    """
    if not sequence.has_depth:
        raise DataError(f"{sequence.path} has no sensor depth to score against; use dvmvs predict instead")
    predictions = PredictionReader(path)
    score = SequenceScore(sequence.name, tuple(predictions.latency_ms.tolist()))
    measurement_poses = _measurement_poses(predictions, sequence)
    truths = _in_order(sequence, predictions.frame_index.tolist())
    previous = None
    for position, (depth, confidence, item) in enumerate(
        zip(predictions.depths(), predictions.confidences(), truths, strict=True)
    ):
        if item is not None:
            measured = item.sensor_depth if mask is None else _masked(item.sensor_depth, mask)
            truth = resize_truth(measured, item.K, depth.shape, predictions.K)
            truth = np.where(valid_truth(truth, min_depth_m, max_depth_m) & (depth > 0), truth, 0)
            view = ComparedDepth(depth, truth, predictions.world_T_cam[position])
            score.position.append(position)
            score.frame_index.append(item.index)
            score.stamp_ns.append(int(predictions.stamp_ns[position]))
            score.disagreement.append(
                temporal_disagreement(previous, view, predictions.K) if previous else float("nan")
            )
            parallax = parallax_px(truth, predictions.K, view.world_T_cam, measurement_poses[position])
            _add(score, depth, confidence, truth, parallax if measurement_poses[position] else None)
            previous = view
        if advance:
            advance(1)
    if not score.metrics:
        said = next((f"; {why}" for what, why in sequence.faults.items() if what.startswith("depth")), "")
        raise DataError(f"{sequence.path} has sensor depth, but at none of the {len(predictions)} keyframes{said}")
    if all(np.isnan(metrics.abs_error) for metrics in score.metrics):
        raise DataError(
            f"{sequence.path} has no sensor depth between {min_depth_m:g} and {max_depth_m:g} m at any of"
            f" {len(score.metrics)} keyframes{'' if mask is None else ' where the mask lets it count'}; widen the range"
        )
    return score


def _masked(sensor_depth: np.ndarray, mask: np.ndarray) -> np.ndarray:
    if mask.shape != sensor_depth.shape:
        raise DataError(
            f"the mask must have the size of sensor depth, {sensor_depth.shape[1]}×{sensor_depth.shape[0]};"
            f" got {mask.shape[1]}×{mask.shape[0]}"
        )
    return np.where(mask, sensor_depth, np.float32(0))


def _add(
    score: SequenceScore,
    depth: np.ndarray,
    confidence: np.ndarray | None,
    truth: np.ndarray,
    parallax: np.ndarray | None,
) -> None:
    """Add what one keyframe says, all (h, w); its truth is 0 wherever it does not count."""
    valid = truth > 0
    p, t = depth[valid], truth[valid]
    score.metrics.append(evaluate_depth(p, t, 0.0))
    median_m = float(np.median(t)) if t.size else float("nan")
    score.constant.append(evaluate_depth(np.full_like(t, median_m), t, 0.0))
    score.boundary_f1.append(boundary_f1(depth, truth))
    score.steps.append(compare_steps(depth, truth))
    score.parallax_px.append(float("nan") if parallax is None or not t.size else float(np.median(parallax[valid])))
    score.sure.append(SureAndWrong() if confidence is None else sure_and_wrong(confidence[valid], p, t))
    if not t.size:
        return
    score.by_distance.add(t, p, t)
    if parallax is not None:
        score.by_parallax.add(parallax[valid], p, t)
    if confidence is not None:
        score.confidence.add(confidence[valid], p, t)


def _measurement_poses(predictions: PredictionReader, sequence: FrameSequence) -> list[list[np.ndarray]]:
    """The pose (4, 4) of every measurement frame of each keyframe, as far as the sequence knows it."""
    poses = {pose.index: pose.world_T_cam for pose in sequence.poses() if is_finite_pose(pose.world_T_cam)}
    return [[poses[i] for i in indices if i in poses] for indices in predictions.measurement_index.tolist()]


def _in_order(sequence: FrameSequence, indices: list[int]) -> Iterator[DepthItem | None]:
    """The sensor depth of each index in turn, None where there is none; an index file may name frames in any order."""
    items = sequence.sensor_depths(indices)
    uses = Counter(indices)
    held: dict[int, DepthItem] = {}
    newest = -1
    for index in indices:
        while newest < index and (item := next(items, None)) is not None:
            held[item.index], newest = item, item.index
        yield held.get(index)
        uses[index] -= 1
        if not uses[index]:
            held.pop(index, None)
