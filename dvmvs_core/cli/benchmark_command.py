# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Measure memory and the latency of a keyframe by stage, and compare with plain torch in the same run.

Frames are synthetic, since latency does not depend on their content. --preset uses a network with random weights
instead of --weights. --json saves the figures with hardware and versions; the README's tables are made from the files
in benchmarks/results.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Annotated, Literal

import tyro

from dvmvs_core.atomic import replacing
from dvmvs_core.cli.common_options import Count, EngineOptions, OptionalCount, OutputFile
from dvmvs_core.cli.tables import print_table
from dvmvs_core.config import preset
from dvmvs_core.progress import progress


@dataclass(frozen=True)
class Options:
    """Measure the engine."""

    keyframes: Count = 20
    """keyframes to measure, after the warm-up"""
    preset: Annotated[Literal["paper", "small"] | None, tyro.conf.arg(metavar="{paper,small}")] = None
    """size of a network with random weights, instead of --weights"""
    reference: Literal["yes", "no"] = "yes"
    """also measure plain torch, keyframe by keyframe"""
    scaling: bool = False
    """also vary measurement frames, planes and resolution"""
    growth: OptionalCount = None
    """run this many keyframes at a small size and report how memory grows"""
    threads: OptionalCount = None
    """CPU threads; by default one per core"""
    json: OutputFile = None
    """file for the figures"""
    engine: EngineOptions = field(default_factory=EngineOptions)


def run(options: Options) -> None:
    """Measure, print tables and write what was asked for."""
    import torch

    from dvmvs_core.environment import command_line, hardware, now, versions
    from dvmvs_core.runtime.devices import resolve_device
    from dvmvs_core.timing.compare import compare, describe
    from dvmvs_core.timing.growth import growth
    from dvmvs_core.timing.scaling import points, scaling

    if options.threads is not None:
        torch.set_num_threads(options.threads)
    config = options.engine.config()
    resolve_device(config.device)
    network = _network(options)
    with progress("keyframes", options.keyframes) as advance:
        compared = compare(network, config, options.keyframes, options.reference == "yes", advance)
    figures = {
        "command": command_line(),
        "made": now(),
        "versions": versions(),
        "hardware": hardware(torch.device(compared["device"])),
        **describe(network, config),
        **compared,
    }
    _print_comparison(figures)
    if options.scaling:
        with progress("scaling", len(points())) as advance:
            figures["scaling"] = scaling(network, config, max(3, options.keyframes // 2), advance)
        _print_scaling(figures["scaling"])
    if options.growth is not None:
        with progress("memory", options.growth) as advance:
            figures["growth"] = growth(network, config, options.growth, advance)
        grown = figures["growth"]
        print(f"memory over {grown['keyframes']} keyframes: {grown['before_mb']} MiB -> {grown['after_mb']} MiB")
    if options.json is not None:
        with replacing(options.json) as unfinished:
            unfinished.write_text(json.dumps(figures, indent=2) + "\n")
        print(options.json)


def _network(options: Options):
    import torch

    from dvmvs_core.model.checkpoint import load_network
    from dvmvs_core.model.dvmvs import build_network

    if options.preset is None:
        return load_network(options.engine.weights, options.engine.network)[0]
    torch.manual_seed(0)
    return build_network(preset(options.preset, network=options.engine.network or "fusionnet")).eval()


def _print_comparison(figures: dict) -> None:
    width, height = figures["resolution"]
    title = (
        f"{figures['preset']} {figures['network']}, {width}x{height}, {figures['measurement_frames']} measurement"
        f" frames, {figures['precision']}, {figures['device']}, {figures['threads']} threads; ms"
    )
    own, plain = figures["stages_ms"], figures.get("reference_stages_ms", {})
    rows = [(stage, _ms(own.get(stage)), _ms(plain.get(stage))) for stage in dict.fromkeys((*own, *plain))]
    frame, reference = figures["frame_ms"], figures.get("reference_frame_ms", {})
    for name, label in (("median", "keyframe, median"), ("p95", "95 %"), ("cpu_median", "on all cores together")):
        rows.append((label, _ms(frame[name]), _ms(reference.get(name))))
    print_table(title, ("stage", figures["mode"], "reference"), rows)
    if reference:
        mean, most = figures["mean_relative_difference"], figures["max_relative_difference"]
        print(
            f"{figures['speedup']} times as fast ({figures['cpu_speedup']} by time on the cores); depth differs by"
            f" {mean:.1e} in the mean and {most:.1e} at most"
        )
    print(f"start {figures['start_s']} s, peak memory {figures['peak_memory_mb']} MiB")


def _print_scaling(rows: list[dict]) -> None:
    cells = [(f"{r['axis']} {r['value']}", _ms(r["frame_ms"]), _ms(r["cpu_ms"]), f"{r['memory_mb']:.0f}") for r in rows]
    print_table("scaling", ("", "ms", "ms on all cores", "MiB"), cells)


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"
