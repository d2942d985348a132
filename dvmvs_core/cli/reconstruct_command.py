# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Fuse the depth of a scene folder or a rosbag2 into one coloured mesh.

Depth is predicted, read from --predictions, or with --sensor taken from the recording. Writes a PLY file and a picture
of the mesh. If the recording has depth, the mesh is compared with one fused from it at the same pixels: accuracy,
completion, chamfer distance, precision, recall and F-score at 5 cm. Needs the extra [reconstruct] (Open3D).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from dvmvs_core.cli.common_options import (
    BagOptions,
    Count,
    EngineOptions,
    Metres,
    OptionalCount,
    OptionalFile,
    OutputFile,
    OutputFolder,
    SequencePath,
)
from dvmvs_core.cli.outputs import Output
from dvmvs_core.cli.progress_bars import Steps, counted
from dvmvs_core.cli.tables import print_faults, print_table
from dvmvs_core.errors import ConfigError
from dvmvs_core.progress import progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dvmvs_core.data.sequence import FrameSequence
    from dvmvs_core.engine import DepthEngine
    from dvmvs_core.evaluation.prediction.prediction_files import PredictionReader
    from dvmvs_core.evaluation.reconstruction.depth_views import DepthView


@dataclass(frozen=True)
class Options:
    """Fuse depth into a mesh."""

    sequence: SequencePath
    """a scene folder or a rosbag2"""
    out: Annotated[Path, tyro.conf.arg(metavar="FILE.ply"), Output.FILE]
    """the mesh to write"""
    predictions: OptionalFile = None
    """predictions.npz written by dvmvs predict, instead of running the network"""
    sensor: bool = False
    """fuse sensor depth instead of predicted depth"""
    every_frame: bool = False
    """fuse every frame, not only keyframes"""
    raw: bool = False
    """fuse depth as predicted: without multi-view refinement and without the consistency check between keyframes"""
    limit: OptionalCount = None
    """largest number of frames to fuse"""
    voxel_size: Metres = 0.015
    """side of a voxel, metres"""
    truncation: Annotated[float, tyro.conf.arg(metavar="VOXELS")] = 5.0
    """truncation distance of the signed distance, voxels"""
    max_depth: Metres = 5.0
    """largest depth that is fused, metres"""
    min_views: Count = 4
    """remove surfaces seen by fewer frames"""
    min_confidence: Annotated[float | None, tyro.conf.arg(metavar="0..1")] = None
    """leave out predicted depth with a lower confidence; by default 0.3 with --raw, otherwise 0"""
    progressive: OutputFolder = None
    """folder for the mesh as it grows, mesh_FRAME.ply"""
    progressive_every: Count = 10
    """number of frames between two of these meshes"""
    picture: OutputFile = None
    """file for the picture; by default FILE.png next to the mesh"""
    json: OutputFile = None
    """file for the figures"""
    engine: EngineOptions = field(default_factory=EngineOptions)
    bag: BagOptions = field(default_factory=BagOptions)


def run(options: Options) -> None:
    """Fuse, write mesh and picture, and print the figures."""
    from dvmvs_core.evaluation.prediction.prediction_files import PredictionReader
    from dvmvs_core.evaluation.reconstruction.fusion import FusionConfig
    from dvmvs_core.evaluation.reconstruction.mesh import write_mesh
    from dvmvs_core.evaluation.reconstruction.open3d_loader import load_open3d
    from dvmvs_core.evaluation.reconstruction.reconstruct import ProgressiveMeshes, reconstruct, write_picture
    from dvmvs_core.evaluation.scoring.figures import write_figures

    _check(options)
    config = FusionConfig(options.voxel_size, options.truncation, options.max_depth, options.min_views)
    load_open3d()  # before the minutes of prediction, not after
    sequence = options.bag.open(options.sequence)
    predicts = not (options.sensor or options.predictions)
    step = Steps(2 + predicts)
    engine = options.engine.build(step(f"loading {options.engine.weights}")) if predicts else None
    stored = PredictionReader(options.predictions) if options.predictions else None
    already_refined = stored is not None and stored.refined  # by `dvmvs predict --refine`
    min_confidence = _min_confidence(options, engine, stored)
    meshes = ProgressiveMeshes(options.progressive, options.progressive_every) if options.progressive else None
    with progress(step(f"fusing {sequence.name}"), options.limit or len(sequence)) as advance:
        of_frames = advance if options.limit is None else lambda frames: None
        views = _views(options, engine, sequence, already_refined, min_confidence, of_frames)
        if options.limit is not None:
            views = counted(islice(views, options.limit), advance)
        reconstruction = reconstruct(views, config, meshes)
    write_mesh(reconstruction.mesh, options.out)
    picture = options.picture or options.out.with_suffix(".png")
    refined = already_refined or not (options.raw or options.sensor)
    fusion = {**asdict(config), "min_confidence": min_confidence, "refined": refined}
    with progress(step("drawing and comparing"), 2) as advance:
        write_picture(reconstruction, picture, depth_name=sequence.depth_name)
        advance(1)
        figures = _figures(options, engine, sequence, fusion, reconstruction)
        advance(1)
    _print(options, picture, figures)
    print_faults(sequence.name, sequence)
    if options.json:
        write_figures(options.json, figures)


