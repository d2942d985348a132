# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Writes one scene: as a scene folder to test with, or as npz frames to train with."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from dvmvs_core.atomic import only_writer
from dvmvs_core.data.scene_folder import MASK, RECORD
from dvmvs_core.errors import DataError
from dvmvs_core.foreign import foreign, regular
from dvmvs_core.importers.dataset import ImportedFrame
from dvmvs_core.importers.timed_poses import SECOND_NS

PNG_COMPRESSION = 3


class OutputError(DataError):
    """Nothing more can be written where the import goes; going on with other scenes is of no use."""


class SceneFolder:
    """Collects a scene in a hidden folder next to its final place and moves it there when it is whole.

    So a scene is either finished or not there. What an earlier, killed run left in the hidden folder is removed first.

    Args:
        path: the final place.
        training: write npz frames instead of images.
        pose_format: of each number in poses.txt.
        jpeg_quality: write images as JPEG of this quality (1 to 100) instead of PNG.
    """

    def __init__(self, path: Path, training: bool, pose_format: str, jpeg_quality: int | None = None) -> None:
        self.path = path
        self._jpeg_quality = jpeg_quality
        self._training = training
        self._pose_format = pose_format
        self._partial = path.with_name(f".{path.name}.partial")
        self._poses: list[np.ndarray] = []
        self._stamps_ns: list[int | None] = []
        self._writers = ExitStack()
        with writing(self._partial):
            with suppress(FileExistsError):
                self._partial.mkdir(parents=True)
            if not self._writers.enter_context(only_writer(self._partial)):
                self._writers.close()
                raise OutputError(f"{path} is being written by another export. Wait for it or name another OUT")
        try:
            with writing(self._partial):
                for entry in self._partial.iterdir():
                    shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
                for folder in () if training else (self._partial / "images", self._partial / "depth"):
                    folder.mkdir()
        except OutputError:
            self.discard()
            raise

    def __len__(self) -> int:
        """Return the number of frames written."""
        return len(self._poses)

    def add(self, frame: ImportedFrame) -> None:
        """Write a frame.

        Raises:
            OutputError: if it cannot be written.
        """
        name = f"{len(self):06d}"
        with writing(self._partial):
            if self._training and frame.depth is not None:
                np.savez_compressed(self._partial / f"{name}.npz", image=frame.image, depth=frame.depth)
            else:
                self._write_image(self._partial / "images" / name, cv2.cvtColor(frame.image, cv2.COLOR_RGB2BGR))
                if frame.depth is not None:
                    _write_png(self._partial / "depth" / f"{name}.png", frame.depth)
        self._poses.append(np.ravel(frame.world_T_cam))
        self._stamps_ns.append(frame.stamp_ns)

    def finish(self, K: np.ndarray, record: dict[str, Any], valid_mask: np.ndarray | None = None) -> None:
        """Write what belongs to the whole scene and move it to its place.

        Args:
            K: (3, 3) intrinsics.
            record: what to remember of how it was made.
            valid_mask: (H, W) bool, the pixels that the lens shows; None for all.

        Raises:
            OutputError: if it cannot be written.
        """
        with writing(self._partial):
            with suppress(OSError):  # where no frame has depth
                (self._partial / "depth").rmdir()
            np.savetxt(self._partial / "poses.txt", np.array(self._poses), fmt=self._pose_format)
            np.savetxt(self._partial / "K.txt", K)
            if self.has_stamps:
                lines = (f"{stamp // SECOND_NS}.{stamp % SECOND_NS:09d}\n" for stamp in self._stamps_ns)
                (self._partial / "stamps.txt").write_text("".join(lines))
            if valid_mask is not None and not self._training:
                _write_png(self._partial / MASK, np.where(valid_mask, np.uint8(255), np.uint8(0)))
            (self._partial / RECORD).write_text(json.dumps(record, indent=1) + "\n")
            if os.path.lexists(self.path):
                raise OutputError(f"{self.path} was finished by another export meanwhile, and stays as it is")
            os.replace(self._partial, self.path)
        self._writers.close()

    def _write_image(self, stem: Path, image: np.ndarray) -> None:
        if self._jpeg_quality is None:
            _write_png(stem.with_suffix(".png"), image)
        else:
            stem.with_suffix(".jpg").write_bytes(
                cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, self._jpeg_quality])[1].data
            )

    @property
    def has_stamps(self) -> bool:
        """Whether times go with the scene: not to train with, nor unless all are positive and increase."""
        stamps_ns = [0, *self._stamps_ns]
        if self._training or None in stamps_ns:
            return False
        return all(a < b for a, b in zip(stamps_ns, stamps_ns[1:], strict=False))

    def discard(self) -> None:
        """Remove what was written so far."""
        shutil.rmtree(self._partial, ignore_errors=True)
        self._writers.close()


def read_record(path: Path) -> dict[str, Any] | None:
    """Return how a finished scene was made, or None if there is no folder.

    Raises:
        DataError: if the folder was not made by an import.
    """
    if not path.exists():
        return None
    with foreign(
        f"{path} is in the way: it was not made by an export (no {RECORD})", advice=". Move it or name another OUT"
    ):
        return dict(json.loads(regular(path / RECORD).read_text()))


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the operating system says against writing into one clear line.

    Raises:
        OutputError: instead of OSError.
    """
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        advice = "Free some space and run it again: finished scenes are kept" if full else "Name another OUT"
        raise OutputError(f"{path} cannot be written: {error.strerror or error}. {advice}") from error


def _write_png(path: Path, image: np.ndarray) -> None:
    """Encoded in memory first: OpenCV's own writer does not say why it failed, or that it did."""
    path.write_bytes(cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, PNG_COMPRESSION])[1].data)
