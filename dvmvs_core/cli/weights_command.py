# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""List, describe, import, export, average, calibrate and compress checkpoints."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from dvmvs_core.cli.common_options import Count, EngineOptions, OutputFile
from dvmvs_core.cli.outputs import Output
from dvmvs_core.cli.tables import print_table
from dvmvs_core.errors import WeightsError
from dvmvs_core.progress import progress

_Weights = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FILE|NAME")]
_Folder = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DIR")]
_File = Annotated[Path, tyro.conf.arg(metavar="OUT.safetensors"), Output.FILE]


@dataclass(frozen=True)
class List:
    """List the checkpoints that come with the package."""

    json: bool = False
    """print everything as JSON, for programs"""


@dataclass(frozen=True)
class Info:
    """Describe a checkpoint: licence, networks, metrics and lineage."""

    weights: _Weights
    """a safetensors file, or the name of a shipped checkpoint"""
    json: bool = False
    """print everything as JSON, for programs"""


@dataclass(frozen=True)
class ImportReleased:
    """Convert the files released with the paper to one safetensors file."""

    folder: _Folder
    """folder with 0_feature_extractor … 4_decoder (FusionNet) or … 3_decoder (PairNet); other files are ignored"""
    out: Annotated[_File, tyro.conf.Positional]
    """the safetensors file to write"""


@dataclass(frozen=True)
class Export:
    """Write a network as ONNX files, or in the layout released with the paper."""

    weights: _Weights
    """a safetensors file, or the name of a shipped checkpoint"""
    out: Annotated[_Folder, Output.FOLDER]
    """folder to write to; it must not exist yet"""
    network: Annotated[Literal["fusionnet", "pairnet"] | None, tyro.conf.arg(metavar="{fusionnet,pairnet}")] = None
    """which of the networks, where the weights hold both"""
    format: Literal["released", "onnx"] = "released"
    """released: one file of tensors per module; onnx: the parts between the plane sweeps, for TensorRT or onnxruntime,
    and network.json, which describes how they are connected"""


@dataclass(frozen=True)
class Average:
    """Average checkpoints of one run, or that started from the same weights."""

    weights: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FILE|NAME ...")]
    """two or more safetensors files, or names of shipped checkpoints"""
    out: _File
    """the safetensors file to write"""
    regulariser: bool = False
    """the files are of dvmvs train regulariser"""


@dataclass(frozen=True)
class Calibrate:
    """Fit the confidence of a checkpoint on held-out synthetic worlds."""

    engine: EngineOptions = field(default_factory=EngineOptions)
    clips: Count = 32
    """number of worlds, 12 keyframes each; a quarter of them only validate the fit"""
    out: OutputFile = None
    """file for the coefficients; by default the one that the engine reads"""


@dataclass(frozen=True)
class Compress:
    """Find on synthetic worlds what convolutions can do without: kept next to the weights, used with matching."""

    weights: _Weights
    """a safetensors file, or the name of a shipped checkpoint"""
    clips: Count = 24
    """number of worlds, 10 keyframes each, for each network that the weights hold"""
    error: Annotated[float, tyro.conf.arg(metavar="PART")] = 1e-3
    """largest mean squared error of what a convolution puts out, of its variance"""


Options = (
    Annotated[List, tyro.conf.subcommand("list")]
    | Annotated[Info, tyro.conf.subcommand("info")]
    | Annotated[ImportReleased, tyro.conf.subcommand("import")]
    | Annotated[Export, tyro.conf.subcommand("export")]
    | Annotated[Average, tyro.conf.subcommand("average")]
    | Annotated[Calibrate, tyro.conf.subcommand("calibrate")]
    | Annotated[Compress, tyro.conf.subcommand("compress")]
)


def run(options: List | Info | ImportReleased | Export | Average | Calibrate | Compress) -> None:
    """Run one of the seven."""
    commands = {
        List: _list,
        Info: _info,
        ImportReleased: _import,
        Export: _export,
        Average: _average,
        Calibrate: _calibrate,
        Compress: _compress,
    }
    commands[type(options)](options)


