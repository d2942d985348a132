# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""One interface over everything that a recording can be: a scene folder or a rosbag2.

A sequence streams: one frame at a time is in memory, and every pass reads the recording again.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dvmvs_core.data.lens.camera_info import Lens
from dvmvs_core.types import Frame

SENSOR_DEPTH, TRUE_DEPTH = "sensor depth", "true depth"
"""What a person calls the depth of a recording: a sensor's measurement, or exact depth of rendered images."""


@dataclass(frozen=True, eq=False)
class PoseItem:
    """Where the camera was for one image of a sequence.

    Attributes:
        index: position of the image in the sequence, from 0.
        name: file name of the image; made up from the index where images have no files.
        stamp_ns: its time.
        world_T_cam: (4, 4) float64 pose; NaN or infinity where tracking is lost.
    """

    index: int
    name: str
    stamp_ns: int
    world_T_cam: np.ndarray


@dataclass(frozen=True, eq=False)
class DepthItem:
    """What the depth sensor saw at one image of a sequence.

    Attributes:
        index: position of the image in the sequence.
        K: (3, 3) float64 intrinsics of the depth image, which are those of the colour image.
        sensor_depth: (H, W) float32 metres, 0 = invalid.
    """

    index: int
    K: np.ndarray
    sensor_depth: np.ndarray


@dataclass(frozen=True, eq=False)
class SequenceItem:
    """One frame of a sequence.

    Attributes:
        frame: image, intrinsics, pose and stamp; `frame.index` is its position in the sequence.
        name: file name of the image; made up from the index where images have no files.
        sensor_depth: (H, W) float32 metres, 0 = invalid; None if there is none for this frame.
        lens: what rectifying image and depth still takes, where they were asked for as recorded; otherwise None.
        valid_mask: (H, W) bool, which pixels of the image show the scene, by lens and mask; None for all of them. The
            others get no depth; what a sensor measured there stays.
    """

    frame: Frame
    name: str
    sensor_depth: np.ndarray | None
    lens: Lens | None = None
    valid_mask: np.ndarray | None = None


class FrameSequence(ABC):
    """A recording of posed images, in the order of their stamps.

    Attributes:
        path: where it is stored.
        name: a short name for tables and files.
        has_depth: whether sensor depth comes with it.
        depth_name: `SENSOR_DEPTH`, or `TRUE_DEPTH` of rendered images.
        notes: sentences about what is wrong with the recording without making it useless.
        dropped: reason → number of images that the newest pass left out.
        faults: name of a file or line that could not be used and was left out, in any pass so far → what is wrong.
        unreadable: indices of the images among them.
    """

    def __init__(self, path: Path, has_depth: bool) -> None:
        self.path = path
        self.name = path.name if path.is_dir() else path.stem
        self.has_depth = has_depth
        self.depth_name = SENSOR_DEPTH
        self.notes: list[str] = []
        self.dropped: Counter[str] = Counter()
        self.faults: dict[str, str] = {}
        self.unreadable: set[int] = set()

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of images stored; as many items come out, less those counted in `dropped`."""

    @abstractmethod
    def poses(self) -> Iterator[PoseItem]:
        """Yield the poses without reading any pixel.

        Raises:
            DataError: if the recording is broken.
        """

    @abstractmethod
    def items(self, depth: bool = True) -> Iterator[SequenceItem]:
        """Yield the frames.

        Args:
            depth: read sensor depth too, where there is any.

        Raises:
            DataError: if the recording is broken.
        """

    def fitted(self, size: tuple[int, int], crop: bool) -> FrameSequence:
        """Return the sequence as a network takes it: raw images of a camera with a lens come rectified at its size.

        Rectifying and resizing by one look-up is what the node does, so that both see the same pixels.

        Args:
            size: (h, w) of the network.
            crop: keep the aspect ratio, as `Preprocessor` does.
        """
        return self

    @abstractmethod
    def sensor_depths(self, indices: Collection[int]) -> Iterator[DepthItem]:
        """Yield the sensor depth of the images with these indices, less those that have none.

        Raises:
            DataError: if the recording is broken.
        """
