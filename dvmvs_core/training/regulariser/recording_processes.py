# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Processes that record clips while the trainer learns from those that are there."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.queues import SimpleQueue
from pathlib import Path

from dvmvs_core.errors import DataError, DvmvsError
from dvmvs_core.training.regulariser.recording import Recorder, Walks

logger = logging.getLogger(__name__)

STOPPING_S = 2.0
"""What they may take to end when they are told to."""


@dataclass(frozen=True)
class ClipFolder:
    """Numbered clips in a folder.

    Args:
        path: the folder.
        walks: that they are recorded on.
        count: how many there will be.
    """

    path: Path
    walks: Walks
    count: int

    def file(self, number: int) -> Path:
        """Return the file of a clip."""
        return self.path / f"{number:05d}.npz"

    def files(self) -> list[Path]:
        """Return the files that are there, in the order of their numbers."""
        return [path for path in map(self.file, range(self.count)) if path.exists()]


class RecordingProcesses:
    """Each records every n-th clip that is not there yet, one folder after the other, and ends.

    Args:
        folders: what to record.
        count: how many processes; with 0 nothing is recorded.
    """

    def __init__(self, folders: Sequence[ClipFolder], count: int) -> None:
        # A fork of a process whose threads have computed can hang in its first parallel loop.
        spawn = multiprocessing.get_context("spawn")
        self._faults = spawn.SimpleQueue()
        arguments = [(tuple(folders), turn, count, self._faults) for turn in range(count)]
        self._processes = [
            spawn.Process(target=_record, args=each, name=f"recorder-{turn}", daemon=True)
            for turn, each in enumerate(arguments)
        ]

    def __enter__(self) -> RecordingProcesses:
        # Ctrl-C reaches every process of a terminal; the trainer ends these when it is done. They inherit this.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            for process in self._processes:
                process.start()
        finally:
            signal.signal(signal.SIGINT, before)
        return self

    def __exit__(self, *_exception: object) -> None:
        for process in self._processes:
            process.terminate()
        end = time.monotonic() + STOPPING_S
        for process in self._processes:
            process.join(max(0.0, end - time.monotonic()))
            if process.is_alive():  # in a compiler, which hears no signal for seconds
                process.kill()
                process.join()

    @property
    def running(self) -> bool:
        """Whether more clips may come."""
        return any(process.is_alive() for process in self._processes)

    def check(self) -> None:
        """Raise DataError if one of them failed."""
        failed = [process.name for process in self._processes if process.exitcode]
        if failed:
            why = "and said why above" if self._faults.empty() else self._faults.get()
            raise DataError(f"{' and '.join(failed)} failed: {why}; resume once that is mended")


def _record(folders: Sequence[ClipFolder], turn: int, turns: int, faults: SimpleQueue) -> None:
    try:
        _record_all(folders, turn, turns)
    except DvmvsError as error:  # for the user to mend, so its trainer says it in one line
        faults.put(str(error))
        os._exit(1)
    # Taking down the libraries beneath a thread that still runs can abort, which would be taken for a failure.
    os._exit(0)


def _record_all(folders: Sequence[ClipFolder], turn: int, turns: int) -> None:
    # An exception, so that the unfinished file is removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    import torch

    torch.set_num_threads(1)
    parent = multiprocessing.parent_process()
    recorders: dict[tuple[int, int], Recorder] = {}
    for folder in folders:
        size = (folder.walks.height, folder.walks.width)
        for number in range(turn, folder.count, turns):
            if parent is not None and not parent.is_alive():
                return
            if folder.file(number).exists():
                continue
            if size not in recorders:
                recorders[size] = Recorder(*size)
            recorders[size].record(folder.file(number), folder.walks, number)
