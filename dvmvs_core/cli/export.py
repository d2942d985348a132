# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Turn a published data set, as it was downloaded, into scene folders to test with or npz frames to train with.

Scenes that an earlier run finished are skipped, and a scene is written whole or not at all.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from dvmvs_core.data.exporters.options import (
    DatasetOptions,
    ExportOptions,
    IclNuimOptions,
    RgbdScenesOptions,
    ScannetOptions,
    SevenScenesOptions,
    TumRgbdOptions,
)

if TYPE_CHECKING:
    from dvmvs_core.data.exporters.frames import Dataset
    from dvmvs_core.data.exporters.runner import ExportSummary

NAMED_FRAMES = 3
"""How many unreadable frames of a scene are named on the terminal; all of them are in its export.json."""


@dataclass(frozen=True)
class _Export:
    root: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="IN")]
    """the data set as it was downloaded, or one scene of it"""
    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT")]
    """folder to make the scenes in"""
    how: ExportOptions = field(default_factory=ExportOptions)
    scenes: tuple[str, ...] = ()
    """only the scenes with these names; by default all, or with --published those of the published tests"""
    workers: int = 0
    """scenes to work on at a time; by default one a processor"""
    split_folder: Path | None = None
    """folder whose train.txt and validation.txt say which scene is for what; by default 9 to 1, by place, seeded"""
    json: Path | None = None
    """write what became of each scene to this file"""


@dataclass(frozen=True)
class Scannet(_Export):
    """ScanNet: SCENE/SCENE.sens, read natively."""

    dataset: tyro.conf.Suppress[ScannetOptions] = field(default_factory=ScannetOptions)


@dataclass(frozen=True)
class SevenScenes(_Export):
    """7-Scenes: SCENE/seq-XX/frame-NNNNNN.{color.png,depth.png,pose.txt}."""

    dataset: SevenScenesOptions = field(default_factory=SevenScenesOptions)


@dataclass(frozen=True)
class TumRgbd(_Export):
    """TUM RGB-D: SEQUENCE/{rgb.txt,depth.txt,groundtruth.txt}, or a recording of your own in that format."""

    dataset: TumRgbdOptions = field(default_factory=TumRgbdOptions)


@dataclass(frozen=True)
class IclNuim(_Export):
    """Augmented ICL-NUIM: NAME-color, NAME-depth-clean and NAME-traj.txt."""

    dataset: tyro.conf.Suppress[IclNuimOptions] = field(default_factory=IclNuimOptions)


@dataclass(frozen=True)
class RgbdScenes(_Export):
    """RGB-D Scenes v2: imgs/scene_XX and pc/XX.pose."""

    dataset: tyro.conf.Suppress[RgbdScenesOptions] = field(default_factory=RgbdScenesOptions)


Options = (
    Annotated[Scannet, tyro.conf.subcommand("scannet")]
    | Annotated[SevenScenes, tyro.conf.subcommand("7scenes")]
    | Annotated[TumRgbd, tyro.conf.subcommand("tum-rgbd")]
    | Annotated[IclNuim, tyro.conf.subcommand("icl-nuim")]
    | Annotated[RgbdScenes, tyro.conf.subcommand("rgbd-scenes")]
)


def run(options: Scannet | SevenScenes | TumRgbd | IclNuim | RgbdScenes) -> None:
    """Export, say what became of each scene, and fail if one could not be exported.

    Raises:
        DataError: if there is nothing to export, or a scene could not be.
        OutputError: if OUT cannot be written.
    """
    from dvmvs_core.atomic import replacing
    from dvmvs_core.data.exporters.runner import export
    from dvmvs_core.errors import DataError

    with _scene_progress() as on_progress:
        summary = export(
            _dataset(options.dataset, options.how.published),
            options.root,
            options.out,
            options.how,
            options.scenes,
            options.workers or len(os.sched_getaffinity(0)),
            options.split_folder,
            on_progress,
        )
    _print_summary(summary)
    if options.json:
        with replacing(options.json) as unfinished:
            unfinished.write_text(json.dumps(_figures(summary), indent=1) + "\n")
    if summary.failures:
        failures = "; ".join(f"{name}: {reason}" for name, reason in summary.failures.items())
        raise DataError(
            f"{len(summary.failures)} of {len(summary.failures) + len(summary.scenes)} scenes could not be exported"
            f" ({failures}). What could be is in {options.out}"
        )


def _dataset(options: DatasetOptions, published: bool) -> Dataset:
    from dvmvs_core.data.exporters import icl_nuim, rgbd_scenes, scannet, seven_scenes, tum_rgbd

    datasets = {
        ScannetOptions: scannet.Scannet,
        SevenScenesOptions: seven_scenes.SevenScenes,
        TumRgbdOptions: tum_rgbd.TumRgbd,
        IclNuimOptions: icl_nuim.IclNuim,
        RgbdScenesOptions: rgbd_scenes.RgbdScenes,
    }
    return datasets[type(options)](published, options)


@contextmanager
def _scene_progress() -> Iterator[Callable[[str, int, int], None]]:
    """Show a bar for each scene at work."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, Any] = {}

        def show(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=total)
            # A finished scene gives up its line, or a thousand of them would fill the screen.
            bars.update(tasks[name], completed=done, visible=done < total)

        yield show


def _print_summary(summary: ExportSummary) -> None:
    from dvmvs_core.cli.tables import print_table

    rows = [
        (
            scene.name,
            scene.frames,
            scene.lost_poses,
            scene.skipped_frames,
            "yes" if scene.stamps else "no",
            "before" if scene.resumed else "now",
        )
        for scene in summary.scenes
    ]
    if rows:
        print_table("exported scenes", ("scene", "frames", "poses lost", "unreadable", "stamps", "exported"), rows)
    for scene in summary.scenes:
        for item in scene.skipped[:NAMED_FRAMES]:
            print(f"{scene.name}: left out {item.name}: {item.reason}")
        if len(scene.skipped) > NAMED_FRAMES:
            print(f"{scene.name}: … and {len(scene.skipped) - NAMED_FRAMES} more, all named in its export.json")


def _figures(summary: ExportSummary) -> dict[str, Any]:
    return {
        "scenes": [
            {
                "name": scene.name,
                "frames": scene.frames,
                "lost_poses": scene.lost_poses,
                "skipped": [vars(item) for item in scene.skipped],
                "stamps": scene.stamps,
                "resumed": scene.resumed,
            }
            for scene in summary.scenes
        ],
        "failures": summary.failures,
    }