def _list(options: List) -> None:
    from dvmvs_core.cli.weights_description import LIST_HEADER, as_dict, list_row
    from dvmvs_core.model.checkpoint import list_shipped, read_info

    infos = [read_info(name) for name in list_shipped()]
    if options.json:
        print(json.dumps([as_dict(info) for info in infos], indent=2))
        return

    print_table("shipped checkpoints", LIST_HEADER, map(list_row, infos))
    print("`dvmvs weights info NAME` says more")


def _info(options: Info) -> None:
    from dvmvs_core.cli.weights_description import as_dict
    from dvmvs_core.model.checkpoint import read_info

    info = read_info(options.weights)
    if options.json:
        print(json.dumps(as_dict(info), indent=2))
    else:
        _describe(info)


def _import(options: ImportReleased) -> None:
    from dvmvs_core.model.checkpoint import import_released

    options.out.parent.mkdir(parents=True, exist_ok=True)
    _describe(import_released(options.folder, options.out))


def _export(options: Export) -> None:
    if options.format == "onnx":
        try:
            from dvmvs_core.runtime.onnx_export import export_onnx as export
        except ImportError as error:
            raise WeightsError(f"format onnx needs the package onnx ({error}); pip install onnx") from error
    else:
        from dvmvs_core.model.checkpoint import export_released as export

    files = export(options.weights, options.out, options.network)
    print(f"{options.out}: {', '.join(file.name for file in files)}")


def _average(options: Average) -> None:
    from dvmvs_core.model.averaging import average_checkpoints, average_regularisers

    options.out.parent.mkdir(parents=True, exist_ok=True)
    if options.regulariser:
        average_regularisers([Path(weights) for weights in options.weights], options.out)
        print(f"{options.out}: the mean of {len(options.weights)} regularisers")
        return
    _describe(average_checkpoints(options.weights, options.out))


def _calibrate(options: Calibrate) -> None:
    from dvmvs_core.environment import command_line, fingerprint
    from dvmvs_core.evaluation.scoring.calibration import calibrate, coefficients_path, write_calibration
    from dvmvs_core.model.checkpoint import read_info

    engine = options.engine.build()
    with progress("walking through worlds", options.clips) as advance:
        calibration = calibrate(engine, options.clips, advance)
    check = calibration.check
    print_table(
        "on worlds that were kept apart: share of depths within 10 %, by confidence",
        ("confidence", "within 10 %", "pixels"),
        [(f"{part.confidence:.2f}", f"{part.ratio_110:.2f}", part.pixels) for part in check.calibration],
    )
    half = check.error[check.left_out.index(0.5)]
    print(f"relative error: {check.error[0]:.3f}; of the most confident half {half:.3f}")
    out = options.out or coefficients_path(engine)
    sha256 = fingerprint(read_info(options.engine.weights).path)
    write_calibration(out, calibration, command=command_line(), weights_sha256=sha256)
    print(f"coefficients: {out}")


def _compress(options: Compress) -> None:
    from dvmvs_core.environment import command_line
    from dvmvs_core.model.checkpoint import load_network, read_info
    from dvmvs_core.model.low_rank import save_directions
    from dvmvs_core.training.compression import find_directions

    info, found = read_info(options.weights), {}
    with progress("walking through worlds", options.clips * len(info.networks)) as advance:
        for name in info.networks:
            network, _ = load_network(options.weights, name)
            found[name] = find_directions(network, options.clips, options.error, advance)
    print_table(
        "convolutions that become two",
        ("network", "convolution", "channels", "directions"),
        [
            (name, convolution, one.onto.shape[1], one.onto.shape[0])
            for name, of_network in found.items()
            for convolution, one in of_network.items()
        ],
    )
    written = save_directions(info.path, found, {"command": command_line()})
    print(f"directions: {written}")


def _describe(info) -> None:
    from dvmvs_core.cli.weights_description import description

    print(description(info))
