# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Exports many scenes at once, in worker processes."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Event
from pathlib import Path

import cv2

from dvmvs_core.errors import DataError
from dvmvs_core.foreign import foreign
from dvmvs_core.importers.dataset import Dataset, SceneInput
from dvmvs_core.importers.formats import ImportOptions
from dvmvs_core.importers.scene_import import SceneReport, finished_scene, import_scene
from dvmvs_core.importers.scene_writer import OutputError, writing
from dvmvs_core.importers.split import split_by_place, split_from, write_split

POLL_S = 0.1

Progress = Callable[[str, int, int], None]
"""Gets a scene's name and its number of frames done and to do."""


@dataclass(frozen=True)
class ImportSummary:
    """What became of an import.

    Attributes:
        scenes: a report of each scene that is finished, now or by an earlier run.
        failures: scene name → why it could not be imported.
    """

    scenes: tuple[SceneReport, ...]
    failures: dict[str, str]


def import_scenes(
    dataset: Dataset,
    root: Path,
    out: Path,
    options: ImportOptions,
    scenes: tuple[str, ...] = (),
    workers: int = 1,
    split_folder: Path | None = None,
    on_progress: Progress = lambda name, done, total: None,
) -> ImportSummary:
    """Export the scenes of a folder; those that an earlier run finished stay as they are.

    A scene that cannot be read does not keep the others from being imported.

    Args:
        dataset: how to read them.
        root: where they lie.
        out: folder for the scene folders; made if it is missing.
        options: how to write them.
        scenes: only the scenes with these names, or all if empty.
        workers: processes at work; 1 stays in this one.
        split_folder: where to take train.txt and validation.txt from; made up if None.
        on_progress: called in this process.

    Raises:
        DataError: if there is no scene to import, or a folder made otherwise is in the way.
        OutputError: if something cannot be written.
    """
    if not root.exists():
        raise DataError(f"{root} does not exist; it must hold {dataset.title} as it was downloaded")
    if root.is_dir():
        with foreign(f"{root} cannot be read"):
            next(root.iterdir(), None)  # a search by patterns finds nothing, without a word, where it may not look
    inputs = _chosen(dataset.find(root), scenes)
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    reports = {scene.name: finished_scene(scene, out, dataset, options) for scene in inputs}
    for name, report in reports.items():
        if report is not None:
            on_progress(name, report.frames, report.frames)
    todo = [scene for scene in inputs if reports[scene.name] is None]
    failures: dict[str, str] = {}
    run = _run_here if workers == 1 or len(todo) < 2 else _run_in_processes
    for name, result in run(todo, out, dataset, options, min(workers, len(todo)), on_progress).items():
        if isinstance(result, SceneReport):
            reports[name] = result
        else:
            failures[name] = str(result)
    finished = tuple(report for report in reports.values() if report is not None)
    if options.training and finished:
        names = [report.name for report in finished]
        write_split(out, *(split_by_place(names) if split_folder is None else split_from(split_folder, names)))
    return ImportSummary(finished, failures)


def _chosen(found: list[SceneInput], names: tuple[str, ...]) -> list[SceneInput]:
    by_name = {scene.name: scene for scene in found}
    if len(by_name) < len(found):
        raise DataError(f"two inputs have the same scene name among {sorted(scene.name for scene in found)}")
    unknown = sorted(set(names) - set(by_name))
    if unknown:
        raise DataError(f"no scene {', '.join(unknown)}; found are {', '.join(by_name)}")
    return [by_name[name] for name in names] if names else found


def _run_here(
    todo: list[SceneInput], out: Path, dataset: Dataset, options: ImportOptions, workers: int, on_progress: Progress
) -> dict[str, SceneReport | DataError]:
    results: dict[str, SceneReport | DataError] = {}
    for scene in todo:
        try:
            results[scene.name] = import_scene(
                scene, out, dataset, options, lambda done, total, name=scene.name: on_progress(name, done, total)
            )
        except OutputError:
            raise
        except DataError as error:
            results[scene.name] = error
    return results


def _run_in_processes(
    todo: list[SceneInput], out: Path, dataset: Dataset, options: ImportOptions, workers: int, on_progress: Progress
) -> dict[str, SceneReport | DataError]:
    # Started afresh and not forked: the decoders' threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    progress, stop = context.SimpleQueue(), context.Event()
    with ProcessPoolExecutor(workers, context, _start_worker, (progress, stop)) as pool:
        futures = {pool.submit(_work, scene, out, dataset, options): scene.name for scene in todo}
        try:
            return _collect(futures, progress, on_progress)
        except BrokenProcessPool as error:
            raise DataError(
                "a worker process died, perhaps for want of memory."
                " Run it again with fewer --workers: finished scenes are kept"
            ) from error
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)


def _collect(
    futures: dict[Future, str], progress: SimpleQueue, on_progress: Progress
) -> dict[str, SceneReport | DataError]:
    results: dict[str, SceneReport | DataError] = {}
    pending = set(futures)
    while pending:
        done, pending = wait(pending, timeout=POLL_S)
        while not progress.empty():
            on_progress(*progress.get())
        for future in done:
            try:
                results[futures[future]] = future.result()
            except OutputError:
                raise
            except DataError as error:
                results[futures[future]] = error
    return results


_progress: SimpleQueue
_stop: Event


def _start_worker(progress: SimpleQueue, stop: Event) -> None:
    global _progress, _stop
    _progress, _stop = progress, stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which sets `stop`
    threading.Thread(target=_die_with_parent, daemon=True).start()
    cv2.setNumThreads(1)


def _die_with_parent() -> None:
    """A worker whose parent was killed would write on, into the way of the next run."""
    multiprocessing.connection.wait([multiprocessing.parent_process().sentinel])
    os._exit(1)


def _work(scene: SceneInput, out: Path, dataset: Dataset, options: ImportOptions) -> SceneReport:
    return import_scene(
        scene, out, dataset, options, lambda done, total: _progress.put((scene.name, done, total)), _stop.is_set
    )
