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

from dvmvs_core.data.sequence import FrameSequence, SequenceItem

SHORTEST, LONGEST = 6, 60
"""Frames between the beginnings of two stretches at least, and of one stretch at most."""

STRETCHES = 40
"""How many stretches are begun, spread evenly over the sequence."""

FARTHEST = 0.2
"""A stretch ends where its points have moved so far, of the image's width: by then there is parallax, if ever."""

MIN_LEFT = 0.5
"""A stretch ends before so few of its points are left."""

POINTS = 150
"""Points that each stretch starts with at most."""

WIDTH = 480
"""Images are made this wide at most before points are looked for."""

WINDOW = {"winSize": (15, 15), "maxLevel": 4}

RATIO = 0.8
"""A descriptor's best match must be so much nearer than its second best (Lowe, 2004)."""

MIN_MATCHED = 15
"""Points that two images must have in common."""

RETURN_ERROR = 0.7
"""Largest distance in pixels between a point and where it is after being followed forth and back."""


@dataclass(frozen=True, eq=False)
class Tracks:
    """Points seen in consecutive frames.

    Attributes:
        frame_index: (S, L) positions of the frames in the sequence, of S stretches of up to L frames; -1 after the end
            of a shorter one.
        rays: (S, L, N, 2) x and y of the points at depth 1 in camera coordinates; NaN where lost or after the end.
        sensor_depth: (S, N) sensor depth of the points in the first frame, metres; NaN where there is none.
        focal_px: mean focal length at the size that points were followed at: pixels per unit of `rays`.
    """

    frame_index: np.ndarray
    rays: np.ndarray
    sensor_depth: np.ndarray
    focal_px: float


def follow_points(sequence: FrameSequence, advance: Callable[[int], None] | None = None) -> Tracks | None:
    """Follow points through a sequence; one image at a time is in memory.

    Args:
        sequence: the images.
        advance: called with 1 after each frame.

    Returns:
        The tracks, or None where no stretch of the sequence has points to follow.

    Raises:
        DataError: if the recording is broken.
    """
    every = max(SHORTEST, len(sequence) // STRETCHES)
    stretches: list[_Stretch] = []
    open_ones: list[_Stretch] = []
    for number, item in enumerate(sequence.items(depth=sequence.has_depth)):
        begins = number % every == 0
        if begins or open_ones or every == SHORTEST:
            grey, scale = _small_grey(item.frame.image)
            for stretch in open_ones:
                stretch.follow(item, grey, scale)
            open_ones = [stretch for stretch in open_ones if not stretch.ended]
            if begins or (every == SHORTEST and not open_ones):
                open_ones.append(_Stretch(item, grey, scale))
                stretches.append(open_ones[-1])
        if advance:
            advance(1)
    stretches = [stretch for stretch in stretches if len(stretch.frames) > 1]
    if not stretches:
        return None
    length = max(len(stretch.frames) for stretch in stretches)
    frame_index = np.full((len(stretches), length), -1)
    rays = np.full((len(stretches), length, POINTS, 2), np.nan)
    for number, stretch in enumerate(stretches):
        frame_index[number, : len(stretch.frames)] = stretch.frames
        rays[number, : len(stretch.frames)] = stretch.rays
    return Tracks(
        frame_index,
        rays,
        np.array([stretch.sensor_depth for stretch in stretches]),
        float(np.mean([stretch.focal_px for stretch in stretches])),
    )


class _Stretch:
    """Points of one frame, followed through those after it."""

    def __init__(self, item: SequenceItem, grey: np.ndarray, scale: float) -> None:
        self.frames = [item.frame.index]
        self._item = item
        self.ended = False
        self._grey = grey
        self.focal_px = float(item.frame.K[0, 0] + item.frame.K[1, 1]) / 2 * scale
        corners = cv2.goodFeaturesToTrack(self._grey, POINTS, 0.01, 8)
        self._points = np.full((POINTS, 2), np.nan, np.float32)
        if corners is not None:
            self._points[: len(corners)] = corners[:, 0]
        self._first = self._points
        self.rays = [_rays(self._points, item.frame.K, scale)]
        self.sensor_depth = _depth_at(item.sensor_depth, self._points, scale)

    def follow(self, item: SequenceItem, grey: np.ndarray, scale: float) -> None:
        """Go on to the next frame, or end before it where too few points are left."""
        alive = np.flatnonzero(np.isfinite(self._points[:, 0]))
        followed = np.full_like(self._points, np.nan)
        if len(alive) and grey.shape == self._grey.shape:
            before = self._points[alive]
            after, found, _ = cv2.calcOpticalFlowPyrLK(self._grey, grey, before, None, **WINDOW)
            back, found_back, _ = cv2.calcOpticalFlowPyrLK(grey, self._grey, after, None, **WINDOW)
            good = (found[:, 0] == 1) & (found_back[:, 0] == 1)
            good &= np.linalg.norm(back - before, axis=1) < RETURN_ERROR
            followed[alive[good]] = after[good]
        left = np.isfinite(followed[:, 0])
        few = left.sum() < MIN_LEFT * np.isfinite(self._first[:, 0]).sum()
        if few and len(self.frames) == 1:
            self._match(item, grey, scale)
        if few:
            self.ended = True
            return
        self._grey, self._points, self._item = grey, followed, item
        self.frames.append(item.frame.index)
        self.rays.append(_rays(followed, item.frame.K, scale))
        moved = np.median(np.linalg.norm((followed - self._first)[left], axis=1))
        self.ended = moved > FARTHEST * grey.shape[1] or len(self.frames) == LONGEST

    def _match(self, item: SequenceItem, grey: np.ndarray, scale: float) -> None:
        """Take points that are matched by descriptors, where they moved or turned too far to be followed."""
        before, after = matched_points(self._grey, grey)
        if len(before) < MIN_MATCHED or grey.shape != self._grey.shape:
            return
        points = np.full((2, POINTS, 2), np.nan, np.float32)
        points[0, : len(before)], points[1, : len(before)] = before, after
        first = self._item
        self.rays = [_rays(points[0], first.frame.K, scale), _rays(points[1], item.frame.K, scale)]
        self.sensor_depth = _depth_at(first.sensor_depth, points[0], scale)
        self.frames.append(item.frame.index)


def matched_points(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (N, 2) points of two grey images that are each other's best match by SIFT, at most `POINTS`."""
    sift = cv2.SIFT_create(4 * POINTS)
    (points_a, found_a), (points_b, found_b) = (sift.detectAndCompute(grey, None) for grey in (a, b))
    if found_a is None or found_b is None or min(len(found_a), len(found_b)) < 2:
        return np.empty((0, 2)), np.empty((0, 2))
    matcher = cv2.BFMatcher()
    back = {match.queryIdx: match.trainIdx for match in matcher.match(found_b, found_a)}
    good = [
        best
        for best, second in matcher.knnMatch(found_a, found_b, 2)
        if best.distance < RATIO * second.distance and back[best.trainIdx] == best.queryIdx
    ]
    good = sorted(good, key=lambda match: match.distance)[:POINTS]
    return (
        np.array([points_a[match.queryIdx].pt for match in good]).reshape(-1, 2),
        np.array([points_b[match.trainIdx].pt for match in good]).reshape(-1, 2),
    )


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