def _check(options: Options) -> None:
    if options.sensor and options.predictions:
        raise ConfigError("--sensor and --predictions name two sources of depth; give one of them")
    if options.every_frame and options.predictions:
        raise ConfigError("--every-frame needs the network or --sensor: --predictions hold keyframes only")
    if options.out.suffix.lower() != ".ply":
        raise ConfigError(f"--out must name a .ply file; got {options.out}")
    for name in ("limit", "progressive_every"):
        count = getattr(options, name)
        if count is not None and count < 1:
            raise ConfigError(f"--{name.replace('_', '-')} must be at least 1; got {count}")
    if options.min_confidence is not None and not 0 <= options.min_confidence <= 1:
        raise ConfigError(f"--min-confidence must lie between 0 and 1; got {options.min_confidence:g}")


def _min_confidence(options: Options, engine: DepthEngine | None, stored: PredictionReader | None) -> float:
    from dvmvs_core.evaluation.reconstruction.depth_views import USUAL_MIN_CONFIDENCE

    if options.min_confidence is not None:
        return options.min_confidence
    if not options.raw:  # what is wrong is refined, or found out by the views around
        return 0.0
    has_confidence = stored.has_confidence if stored is not None else engine is not None and engine.config.confidence
    return USUAL_MIN_CONFIDENCE if has_confidence else 0.0


def _views(
    options: Options,
    engine: DepthEngine | None,
    sequence: FrameSequence,
    already_refined: bool,
    min_confidence: float,
    advance: Callable[[float], None],
) -> Iterator[DepthView]:
    from dvmvs_core.evaluation.prediction.predict_sequence import TwoPasses, predict_every_frame
    from dvmvs_core.evaluation.reconstruction.depth_views import predicted_views, sensor_views, stored_views
    from dvmvs_core.evaluation.reconstruction.geometric_consistency import agreeing_views
    from dvmvs_core.evaluation.reconstruction.view_refinement import refined_views

    if options.sensor:
        return sensor_views(sequence, options.every_frame, advance)
    refine = not (options.raw or already_refined)
    passes = TwoPasses(advance)
    after_reading = passes.first if refine else advance
    if options.predictions:
        views = stored_views(options.predictions, sequence, min_confidence, after_reading)
    else:
        predictions = predict_every_frame(engine, sequence, sequence.has_depth, after_reading, options.every_frame)
        views = predicted_views(predictions, min_confidence)
    if refine:
        return passes.second(refined_views(views, checked=True), lambda view: view.frame_index)
    return views if options.raw else agreeing_views(views)


def _figures(
    options: Options, engine: DepthEngine | None, sequence: FrameSequence, fusion: dict, reconstruction
) -> dict:
    from dvmvs_core.environment import command_line
    from dvmvs_core.evaluation.reconstruction.mesh_metrics import SAMPLES, THRESHOLD_M, compare_meshes

    mesh, comparison = reconstruction.mesh, reconstruction.comparison
    depth = {"source": "sensor"}
    if options.predictions:
        depth = {"source": "predictions", "file": str(options.predictions)}
    elif engine:
        depth = {
            "source": "network",
            "weights": options.engine.weights,
            "network": engine.model_config.network,
            "preset": engine.model_config.preset,
        }
    figures = {
        "sequence": sequence.name,
        "depth": depth,
        "frames": len(reconstruction.world_T_cams),
        "fusion": fusion,
        "mesh": {"vertices": len(mesh.vertices), "triangles": len(mesh.triangles), "area_m2": mesh.area_m2()},
        "against_sensor": None,
        "faults": sequence.faults,
        "command": command_line(),
    }
    if comparison:
        figures["against_sensor"] = {
            **asdict(compare_meshes(comparison.predicted, comparison.sensor)),
            "depth_name": sequence.depth_name,
            "threshold_m": THRESHOLD_M,
            "samples": SAMPLES,
            "compared_pixels": comparison.shared,
            "predicted_area_m2": comparison.predicted.area_m2(),
            "sensor_area_m2": comparison.sensor.area_m2(),
        }
    return figures


def _print(options: Options, picture: Path, figures: dict) -> None:
    mesh, score = figures["mesh"], figures["against_sensor"]
    if score:
        depth = "refined" if figures["fusion"]["refined"] else "raw"
        columns = {
            "accuracy m": score["accuracy_m"],
            "completion m": score["completion_m"],
            "chamfer m": score["chamfer_m"],
            "precision": score["precision"],
            "recall": score["recall"],
            f"F-score at {score['threshold_m'] * 100:.0f} cm": score["f_score"],
        }
        print_table(
            f"{depth} depth against {score['depth_name']}, where that has a reading within range"
            f" ({score['compared_pixels']:.0%} of the pixels)",
            ("sequence", "frames", *columns),
            [(figures["sequence"], figures["frames"], *(f"{value:.4f}" for value in columns.values()))],
        )
    print(f"{options.out}: {mesh['triangles']} triangles, {mesh['area_m2']:.1f} m² from {figures['frames']} frames")
    print(f"picture: {picture}")
