# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What flows from a data set to the writer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dvmvs_core.exporters.export_options import DatasetOptions


@dataclass(frozen=True, eq=False)
class ExportFrame:
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
    """A frame, or several for one reason, that cannot be exported.

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
    def frames(self, step: int) -> Iterator[ExportFrame | SkippedFrame]:
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
    options: DatasetOptions
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
