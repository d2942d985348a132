# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Points followed through short stretches of a sequence: what the images themselves say about motion."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from dvmvs_core.data.sequence import Sequence, SequenceItem

STRETCH = 6
"""Frames that points are followed through."""

STRETCHES = 40
"""How many stretches are looked at, spread evenly over the sequence."""

POINTS = 150
"""Points that each stretch starts with at most."""

WIDTH = 480
"""Images are made this wide at most before points are looked for."""

WINDOW = {"winSize": (15, 15), "maxLevel": 4}

RETURN_ERROR = 0.7
"""Pixels that a point followed forth and back may come to lie beside where it was."""


@dataclass(frozen=True, eq=False)
class Tracks:
    """Points seen in consecutive frames.

    Attributes:
        frame_index: (S, L) positions of the frames in the sequence, of S stretches of L frames.
        rays: (S, L, N, 2) x and y of the points at depth 1 in camera coordinates; NaN where lost.
        sensor_depth: (S, N) sensor depth of the points in the first frame, metres; NaN where there is none.
        focal_px: mean focal length at the size that points were followed at: pixels per unit of `rays`.
    """

    frame_index: np.ndarray
    rays: np.ndarray
    sensor_depth: np.ndarray
    focal_px: float


def follow_points(sequence: Sequence, advance: Callable[[int], None] | None = None) -> Tracks | None:
    """Follow points through a sequence; one image at a time is in memory.

    Args:
        sequence: the images.
        advance: called with 1 after each frame.

    Returns:
        The tracks, or None where no stretch of the sequence has points to follow.

    Raises:
        DataError: if the recording is broken.
    """
    every = max(STRETCH, len(sequence) // STRETCHES)
    stretches: list[_Stretch] = []
    current: _Stretch | None = None
    for number, item in enumerate(sequence.items(depth=sequence.has_depth)):
        if number % every == 0:
            current = _Stretch(item)
        elif current is not None:
            current.follow(item)
        if current is not None and len(current.frames) == STRETCH:
            if np.isfinite(current.rays[-1]).any():
                stretches.append(current)
            current = None
        if advance:
            advance(1)
    if not stretches:
        return None
    return Tracks(
        np.array([stretch.frames for stretch in stretches]),
        np.array([stretch.rays for stretch in stretches]),
        np.array([stretch.sensor_depth for stretch in stretches]),
        float(np.mean([stretch.focal_px for stretch in stretches])),
    )


class _Stretch:
    """Points of one frame, followed through those after it."""

    def __init__(self, item: SequenceItem) -> None:
        self.frames = [item.frame.index]
        self._grey, scale = _small_grey(item.frame.image)
        self.focal_px = float(item.frame.K[0, 0] + item.frame.K[1, 1]) / 2 * scale
        corners = cv2.goodFeaturesToTrack(self._grey, POINTS, 0.01, 8)
        self._points = np.full((POINTS, 2), np.nan, np.float32)
        if corners is not None:
            self._points[: len(corners)] = corners[:, 0]
        self.rays = [_rays(self._points, item.frame.K, scale)]
        self.sensor_depth = _depth_at(item.sensor_depth, self._points, scale)

    def follow(self, item: SequenceItem) -> None:
        """Go on to the next frame."""
        grey, scale = _small_grey(item.frame.image)
        alive = np.flatnonzero(np.isfinite(self._points[:, 0]))
        followed = np.full_like(self._points, np.nan)
        if len(alive) and grey.shape == self._grey.shape:
            before = self._points[alive]
            after, found, _ = cv2.calcOpticalFlowPyrLK(self._grey, grey, before, None, **WINDOW)
            back, found_back, _ = cv2.calcOpticalFlowPyrLK(grey, self._grey, after, None, **WINDOW)
            good = (found[:, 0] == 1) & (found_back[:, 0] == 1)
            good &= np.linalg.norm(back - before, axis=1) < RETURN_ERROR
            followed[alive[good]] = after[good]
        self._grey, self._points = grey, followed
        self.frames.append(item.frame.index)
        self.rays.append(_rays(followed, item.frame.K, scale))


def _small_grey(image: np.ndarray) -> tuple[np.ndarray, float]:
    """The grey image, at most `WIDTH` wide, and the scale from the image to it."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    scale = min(1.0, WIDTH / grey.shape[1])
    if scale < 1.0:
        size = (WIDTH, round(grey.shape[0] * scale))
        grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    return grey, scale


def _full_size(points: np.ndarray, scale: float) -> np.ndarray:
    """Points of the small image in pixels of the image; (0, 0) is the centre of the first pixel of both."""
    return (points + 0.5) / scale - 0.5


def _rays(points: np.ndarray, K: np.ndarray, scale: float) -> np.ndarray:
    return (_full_size(points.astype(np.float64), scale) - K[:2, 2]) / (K[0, 0], K[1, 1])


def _depth_at(depth: np.ndarray | None, points: np.ndarray, scale: float) -> np.ndarray:
    found = np.full(len(points), np.nan)
    if depth is None:
        return found
    alive = np.flatnonzero(np.isfinite(points[:, 0]))
    column, row = np.rint(_full_size(points[alive], scale)).astype(int).T
    found[alive] = depth[row.clip(0, depth.shape[0] - 1), column.clip(0, depth.shape[1] - 1)]
    found[found <= 0] = np.nan
    return found
