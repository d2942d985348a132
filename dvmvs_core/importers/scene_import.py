# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Exports one scene."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dvmvs_core.errors import DataError
from dvmvs_core.foreign import foreign
from dvmvs_core.importers.dataset import Dataset, ImportedFrame, Scene, SceneInput, SkippedFrame
from dvmvs_core.importers.formats import ImportOptions
from dvmvs_core.importers.scene_writer import SceneFolder, read_record

POSE_FORMAT = "%.8e"
"""Of the training layout: 9 digits, a tenth of a micrometre at 10 m."""


class ImportStopped(Exception):
    """Another process asked this one to stop."""


@dataclass(frozen=True)
class SceneReport:
    """What became of a scene.

    Attributes:
        name: its folder.
        frames: number of frames in it.
        lost_poses: frames whose pose is lost: kept to test with, left out to train with.
        skipped: frames that were left out.
        without_depth: frames that serve for prediction alone.
        stamps: whether stamps.txt was written.
        resumed: whether it was finished before, and nothing was done.
    """

    name: str
    frames: int
    lost_poses: int
    skipped: tuple[SkippedFrame, ...]
    without_depth: tuple[SkippedFrame, ...]
    stamps: bool
    resumed: bool = False

    @property
    def skipped_frames(self) -> int:
        """How many frames were left out."""
        return sum(skipped.count for skipped in self.skipped)


def finished_scene(scene: SceneInput, out: Path, dataset: Dataset, options: ImportOptions) -> SceneReport | None:
    """Return the report of a scene that an earlier run finished, or None if it is still to do.

    Raises:
        DataError: if a folder is in its place that was made otherwise.
    """
    path = out / scene.name
    record = read_record(path)
    if record is None:
        return None
    for key, value in _settings(dataset, options).items():
        if record.get(key) != value:
            raise DataError(
                f"{path} was exported with {key} {record.get(key)}, not {value}. Name another OUT, or remove it"
            )
    with foreign(f"{path} is in the way: its record of the export is damaged", advice=". Remove it"):
        skipped, without_depth = (
            tuple(SkippedFrame(**entry) for entry in record.get(key, ())) for key in ("skipped", "without_depth")
        )
        return SceneReport(
            scene.name, record["frames"], record["lost_poses"], skipped, without_depth, record["stamps"], resumed=True
        )


def import_scene(
    scene: SceneInput,
    out: Path,
    dataset: Dataset,
    options: ImportOptions,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    stopped: Callable[[], bool] = lambda: False,
) -> SceneReport:
    """Write a scene, one frame in memory at a time.

    Args:
        scene: where it lies.
        out: the folder to make its folder in.
        dataset: how to read it.
        options: how to write it.
        on_progress: gets the number of frames done and to do, after every frame; both equal once the scene is finished.
        stopped: asked before every frame.

    Raises:
        DataError: if it cannot be read, or no frame of it can. Nothing of it is left behind.
        OutputError: if it cannot be written. Nothing of it is left behind.
        ImportStopped: if `stopped` said so. Nothing of it is left behind.
    """
    with foreign(f"{scene.path} cannot be read"):
        source = dataset.open(scene)
    pose_format = dataset.published_pose_format if options.published else POSE_FORMAT
    folder = SceneFolder(out / scene.name, options.training, pose_format)
    try:
        located = lost_poses = 0
        skipped, without_depth = [], []
        total = len(range(0, len(source), options.frame_skip))
        for done, item in enumerate(_frames(scene, source, options.frame_skip), start=1):
            if stopped():
                raise ImportStopped
            if isinstance(item, SkippedFrame):
                skipped.append(item)
                on_progress(min(done, total - 1), total)
                continue
            if item.depth is None and item.no_depth:
                without_depth.append(SkippedFrame(item.name, item.no_depth))
            if item.depth is None and options.training:
                skipped.append(SkippedFrame(item.name, item.no_depth or "there is no depth to train with"))
            elif not np.isfinite(item.world_T_cam).all():
                lost_poses += 1
                if not options.training:
                    folder.add(item)
            else:
                located += 1
                folder.add(item)
            on_progress(min(done, total - 1), total)
        if located == 0:
            raise _unusable(scene, lost_poses, skipped)
        report = SceneReport(
            scene.name, len(folder), lost_poses, tuple(skipped), tuple(without_depth), folder.has_stamps
        )
        folder.finish(source.K, _record(report, dataset, options), source.valid_mask)
        on_progress(total, total)
    except BaseException:
        folder.discard()
        raise
    return report


def _frames(scene: SceneInput, source: Scene, step: int) -> Iterator[ImportedFrame | SkippedFrame]:
    with foreign(f"{scene.path} cannot be read"):
        yield from source.frames(step)


def _unusable(scene: SceneInput, lost_poses: int, skipped: list[SkippedFrame]) -> DataError:
    why = f"; the first that was left out is {skipped[0].name}: {skipped[0].reason}" if skipped else ""
    unreadable = sum(item.count for item in skipped)
    return DataError(f"{scene.path} has no usable frame: {lost_poses} without a pose, {unreadable} left out{why}")


def _settings(dataset: Dataset, options: ImportOptions) -> dict[str, Any]:
    """What a scene depends on, as it is found again in its record."""
    own = {name: _plain(value) for name, value in vars(dataset.options).items()}
    return {"dataset": dataset.title, **dataclasses.asdict(options), **own}


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


def _record(report: SceneReport, dataset: Dataset, options: ImportOptions) -> dict[str, Any]:
    return {
        **_settings(dataset, options),
        "frames": report.frames,
        "lost_poses": report.lost_poses,
        "stamps": report.stamps,
        "skipped": [dataclasses.asdict(item) for item in report.skipped],
        "without_depth": [dataclasses.asdict(item) for item in report.without_depth],
    }
