# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Predict the depth of sequences with sensor depth, and score it.

Prints one table of the sequences, sorted by their error relative to that of a constant depth, the worst first. Errors
by parallax, the published metrics and errors by distance follow. --json saves all figures; --report makes a web page
with plots and pictures.
"""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from dvmvs_core.cli.check_command import print_check
from dvmvs_core.cli.common_options import (
    BagOptions,
    EngineOptions,
    IndexPaths,
    Metres,
    OptionalCount,
    OptionalFile,
    OptionalName,
    OutputFile,
    OutputFolder,
    SequencePaths,
)
from dvmvs_core.cli.progress_bars import Steps, counted, predict_with_bar
from dvmvs_core.cli.tables import print_faults, print_figures
from dvmvs_core.errors import ConfigError, DataError
from dvmvs_core.progress import progress

if TYPE_CHECKING:
    from dvmvs_core.evaluation.scoring.figures import RunResult


@dataclass(frozen=True)
class Options:
    """Predict and score."""

    sequences: SequencePaths
    """scene folders or rosbag2 recordings, with sensor depth"""
    indices: IndexPaths = ()
    """index files, or folders of them, that list keyframes and measurement frames; they replace the keyframe rule. With
    several sequences, each uses the files named after it: KEYFRAMING+DATASET+SCENE+nmeas+N"""
    limit: OptionalCount = None
    """largest number of keyframes to predict per run"""
    refine: bool = False
    """multi-view refinement against keyframes before and after (offline only); 2.4 s per keyframe on two cores"""
    min_depth: Metres = 0.5
    """nearest sensor depth that counts, metres"""
    max_depth: Metres = float("inf")
    """farthest sensor depth that counts, metres"""
    mask: OptionalFile = None
    """an image of the size of the sensor depth; black pixels, such as the robot's own parts, do not count"""
    check_trajectory: bool = False
    """first check the poses and their timing against the images, as `dvmvs check` does"""
    baselines: bool = False
    """also score a classical plane sweep on the same frames"""
    json: OutputFile = None
    """file for the figures"""
    report: OutputFolder = None
    """folder for the report: index.html with plots and pictures, and the figures as JSON"""
    against: Annotated[Path | None, tyro.conf.arg(metavar="RUN")] = None
    """an earlier run to compare with in the report: its --report folder or --json file"""
    out: OutputFolder = None
    """folder for predictions and pictures, with a subfolder per sequence"""
    published: bool = False
    """write the published files to --out: arrays arr_0 of (N, h, w) depth and (N, 8) errors"""
    dataset: OptionalName = None
    """name of the data set in published file names; by default the folder that holds the sequence"""
    engine: EngineOptions = field(default_factory=EngineOptions)
    bag: BagOptions = field(default_factory=BagOptions)


def run(options: Options) -> None:
    """Predict each sequence to disk, score what is on disk, print the table and write what was asked for."""
    from dvmvs_core.evaluation.scoring.evaluation_runs import plan_runs
    from dvmvs_core.evaluation.scoring.figures import read_figures, write_figures

    _check(options)
    if options.mask:
        _read_mask(options.mask)  # before the minutes of prediction, not after
    against = read_figures(options.against) if options.against else None
    runs = plan_runs(
        options.bag.open_all(options.sequences),
        options.indices,
        options.engine.measurement_frames,
        options.dataset,
        options.limit,
    )
    for one in runs:
        if not one.sequence.has_depth:
            raise DataError(f"{one.sequence.path} has no sensor depth to score against; use dvmvs predict instead")
    of_each = 2 + 2 * options.baselines + options.check_trajectory + (options.report is not None)
    step = Steps(1 + len(runs) * of_each)
    engine = options.engine.build(step(f"loading {options.engine.weights}"))
    with tempfile.TemporaryDirectory() as temporary:
        folders = [
            options.out / one.name if options.out and not options.published else Path(temporary) / str(number)
            for number, one in enumerate(runs)
        ]
        results = [
            _evaluate(options, engine, one, folder, Path(temporary) / "sweep", step)
            for one, folder in zip(runs, folders, strict=True)
        ]
        figures = _figures(options, engine, runs, results)
        if options.check_trajectory:
            for one, part in zip(runs, figures["sequences"], strict=True):
                depth_range_m = (engine.model_config.min_depth_m, engine.model_config.max_depth_m)
                part["trajectory"] = print_check(one.sequence, engine.config.keyframes, depth_range_m, step)
        print_figures(figures)
        for one in runs:
            print_faults(one.name, one.sequence)
        if options.json:
            write_figures(options.json, figures)
        if options.report:
            _report(options, runs, folders, figures, against, step)


