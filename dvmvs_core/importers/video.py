# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.


"""The frames of a video, one in memory at a time, in the order of time."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from dvmvs_core.data.encodings.image_size import MAX_IMAGE_PIXELS
from dvmvs_core.errors import DataError
from dvmvs_core.foreign import foreign


class Video:
    """A video file; pixels are as stored, whatever rotation a player would show them with.

    Args:
        path: the file.

    Raises:
        DataError: if it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._capture: cv2.VideoCapture | None = None
        self._next = 0
        self._open().release()

    def times_ns(self) -> np.ndarray:
        """Return the time of each frame (n,) from the first on, nanoseconds; those at which it goes back are an error.

        Raises:
            DataError: if there is no frame.
        """
        capture, times = self._open(), []
        rate = capture.get(cv2.CAP_PROP_FPS)
        while capture.grab():
            times.append(capture.get(cv2.CAP_PROP_POS_MSEC))
        capture.release()
        if not times:
            raise DataError(f"{self.path} holds no frame that can be decoded")
        times_ns = np.rint((np.array(times) - times[0]) * 1e6).astype(np.int64)
        if (np.diff(times_ns) <= 0).any():  # containers without times of their own
            if not 0 < rate < 1000:
                raise DataError(f"{self.path} says neither the times of its frames nor how many a second it has")
            times_ns = np.rint(np.arange(len(times)) * 1e9 / rate).astype(np.int64)
        return times_ns

    def frame(self, number: int) -> np.ndarray:
        """Return a frame (H, W, 3) uint8 RGB by its number from 0; going on costs nothing, going back starts over.

        Raises:
            DataError: if the video ends before it.
        """
        if self._capture is None or number < self._next:
            self._capture, self._next = self._open(), 0
        while self._next < number:
            self._grab()
        self._grab()
        with foreign(f"frame {number} of {self.path} cannot be decoded"):
            good, image = self._capture.retrieve()
            if not good:
                raise DataError(f"frame {number} of {self.path} cannot be decoded")
            return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)

    def _grab(self) -> None:
        if not self._capture.grab():
            raise DataError(f"{self.path} ends after {self._next} frames")
        self._next += 1

    def _open(self) -> cv2.VideoCapture:
        if not self.path.is_file():
            raise DataError(f"{self.path} does not exist; it must be a video")
        with foreign(f"{self.path} cannot be opened as a video"):
            capture = cv2.VideoCapture(str(self.path), cv2.CAP_FFMPEG)
            capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)
        width, height = (capture.get(part) for part in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        if not capture.isOpened() or not 0 < width * height <= MAX_IMAGE_PIXELS:
            raise DataError(f"{self.path} cannot be opened as a video: it is cut off, or of an unknown format")
        return capture
