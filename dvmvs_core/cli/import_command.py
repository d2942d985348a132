# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Convert recordings of other tools and published data sets to scene folders or training files.

Poses, units and axes are converted and lens distortion is removed. Frames without depth are kept for prediction. Frames
that are left out are listed with the reason, on the terminal and in export.json of the scene. A scene is written
completely or not at all; scenes finished by an earlier run are skipped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar, Union

import tyro

from dvmvs_core.atomic import replacing
from dvmvs_core.cli.common_options import NewFolder, OutputFile
from dvmvs_core.cli.tables import print_table
from dvmvs_core.errors import DataError
from dvmvs_core.importers.formats import FORMATS, ImportOptions

if TYPE_CHECKING:
    from dvmvs_core.importers.import_runner import ImportSummary

OptionsT = TypeVar("OptionsT")

NAMED_FRAMES = 3
"""How many frames of a scene that were left out are named on the terminal; all of them are in its export.json."""


@dataclass(frozen=True)
class Import(Generic[OptionsT]):
    """Imports of one kind of recording."""

    root: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="IN")]
    """the recording or data set as it was downloaded, or one scene of it"""
    out: NewFolder
    """folder for the scenes"""
    dataset: OptionsT
    how: ImportOptions = field(default_factory=ImportOptions)
    scenes: tuple[str, ...] = ()
    """names of the scenes to convert; by default all, with --published those of the published tests"""
    workers: int = 0
    """scenes to convert at the same time; by default one per processor"""
    split_folder: Path | None = None
    """folder with train.txt and validation.txt; by default places are split 9 to 1 with a fixed seed"""
    json: OutputFile = None
    """file for the result of each scene"""


Options = Union[  # noqa: UP007
    tuple(
        Annotated[Import[known.options], tyro.conf.subcommand(name, description=known.description)]
        for name, known in FORMATS.items()
    )
]


def run(options: Import) -> None:
    """Import, say what became of each scene, and fail if one could not be imported.

    Raises:
        DataError: if there is nothing to import, or a scene could not be.
        OutputError: if OUT cannot be written.
    """
    from dvmvs_core.importers.formats import open_dataset
    from dvmvs_core.importers.import_runner import import_scenes

    with _scene_progress() as on_progress:
        summary = import_scenes(
            open_dataset(options.how.published, options.dataset),
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
    if len(summary.failures) == 1 and not summary.scenes:
        (reason,) = summary.failures.values()
        raise DataError(reason)
    if summary.failures:
        failures = "; ".join(f"{name}: {reason}" for name, reason in summary.failures.items())
        raise DataError(
            f"{len(summary.failures)} of {len(summary.failures) + len(summary.scenes)} scenes could not be imported"
            f" ({failures}). What could be is in {options.out}"
        )


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


def _print_summary(summary: ImportSummary) -> None:
    rows = [
        (
            scene.name,
            scene.frames,
            scene.lost_poses,
            scene.skipped_frames,
            len(scene.without_depth),
            "yes" if scene.stamps else "no",
            "before" if scene.resumed else "now",
        )
        for scene in summary.scenes
    ]
    if rows:
        columns = ("scene", "frames", "poses lost", "left out", "without depth", "stamps", "imported")
        print_table("imported scenes", columns, rows)
    for scene in summary.scenes:
        for what, items in (("left out", scene.skipped), ("without depth", scene.without_depth)):
            for item in items[:NAMED_FRAMES]:
                print(f"{scene.name}: {what} {item.name}: {item.reason}")
            if len(items) > NAMED_FRAMES:
                print(f"{scene.name}: … and {len(items) - NAMED_FRAMES} more {what}, all named in its export.json")


def _figures(summary: ImportSummary) -> dict[str, Any]:
    return {
        "scenes": [
            {
                "name": scene.name,
                "frames": scene.frames,
                "lost_poses": scene.lost_poses,
                "skipped": [vars(item) for item in scene.skipped],
                "without_depth": [vars(item) for item in scene.without_depth],
                "stamps": scene.stamps,
                "resumed": scene.resumed,
            }
            for scene in summary.scenes
        ],
        "failures": summary.failures,
    }