def _check(options: Options) -> None:
    if not 0 <= options.min_depth < options.max_depth:
        raise ConfigError(
            f"the range of depth must satisfy 0 <= --min-depth < --max-depth;"
            f" got {options.min_depth} and {options.max_depth}"
        )
    if options.against and not options.report:
        raise ConfigError("--against compares an earlier run with this one in a report: name its folder with --report")
    if options.published and not options.out:
        raise ConfigError("--published files need a folder: name it with --out")


def _evaluate(options: Options, engine, one, folder: Path, sweep_folder: Path, step: Steps) -> RunResult:
    from dvmvs_core.evaluation.prediction.predict_sequence import PREDICTIONS
    from dvmvs_core.evaluation.scoring.figures import RunResult
    from dvmvs_core.evaluation.scoring.published import write_published

    pictures_every = 10 if options.out and not options.published else 0
    latencies = predict_with_bar(one, engine, folder, pictures_every, options.refine, step(f"predicting {one.name}"))
    path = folder / PREDICTIONS
    score = _score(options, path, one, step(f"scoring {one.name}"), len(latencies))
    if options.published:
        write_published(path, score, options.out, one.system(engine), one.scene)
    sweep = None
    if options.baselines:
        sweep_path = _sweep(engine, one, path, sweep_folder, step)
        sweep = _score(options, sweep_path, one, step(f"scoring the plane sweep of {one.name}"), len(latencies))
    timeline = one.timeline(engine, path)
    sequence = one.sequence
    return RunResult(score, sequence.path, timeline, sweep, sequence.faults, sequence.dropped, sequence.depth_name)


def _score(options: Options, path: Path, one, description: str, keyframes: int):
    from dvmvs_core.evaluation.scoring.score import score_predictions

    with progress(description, keyframes) as advance:
        mask = _read_mask(options.mask) if options.mask else None
        score = score_predictions(path, one.sequence, options.min_depth, options.max_depth, advance, mask)
    score.name = one.name
    return score


def _read_mask(path: Path):
    from dvmvs_core.data.scene_folder import read_image

    return read_image(path).any(axis=2)


def _sweep(engine, one, path: Path, folder: Path, step: Steps) -> Path:
    """Run the classical plane sweep on the keyframes and measurement frames that the network had."""
    from dvmvs_core.evaluation.prediction.predict_sequence import PREDICTIONS, predict_indexed, write_predictions
    from dvmvs_core.evaluation.scoring.classical_plane_sweep import PlaneSweep

    sweep = PlaneSweep(engine.model_config, engine.device, engine.config.crop)
    entries = one.entries_of(path)
    with progress(step(f"plane sweep of {one.name}"), len(entries)) as advance:
        write_predictions(counted(predict_indexed(sweep, one.sequence, entries), advance), folder)
    return folder / PREDICTIONS


def _figures(options: Options, engine, runs, results) -> dict:
    from dvmvs_core import environment
    from dvmvs_core.evaluation.scoring.figures import summary
    from dvmvs_core.model.checkpoint import read_info

    info = read_info(options.engine.weights)
    hardware = environment.hardware(engine.device)
    return summary(
        results,
        weights=options.engine.weights,
        weights_sha256=environment.fingerprint(info.path),
        network=engine.model_config.network,
        preset=engine.model_config.preset,
        resolution=[engine.model_config.width, engine.model_config.height],
        measurement_frames=max((one.index or engine.config.keyframes).measurement_frames for one in runs),
        precision=engine.config.precision,
        matching=engine.matching,
        refined=options.refine,
        mask=str(options.mask) if options.mask else None,
        depth_range_m=[options.min_depth, None if math.isinf(options.max_depth) else options.max_depth],
        device=hardware.get("gpu", engine.device.type),
        command=environment.command_line(),
        made=environment.now(),
        versions=environment.versions(),
        hardware=hardware,
    )


def _report(options: Options, runs, folders: list[Path], figures: dict, against: dict | None, step: Steps) -> None:
    from dvmvs_core.evaluation.prediction.predict_sequence import PREDICTIONS
    from dvmvs_core.evaluation.report.keyframe_pictures import choose, draw
    from dvmvs_core.evaluation.report.page import write_report

    pictures = []
    for one, folder, part in zip(runs, folders, figures["sequences"], strict=True):
        chosen = choose(part["per_keyframe"], len(runs))
        with progress(step(f"drawing {one.name}"), len(one.sequence)) as advance:
            pictures.append(draw(chosen, folder / PREDICTIONS, one.sequence, advance))
    print(f"report: {write_report(options.report, figures, pictures, against)}")
