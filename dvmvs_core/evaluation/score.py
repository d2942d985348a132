"""Scoring predictions on disk against sensor depth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dvmvs_core.data.sequence import Sequence
from dvmvs_core.errors import DataError
from dvmvs_core.evaluation.metrics import NAMES, DepthMetrics, evaluate_depth, mean_metrics
from dvmvs_core.evaluation.predictions import PredictionReader
from dvmvs_core.preprocess import Preprocessor


@dataclass(frozen=True)
class SequenceScore:
    """The figures of one sequence.

    Attributes:
        name: the sequence.
        frame_index: index of each keyframe that has sensor depth.
        metrics: the figures of each of them.
        latency_ms: the engine's time for every keyframe.
    """

    name: str
    frame_index: tuple[int, ...]
    metrics: tuple[DepthMetrics, ...]
    latency_ms: tuple[float, ...]

    @property
    def mean(self) -> DepthMetrics:
        """The mean over keyframes."""
        return mean_metrics(self.metrics)


def score_predictions(
    path: Path, sequence: Sequence, min_depth_m: float = 0.5, max_depth_m: float = np.inf
) -> SequenceScore:
    """Score one prediction file against the sensor depth of its sequence, at the resolution of the predictions.

    Args:
        path: the npz that `write_predictions` made.
        sequence: the sequence that it was made from.
        min_depth_m: nearest sensor depth that counts.
        max_depth_m: farthest sensor depth that counts.

    Raises:
        DataError: if the sequence has no sensor depth, or the predictions are of another camera.
    """
    if not sequence.has_depth:
        raise DataError(f"{sequence.path} has no sensor depth to score against; use dvmvs predict instead")
    predictions = PredictionReader(path)
    truths = sequence.sensor_depths(predictions.frame_index.tolist())
    truth = next(truths, None)
    indices, metrics = [], []
    for index, depth in zip(predictions.frame_index.tolist(), predictions.depths(), strict=True):
        while truth is not None and truth.index < index:
            truth = next(truths, None)
        if truth is None or truth.index != index:
            continue
        resized = resize_truth(truth.sensor_depth, truth.K, depth.shape, predictions.K)
        indices.append(index)
        metrics.append(evaluate_depth(depth, resized, min_depth_m, max_depth_m))
    if not metrics:
        raise DataError(f"{sequence.path} has sensor depth, but at none of the {len(predictions)} keyframes")
    return SequenceScore(sequence.name, tuple(indices), tuple(metrics), tuple(predictions.latency_ms.tolist()))


def resize_truth(
    sensor_depth: np.ndarray, K: np.ndarray, size: tuple[int, int], prediction_K: np.ndarray
) -> np.ndarray:
    """Return sensor depth (H, W) at the predictions' resolution (h, w), cropped as they were, by nearest neighbour.

    Raises:
        DataError: if no crop leads from K to the intrinsics of the predictions.
    """
    for crop in (False, True):
        preprocessor = Preprocessor(K, sensor_depth.shape, size, crop=crop)
        if np.allclose(preprocessor.K, prediction_K, rtol=1e-5):
            return preprocessor.depth(sensor_depth)
    raise DataError(
        f"the predictions have intrinsics {np.round(prediction_K, 2).tolist()}, which do not follow from the sequence's"
        f" {np.round(K, 2).tolist()}: they belong to another sequence"
    )


def summary(scores: list[SequenceScore], **run: object) -> dict:
    """Return the figures as `dvmvs evaluate --json` writes them.

    Args:
        scores: one a sequence.
        run: how they came about: weights, preset, device, ….
    """
    everything = [metrics for score in scores for metrics in score.metrics]
    latencies = [latency for score in scores for latency in score.latency_ms]
    return {
        "sequences": [
            {
                "name": score.name,
                "keyframes": len(score.metrics),
                "metrics": score.mean.to_dict(),
                "per_keyframe": {
                    "frame_index": list(score.frame_index),
                    **{name: [m.to_dict()[name] for m in score.metrics] for name in NAMES},
                },
            }
            for score in scores
        ],
        "all": {"keyframes": len(everything), "metrics": mean_metrics(everything).to_dict()},
        **run,
        "latency_ms": {
            "median": float(np.median(latencies)) if latencies else None,
            "p95": float(np.percentile(latencies, 95)) if latencies else None,
        },
    }
