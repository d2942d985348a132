# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The figures of a run as `dvmvs evaluate --json` writes them, and as a report is made from.

Everything in them is a plain dictionary that JSON can hold; NaN is None. "sequences" has one part for each sequence
(and index file), "all" is over the keyframes of all of them. Of each part:

    keyframes               how many were scored
    metrics                 means over keyframes, see `metrics.DepthMetrics`
    ratio_to_constant       abs rel over that of the constant median of each keyframe's truth; above 1 is no use
    boundary_f1             mean over keyframes, see `boundaries`
    steps                   size of the true and the predicted depth steps, and share of windows that show one, over all
                            pixels, see `boundaries.DepthSteps`
    temporal_disagreement   flicker, mean over keyframes, see `consistency`
    by_distance             errors of all pixels by sensor depth in metres, see `bins.ErrorBin`
    by_parallax             the same by parallax in pixels at the network's resolution, see `parallax`
    confidence              sparsification and calibration, see `confidence_scores.ConfidenceScore`
    sure_and_wrong          of the pixels with confidence from 0.7: "coverage", their share of all pixels, and "wrong",
                            the share of them that is off by more than 10 %; None without confidence
    baselines               the metrics of "constant_median", and of "plane_sweep" where it was run
    per_keyframe            lists with one entry for each keyframe: the metrics by name, and
                            frame_index, time_s, latency_ms, temporal_disagreement,
                            constant_median, plane_sweep: abs rel of the baselines; ratio_to_constant,
                            boundary_f1, step_size_ratio, steps_shown, parallax_px (median of the pixels),
                            sure_coverage, sure_and_wrong
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dvmvs_core.atomic import replacing
from dvmvs_core.errors import DataError
from dvmvs_core.evaluation.prediction.timeline import RunLengths
from dvmvs_core.evaluation.scoring.boundaries import DepthSteps
from dvmvs_core.evaluation.scoring.confidence_scores import SureAndWrong
from dvmvs_core.evaluation.scoring.metrics import NAMES, DepthMetrics, mean_metrics
from dvmvs_core.evaluation.scoring.score import SequenceScore
from dvmvs_core.foreign import foreign, regular

CONSTANT_MEDIAN, PLANE_SWEEP = "constant_median", "plane_sweep"
FIGURES = "figures.json"
"""Name of the figures in a report's folder."""


@dataclass
class RunResult:
    """What one sequence gave.

    Attributes:
        score: the figures.
        path: the sequence.
        timeline: what became of its frames.
        sweep: the figures of the classical plane sweep on the same frames; None if it was not run.
        faults: files and lines that could not be used and were left out → what is wrong with them.
        dropped: reason → number of images left out.
        depth_name: what the depth to compare with is, `Sequence.depth_name`.
    """

    score: SequenceScore
    path: Path = field(default_factory=Path)
    timeline: RunLengths = field(default_factory=list)
    sweep: SequenceScore | None = None
    faults: dict[str, str] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)
    depth_name: str = "sensor depth"


def summary(results: list[RunResult], **run: object) -> dict:
    """Return the figures.

    Args:
        results: one a sequence.
        run: how they came about: weights, preset, device, command, ….
    """
    scores = [result.score for result in results]
    latencies = [latency for score in scores for latency in score.latency_ms]
    return {
        "sequences": [
            {
                "name": result.score.name,
                "path": str(result.path),
                **_part([result]),
                "per_keyframe": _per_keyframe(result),
                "latencies_ms": list(result.score.latency_ms),
                "timeline": [list(stretch) for stretch in result.timeline],
                "faults": dict(result.faults),
                "dropped": dict(result.dropped),
            }
            for result in results
        ],
        "all": _part(results),
        "depth_name": " or ".join(sorted({result.depth_name for result in results})),
        **run,
        "latency_ms": {
            "median": float(np.median(latencies)) if latencies else None,
            "p95": float(np.percentile(latencies, 95)) if latencies else None,
        },
    }


def write_figures(path: Path, figures: dict) -> None:
    """Write figures as JSON."""
    with replacing(path) as unfinished:
        unfinished.write_text(json.dumps(figures, indent=2, allow_nan=False) + "\n")


