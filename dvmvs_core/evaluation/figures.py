# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The figures of a run as `dvmvs evaluate --json` writes them, and as a report is made from.

Everything in them is a plain dictionary that JSON can hold; NaN is None. "sequences" has one part for each sequence
(and index file), "all" is over the keyframes of all of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dvmvs_core.data.atomic import replacing
from dvmvs_core.errors import DataError
from dvmvs_core.evaluation.metrics import NAMES, DepthMetrics, mean_metrics
from dvmvs_core.evaluation.score import SequenceScore
from dvmvs_core.evaluation.timeline import Stretches

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
    """

    score: SequenceScore
    path: Path = field(default_factory=Path)
    timeline: Stretches = field(default_factory=list)
    sweep: SequenceScore | None = None
    faults: dict[str, str] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)


def summary(results: list[RunResult], baselines: bool = False, **run: object) -> dict:
    """Return the figures.

    Args:
        results: one a sequence.
        baselines: say what the constant median reaches too, and the plane sweep where it was run.
        run: how they came about: weights, preset, device, command, ….
    """
    scores = [result.score for result in results]
    latencies = [latency for score in scores for latency in score.latency_ms]
    return {
        "sequences": [
            {
                "name": result.score.name,
                "path": str(result.path),
                **_part([result], baselines),
                "per_keyframe": _per_keyframe(result, baselines),
                "latencies_ms": list(result.score.latency_ms),
                "timeline": [list(stretch) for stretch in result.timeline],
                "faults": dict(result.faults),
                "dropped": dict(result.dropped),
            }
            for result in results
        ],
        "all": _part(results, baselines),
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
    try:
        figures = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} must be the folder of an earlier --report or the file of an earlier --json: {error}"
        ) from error
    if not isinstance(figures, dict) or not {"sequences", "all", "weights", "latency_ms"} <= figures.keys():
        raise DataError(f"{file} must hold the figures of dvmvs evaluate; it is some other JSON")
    if any(not {"per_keyframe", "latencies_ms", "faults"} <= part.keys() for part in figures["sequences"]):
        raise DataError(f"{file} comes from an older dvmvs evaluate, which kept too little to compare; run it anew")
    return figures


def _part(results: list[RunResult], baselines: bool) -> dict:
    """The figures over the keyframes of some sequences."""
    scores = [result.score for result in results]
    whole = SequenceScore("all", ())
    for score in scores:
        whole.by_distance.include(score.by_distance)
        whole.by_parallax.include(score.by_parallax)
        whole.confidence.include(score.confidence)
    confidence = whole.confidence.score()
    part = {
        "keyframes": sum(len(score.metrics) for score in scores),
        "metrics": _mean(scores),
        "temporal_disagreement": _mean_or_none(d for score in scores for d in score.disagreement),
        "by_distance": [part.to_dict() for part in whole.by_distance.bins()],
        "by_parallax": [part.to_dict() for part in whole.by_parallax.bins()],
        "confidence": confidence.to_dict() if confidence else None,
    }
    if baselines:
        part["baselines"] = {CONSTANT_MEDIAN: {"metrics": _mean_of(m for score in scores for m in score.constant)}}
        sweeps = [result.sweep for result in results if result.sweep]
        if sweeps:
            part["baselines"][PLANE_SWEEP] = {
                "metrics": _mean(sweeps),
                "temporal_disagreement": _mean_or_none(d for sweep in sweeps for d in sweep.disagreement),
            }
    return part


def _per_keyframe(result: RunResult, baselines: bool) -> dict[str, list]:
    score = result.score
    table = {
        "frame_index": list(score.frame_index),
        "time_s": [(stamp_ns - score.stamp_ns[0]) / 1e9 for stamp_ns in score.stamp_ns],
        "latency_ms": [score.latency_ms[position] for position in score.position],
        "parallax": [_or_none(value) for value in score.parallax],
        "temporal_disagreement": [_or_none(value) for value in score.disagreement],
        **{name: [_or_none(getattr(m, name)) for m in score.metrics] for name in NAMES},
    }
    if baselines:
        table[CONSTANT_MEDIAN] = [_or_none(m.abs_relative_error) for m in score.constant]
        if result.sweep:
            table[PLANE_SWEEP] = [_or_none(m.abs_relative_error) for m in result.sweep.metrics]
    return table


def _mean(scores: list[SequenceScore]) -> dict[str, float | None]:
    return _mean_of(metrics for score in scores for metrics in score.metrics)


def _mean_of(metrics: Iterable[DepthMetrics]) -> dict[str, float | None]:
    return mean_metrics(metrics).to_dict()


def _mean_or_none(values: Iterable[float]) -> float | None:
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else None


def _or_none(value: float) -> float | None:
    return value if np.isfinite(value) else None
