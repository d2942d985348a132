# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Predict the depth of every keyframe of scene folders and rosbag2 recordings.

Writes OUT/predictions.npz (depth, confidence, frame_index, measurement_index, stamp_ns, K, world_T_cam) and a few
pictures to OUT/pictures. Several sequences or index files each get their own folder in OUT. With --published it writes
{system}_predictions_{scene}.npz and, if there is sensor depth, {system}_errors_{scene}.npz instead.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from dvmvs_core.atomic import unfinished_folder
from dvmvs_core.cli.common_options import (
    BagOptions,
    Count,
    EngineOptions,
    IndexPaths,
    OptionalCount,
    OptionalName,
    RequiredFolder,
    SequencePaths,
)
from dvmvs_core.cli.outputs import Output
from dvmvs_core.cli.progress_bars import Steps, predict_with_bar
from dvmvs_core.cli.tables import print_faults
from dvmvs_core.errors import ConfigError
from dvmvs_core.progress import progress


@dataclass(frozen=True)
class Options:
    """Predict the depth of every keyframe."""

    sequences: SequencePaths
    """scene folders or rosbag2 recordings"""
    out: RequiredFolder
    """folder to write to"""
    indices: IndexPaths = ()
    """index files, or folders of them, that list keyframes and measurement frames; they replace the keyframe rule. With
    several sequences, each uses the files named after it: KEYFRAMING+DATASET+SCENE+nmeas+N"""
    limit: OptionalCount = None
    """largest number of keyframes to predict per run"""
    refine: bool = False
    """multi-view refinement against keyframes before and after (offline only); 2.4 s per keyframe on two cores"""
    pictures: Count = 10
    """one picture for every N keyframes; 0 for none"""
    published: bool = False
    """write the published files instead of predictions.npz: arrays arr_0 of (N, h, w) depth and (N, 8) errors"""
    dataset: OptionalName = None
    """name of the data set in published file names; by default the folder that holds the sequence"""
    result_bag: Annotated[Path | None, tyro.conf.arg(metavar="BAG"), Output.FOLDER] = None
    """also write frames, depth, confidence, clouds and errors as a rosbag2 (mcap), for RViz, Foxglove or rerun; several
    runs each get their own bag in BAG"""
    format: Annotated[
        tuple[Literal["tum", "transforms.json", "colmap", "ply"], ...], tyro.conf.arg(metavar="FORMAT ...")
    ] = ()
    """also write depth and poses of the keyframes for other tools, each format in a folder named after it: tum (TUM
    RGB-D), transforms.json (nerfstudio), colmap (text model with points), ply (one cloud)"""
    min_confidence: float = 0.0
    """lowest confidence, 0 to 1, of the depth that --format writes"""
    engine: EngineOptions = field(default_factory=EngineOptions)
    bag: BagOptions = field(default_factory=BagOptions)


def run(options: Options) -> None:
    """Predict and say where the results lie."""
    from dvmvs_core.evaluation.scoring.evaluation_runs import plan_runs

    runs = plan_runs(
        options.bag.open_all(options.sequences),
        options.indices,
        options.engine.measurement_frames,
        options.dataset,
        options.limit,
    )
    bags = _result_bags(options, runs)
    _check_formats(options, runs)
    scored = sum(one.sequence.has_depth for one in runs) if options.published else 0
    step = Steps(1 + len(runs) * (1 + bool(bags) + len(options.format)) + scored)
    engine = options.engine.build(step(f"loading {options.engine.weights}"))
    for one in runs:
        if options.published:
            _predict_published(options, engine, one, step)
        else:
            folder = options.out / one.name if len(runs) > 1 else options.out
            path, latencies = _predict(options, engine, one, folder, options.pictures, step)
            _say((path,), latencies, engine)
            if one.name in bags:
                _write_result_bag(one, path, bags[one.name], step)
            for form in options.format:
                _export(one, path, folder / form, form, options.min_confidence, step)
        print_faults(one.name, one.sequence)


def _result_bags(options: Options, runs) -> dict[str, Path]:
    """Where the bag of each run goes; refused now rather than after the prediction."""
    from dvmvs_core.data.bags.bag_writer import check_new

    if options.result_bag is None:
        return {}
    if options.published:
        raise ConfigError("--result-bag is made from predictions.npz, which --published does not write; choose one")
    bags = {one.name: options.result_bag / one.name if len(runs) > 1 else options.result_bag for one in runs}
    for bag in bags.values():
        check_new(bag)
    return bags


def _write_result_bag(one, predictions: Path, bag: Path, step: Steps) -> None:
    from dvmvs_core.evaluation.report.result_bag import write_result_bag

    with progress(step(f"writing {bag}"), len(one.sequence)) as advance:
        write_result_bag(one.sequence, predictions, bag, advance=advance)
    print(f"{bag}: the frames of {one.name} with their depth")


def _check_formats(options: Options, runs) -> None:
    """Refuse what --format could not write, before the prediction."""
    from dvmvs_core.data.bags.bag_writer import check_new

    if not 0 <= options.min_confidence <= 1:
        raise ConfigError(f"--min-confidence must be from 0 to 1; got {options.min_confidence}")
    if options.format and options.published:
        raise ConfigError("--format is made from predictions.npz, which --published does not write; choose one")
    for one in runs:
        for form in options.format:
            check_new((options.out / one.name if len(runs) > 1 else options.out) / form)


def _export(one, predictions: Path, folder: Path, form: str, min_confidence: float, step: Steps) -> None:
    from dvmvs_core.evaluation.prediction.prediction_export import export_predictions

    with progress(step(f"writing {folder}"), len(one.sequence)) as advance:
        written = export_predictions(one.sequence, predictions, folder, form, min_confidence, advance)
    print(f"{written}: the keyframes of {one.name}")


def _predict(options: Options, engine, one, folder: Path, pictures: int, step: Steps) -> tuple[Path, list[float]]:
    from dvmvs_core.evaluation.prediction.predict_sequence import PREDICTIONS

    latencies = predict_with_bar(one, engine, folder, pictures, options.refine, step(f"predicting {one.name}"))
    return folder / PREDICTIONS, latencies


def _predict_published(options: Options, engine, one, step: Steps) -> None:
    from dvmvs_core.evaluation.prediction.predict_sequence import PREDICTIONS
    from dvmvs_core.evaluation.scoring.published import write_published
    from dvmvs_core.evaluation.scoring.score import score_predictions

    with unfinished_folder(options.out / PREDICTIONS) as unfinished:
        path, latencies = _predict(options, engine, one, unfinished, 0, step)
        score = None
        if one.sequence.has_depth:
            with progress(step(f"scoring {one.name}"), len(latencies)) as advance:
                score = score_predictions(path, one.sequence, advance=advance)
        files = write_published(path, score, options.out, one.system(engine), one.scene)
    _say(files, latencies, engine)


def _say(files, latencies: list[float], engine) -> None:
    latency = sorted(latencies)[len(latencies) // 2]
    names = " and ".join(map(str, files))
    print(f"{names}: depth of {len(latencies)} keyframes, median {latency:.0f} ms each on {engine.device}")
