# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The files of a training run, each replaced only by a complete successor."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from dvmvs_core.atomic import replacing
from dvmvs_core.errors import DataError, DvmvsError
from dvmvs_core.foreign import foreign
from dvmvs_core.model.checkpoint import read_torch_file

logger = logging.getLogger(__name__)

CHECKPOINT_NAME = "last.pt"
LOG_NAME = "log.jsonl"
PICTURES_NAME = "pictures"


def attempt(write: Callable[[], Any]) -> None:
    """Write on the way, where a failure is told but ends nothing."""
    try:
        write()
    except DvmvsError as error:
        logger.warning("%s; training goes on", error)


class RunFolder:
    """The folder of a run; made if it is missing.

    Args:
        path: the folder.

    Raises:
        DataError: if it cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"cannot make the run folder {path}: {error}") from error

    @property
    def checkpoint(self) -> Path:
        """What a run goes on from."""
        return self.path / CHECKPOINT_NAME

    def save(self, state: dict[str, Any]) -> None:
        """Write the checkpoint.

        Raises:
            DataError: if that fails, as on a full disk; the checkpoint before it is still whole.
        """
        # Made in memory first: torch's own file writer can end the process when the disk is full.
        buffer = io.BytesIO()
        torch.save(state, buffer)
        self._write(self.checkpoint, buffer.getbuffer(), "; the checkpoint before it is still whole")

    def load(self) -> dict[str, Any]:
        """Read the checkpoint.

        Raises:
            DataError: if there is none, or it is broken.
        """
        if not self.checkpoint.exists():
            raise DataError(f"{self.path} holds no {CHECKPOINT_NAME} to resume from; start without resume")
        with foreign(f"{self.checkpoint} cannot be read, so it cannot be resumed from"):
            return read_torch_file(self.checkpoint)

    def log(self, entry: dict[str, Any]) -> None:
        """Add a line to the log; a run does not end because of one that cannot be written."""
        try:
            with (self.path / LOG_NAME).open("a") as log:
                log.write(json.dumps(entry) + "\n")
        except OSError as error:
            logger.warning("cannot write %s: %s", self.path / LOG_NAME, error)
        logger.info("%s", json.dumps(entry))

    def forget_after(self, step: int) -> None:
        """Take out of the log what was done after the checkpoint and will be done again."""
        log = self.path / LOG_NAME
        if log.exists():
            lines = log.read_text(errors="replace").splitlines(keepends=True)
            kept = [line for line in lines if _step_of(line) <= step]
            self._write(log, "".join(kept).encode(), "")

    def save_picture(self, name: str, png: bytes) -> None:
        """Write a picture.

        Raises:
            DataError: if that fails.
        """
        self._write(self.path / PICTURES_NAME / name, png, "")

    def _write(self, path: Path, data: bytes | memoryview, comfort: str) -> None:
        try:
            with replacing(path) as unfinished:
                unfinished.write_bytes(data)
        except OSError as error:
            raise DataError(f"cannot write {path}: {error}{comfort}") from error


def _step_of(line: str) -> float:
    try:
        with foreign("half a line: the run was killed while it wrote"):
            return float(json.loads(line)["step"])
    except DataError:
        return float("inf")