def read_figures(path: Path) -> dict:
    """Read the figures of an earlier run.

    Args:
        path: the JSON file, or the folder of a report.

    Raises:
        DataError: if it is neither.
    """
    file = path / FIGURES if path.is_dir() else path
    with foreign(f"{path} must be the folder of an earlier --report or the file of an earlier --json"):
        figures = json.loads(regular(file).read_text())
    if not isinstance(figures, dict) or not {"sequences", "all", "weights", "latency_ms"} <= figures.keys():
        raise DataError(f"{file} must hold the figures of dvmvs evaluate; it is some other JSON")
    needed = {"per_keyframe", "latencies_ms", "faults", "steps"}
    with foreign(f"{file} must hold the figures of dvmvs evaluate"):
        complete = all(needed <= part.keys() for part in figures["sequences"])
    if not complete:
        raise DataError(f"{file} comes from an older dvmvs evaluate, which kept too little to compare; run it again")
    return figures


def _part(results: list[RunResult]) -> dict:
    """The figures over the keyframes of some sequences."""
    scores = [result.score for result in results]
    whole = SequenceScore("all", ())
    for score in scores:
        whole.by_distance.include(score.by_distance)
        whole.by_parallax.include(score.by_parallax)
        whole.confidence.include(score.confidence)
    confidence = whole.confidence.score()
    steps = sum((steps for score in scores for steps in score.steps), DepthSteps())
    sure = sum((sure for score in scores for sure in score.sure), SureAndWrong())
    part = {
        "keyframes": sum(len(score.metrics) for score in scores),
        "metrics": _mean(scores),
        "ratio_to_constant": None,
        "boundary_f1": _mean_or_none(f1 for score in scores for f1 in score.boundary_f1),
        "steps": steps.to_dict(),
        "temporal_disagreement": _mean_or_none(d for score in scores for d in score.disagreement),
        "by_distance": [part.to_dict() for part in whole.by_distance.bins()],
        "by_parallax": [part.to_dict() for part in whole.by_parallax.bins()],
        "confidence": confidence.to_dict() if confidence else None,
        "sure_and_wrong": sure.to_dict() if sure.pixels else None,
        "baselines": {CONSTANT_MEDIAN: {"metrics": _mean_of(m for score in scores for m in score.constant)}},
    }
    constant = part["baselines"][CONSTANT_MEDIAN]["metrics"]
    part["ratio_to_constant"] = _ratio(part["metrics"]["abs_relative_error"], constant["abs_relative_error"])
    sweeps = [result.sweep for result in results if result.sweep]
    if sweeps:
        part["baselines"][PLANE_SWEEP] = {
            "metrics": _mean(sweeps),
            "temporal_disagreement": _mean_or_none(d for sweep in sweeps for d in sweep.disagreement),
        }
    return part


def _per_keyframe(result: RunResult) -> dict[str, list]:
    score = result.score
    table = {
        "frame_index": list(score.frame_index),
        "time_s": [(stamp_ns - score.stamp_ns[0]) / 1e9 for stamp_ns in score.stamp_ns],
        "latency_ms": [score.latency_ms[position] for position in score.position],
        "parallax_px": [_or_none(value) for value in score.parallax_px],
        "temporal_disagreement": [_or_none(value) for value in score.disagreement],
        **{name: [_or_none(getattr(m, name)) for m in score.metrics] for name in NAMES},
        CONSTANT_MEDIAN: [_or_none(m.abs_relative_error) for m in score.constant],
        "boundary_f1": [_or_none(value) for value in score.boundary_f1],
        "step_size_ratio": [_or_none(steps.size_ratio) for steps in score.steps],
        "steps_shown": [_or_none(steps.shown) for steps in score.steps],
        "sure_coverage": [_or_none(sure.coverage) for sure in score.sure],
        "sure_and_wrong": [_or_none(sure.wrong_share) for sure in score.sure],
    }
    table["ratio_to_constant"] = [
        _ratio(error, constant)
        for error, constant in zip(table["abs_relative_error"], table[CONSTANT_MEDIAN], strict=True)
    ]
    if result.sweep:
        table[PLANE_SWEEP] = [_or_none(m.abs_relative_error) for m in result.sweep.metrics]
    return table


def _ratio(error: float | None, constant: float | None) -> float | None:
    """The ratio of two errors; None where one is unknown, or the truth is itself constant."""
    return None if error is None or not constant else error / constant


def _mean(scores: list[SequenceScore]) -> dict[str, float | None]:
    return _mean_of(metrics for score in scores for metrics in score.metrics)


def _mean_of(metrics: Iterable[DepthMetrics]) -> dict[str, float | None]:
    return mean_metrics(metrics).to_dict()


def _mean_or_none(values: Iterable[float]) -> float | None:
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else None


def _or_none(value: float) -> float | None:
    return value if np.isfinite(value) else None
