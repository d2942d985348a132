"""Predict the depth of sequences with sensor depth, and score it.

Prints the eight published metrics per sequence and over all keyframes; --json keeps them per keyframe too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from dvmvs_core.cli.options import BagOptions, EngineOptions, Metres, OptionalCount, OptionalFile, OptionalFolder

COLUMNS = {
    "abs_error": "abs m",
    "abs_relative_error": "abs rel",
    "abs_inverse_error": "abs inv 1/m",
    "squared_relative_error": "sq rel m",
    "rmse": "rmse m",
    "ratio_125": "<1.25",
    "ratio_125_2": "<1.25²",
    "ratio_125_3": "<1.25³",
    "ratio_105": "<1.05",
}


@dataclass(frozen=True)
class Options:
    """Predict and score."""

    sequences: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="SEQUENCE ...")]
    """scene folders or rosbag2 recordings"""
    indices: OptionalFile = None
    """an index file that names keyframes and measurement frames, in place of the keyframe rule; for one sequence"""
    limit: OptionalCount = None
    """how many keyframes to predict at most, of each sequence"""
    min_depth: Metres = 0.5
    """nearest sensor depth that counts, metres"""
    max_depth: Metres = float("inf")
    """farthest sensor depth that counts, metres"""
    json: OptionalFile = None
    """file for the figures"""
    out: OptionalFolder = None
    """folder to keep predictions and pictures in, one folder a sequence"""
    engine: EngineOptions = field(default_factory=EngineOptions)
    bag: BagOptions = field(default_factory=BagOptions)


def run(options: Options) -> None:
    """Predict each sequence to disk, score what is on disk, and print the table."""
    import tempfile

    from dvmvs_core.data.keyframe_index import read_index
    from dvmvs_core.errors import ConfigError, DataError
    from dvmvs_core.evaluation.score import SequenceScore, summary

    if not options.sequences:
        raise ConfigError("name at least one scene folder or rosbag2 to evaluate")
    if options.indices and len(options.sequences) > 1:
        raise ConfigError(f"an index file belongs to one sequence; got {len(options.sequences)} sequences")
    entries = read_index(options.indices)[: options.limit] if options.indices else None
    sequences = [options.bag.open(path) for path in options.sequences]
    for sequence in sequences:
        if not sequence.has_depth:
            raise DataError(f"{sequence.path} has no sensor depth to score against; use dvmvs predict instead")
    engine = options.engine.build()
    scores: list[SequenceScore] = []
    with tempfile.TemporaryDirectory() as temporary:
        for number, sequence in enumerate(sequences):
            folder = options.out / sequence.name if options.out else Path(temporary) / str(number)
            scores.append(_evaluate(options, engine, sequence, entries, folder))
    figures = summary(
        scores,
        weights=options.engine.weights,
        network=engine.model_config.network,
        preset=engine.model_config.preset,
        measurement_frames=options.engine.measurement_frames,
        device=_device_name(engine.device),
    )
    _print(figures)
    if options.json:
        _write_json(options.json, figures)


def _evaluate(options: Options, engine, sequence, entries, folder: Path):
    from dvmvs_core.cli.progress import progress
    from dvmvs_core.evaluation.predict import PREDICTIONS, predict_indexed, predict_online, write_predictions
    from dvmvs_core.evaluation.score import score_predictions

    pictures_every = 10 if options.out else 0
    with progress(f"predicting {sequence.name}", len(sequence)) as advance:
        if entries is None:
            predictions = predict_online(engine, sequence, bool(pictures_every), advance)
        else:
            predictions = predict_indexed(engine, sequence, entries, bool(pictures_every), advance)
        write_predictions(predictions, folder, options.limit, pictures_every)
    return score_predictions(folder / PREDICTIONS, sequence, options.min_depth, options.max_depth)


def _print(figures: dict) -> None:
    from dvmvs_core.cli.tables import print_table

    parts = figures["sequences"]
    if len(parts) > 1:
        parts = [*parts, {"name": "all", **figures["all"]}]
    rows = [
        (part["name"], part["keyframes"], *(_figure(part["metrics"][name]) for name in COLUMNS)) for part in parts
    ]
    latency = figures["latency_ms"]
    print_table(
        f"{figures['weights']} ({figures['network']}, {figures['preset']}) on {figures['device']}:"
        f" {latency['median']:.0f} ms a keyframe (median), {latency['p95']:.0f} ms (p95)",
        ("sequence", "keyframes", *COLUMNS.values()),
        rows,
    )


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _write_json(path: Path, figures: dict) -> None:
    import json

    from dvmvs_core.data.atomic import replacing

    with replacing(path) as unfinished:
        unfinished.write_text(json.dumps(figures, indent=2, allow_nan=False) + "\n")


def _device_name(device) -> str:
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
