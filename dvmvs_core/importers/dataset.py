# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What every recording is for an import: a data set of scenes, which yield frames; and scenes of single image files."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dvmvs_core.data.scene_folder import read_image
from dvmvs_core.errors import DataError
from dvmvs_core.foreign import foreign
from dvmvs_core.importers.files import read_raw_depth


@dataclass(frozen=True, eq=False)
class ImportedFrame:
    """One frame, ready to be written.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        depth: (H, W) uint16 millimetres of the same camera, 0 = invalid; None where there is none.
        world_T_cam: (4, 4) pose; NaN or infinity where tracking is lost.
        stamp_ns: time of the image, or None if the data set has none.
        name: which one, in the words of the data set.
        no_depth: why there is no depth; empty where none was recorded at all.
    """

    image: np.ndarray
    depth: np.ndarray | None
    world_T_cam: np.ndarray
    stamp_ns: int | None = None
    name: str = ""
    no_depth: str = ""


@dataclass(frozen=True)
class SkippedFrame:
    """A frame, or several for one reason, that cannot be imported.

    Attributes:
        name: which one, in the words of the data set.
        reason: what is wrong with it.
        count: how many frames this stands for.
    """

    name: str
    reason: str
    count: int = 1


@dataclass(frozen=True)
class SceneInput:
    """Where a scene lies.

    Attributes:
        name: name of the folder to write.
        path: folder, file or prefix of files to read.
    """

    name: str
    path: Path


class Scene(ABC):
    """A scene of a data set, read frame by frame.

    Attributes:
        K: (3, 3) intrinsics of every frame that it yields.
        valid_mask: (H, W) bool, the pixels that were in view of the lens in every frame so far; None for all.
    """

    K: np.ndarray
    valid_mask: np.ndarray | None = None

    @abstractmethod
    def __len__(self) -> int:
        """Return how many frames there should be."""

    @abstractmethod
    def frames(self, step: int) -> Iterator[ImportedFrame | SkippedFrame]:
        """Yield every step-th frame, or why there is none, in order of time."""


class Dataset(ABC):
    """How one data set is laid out and converted; small, since it travels to worker processes.

    Attributes:
        title: its name in messages.
        published: convert as the published scripts do.
        options: what can be chosen for this data set.
        published_pose_format: of each number in the poses.txt of a published export; by default numpy's own.
    """

    title: str
    published: bool
    options: object
    published_pose_format = "%.18e"

    @abstractmethod
    def find(self, root: Path) -> list[SceneInput]:
        """Return the scenes under a folder, sorted by name.

        Raises:
            DataError: if there is none, saying what was looked for.
        """

    @abstractmethod
    def open(self, scene: SceneInput) -> Scene:
        """Open a scene.

        Raises:
            DataError: if a part is missing or broken, other than single frames.
        """


@dataclass(frozen=True, eq=False)
class FrameFiles:
    """The files of one frame.

    Attributes:
        image: 8-bit colour image.
        depth: depth image in the unit of the data set; None where there is none.
        world_T_cam: (4, 4) pose; NaN or infinity where tracking is lost.
        stamp_ns: time of the image, or None.
        no_depth: why there is no depth image.
    """

    image: Path
    depth: Path | None
    world_T_cam: np.ndarray
    stamp_ns: int | None = None
    no_depth: str = ""


class FileScene(Scene):
    """Reads the files of each frame and converts them.

    Args:
        K: (3, 3) intrinsics after conversion.
        frames: the frames and those already known to be incomplete, in order of time.
        convert_depth: raw depth image → (H, W) uint16 millimetres.
        convert_image: RGB image → RGB image.
        in_view: size (H, W) of an image → (H, W) bool, what the lens shows after conversion; None for all.
    """

    def __init__(
        self,
        K: np.ndarray,
        frames: list[FrameFiles | SkippedFrame],
        convert_depth: Callable[[np.ndarray], np.ndarray],
        convert_image: Callable[[np.ndarray], np.ndarray] = lambda image: image,
        in_view: Callable[[tuple[int, int]], np.ndarray | None] = lambda size: None,
    ) -> None:
        self.K = K
        self._frames = frames
        self._convert_depth = convert_depth
        self._convert_image = convert_image
        self._in_view = in_view

    def __len__(self) -> int:
        """Return the number of frames, incomplete ones included."""
        return len(self._frames)

    def frames(self, step: int) -> Iterator[ImportedFrame | SkippedFrame]:
        """Yield every step-th frame; one whose image cannot be read is skipped."""
        for files in self._frames[::step]:
            if isinstance(files, SkippedFrame):
                yield files
                continue
            try:
                with foreign(f"{files.image} cannot be converted"):
                    image = self._convert_image(read_image(files.image))
            except DataError as error:
                yield SkippedFrame(files.image.name, str(error))
                continue
            depth, no_depth = self._depth(files, image)
            self.valid_mask = self._in_view(image.shape[:2]) if self.valid_mask is None else self.valid_mask
            yield ImportedFrame(image, depth, files.world_T_cam, files.stamp_ns, files.image.name, no_depth)

    def _depth(self, files: FrameFiles, image: np.ndarray) -> tuple[np.ndarray | None, str]:
        """The depth of a frame, or None and why there is none: the frame still serves for prediction."""
        if files.depth is None:
            return None, files.no_depth
        try:
            with foreign(f"{files.depth} cannot be converted"):
                depth = self._convert_depth(read_raw_depth(files.depth))
            if depth.shape != image.shape[:2]:
                raise DataError(f"depth is {_size(depth)} and its image {_size(image)}: not one camera")
        except DataError as error:
            return None, str(error)
        return depth, ""


def numbered(folder: Path, pattern: str) -> dict[int, Path]:
    """Return number → file for the files of a folder whose whole name matches; the first group is the number."""
    matches = ((re.fullmatch(pattern, path.name), path) for path in sorted(folder.iterdir()))
    return {int(match[1]): path for match, path in matches if match}


def _size(image: np.ndarray) -> str:
    return f"{image.shape[1]}×{image.shape[0]}"
