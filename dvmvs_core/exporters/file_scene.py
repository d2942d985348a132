# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""A scene whose frames are single image files, as in every data set but ScanNet."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from dvmvs_core.data.scene_folder import decode_image, read_image
from dvmvs_core.errors import DataError
from dvmvs_core.exporters.raw_frames import ExportFrame, Scene, SkippedFrame
from dvmvs_core.foreign import foreign


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

    def frames(self, step: int) -> Iterator[ExportFrame | SkippedFrame]:
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
            yield ExportFrame(image, depth, files.world_T_cam, files.stamp_ns, files.image.name, no_depth)

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


def read_raw_depth(path: Path) -> np.ndarray:
    """Read a one-channel depth image (H, W) in whatever unit and type it is stored.

    Raises:
        DataError: if it is missing, cut off, or has several channels.
    """
    depth = decode_image(path, cv2.IMREAD_UNCHANGED, "a depth image")
    if depth.ndim != 2 or depth.dtype == np.uint8:
        raise DataError(f"{path} must be a 16-bit image of one channel; got {depth.dtype} of shape {depth.shape}")
    return depth


def numbered(folder: Path, pattern: str) -> dict[int, Path]:
    """Return number → file for the files of a folder whose whole name matches; the first group is the number."""
    matches = ((re.fullmatch(pattern, path.name), path) for path in sorted(folder.iterdir()))
    return {int(match[1]): path for match, path in matches if match}


def _size(image: np.ndarray) -> str:
    return f"{image.shape[1]}×{image.shape[0]}"
