# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""How well poses explain the motion of points in the images, and at which shift of time they do so best.

For a point seen at x_a and x_b by cameras with b_T_a = (R, t), E = [t]× R and x_bᵀ E x_a = 0 whatever its depth.
The Sampson distance turns what is left into pixels. It does not depend on the scale of t, so that a wrong clock
and a wrong scale are told apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dvmvs_core.evaluation.image_tracks import Tracks
from dvmvs_core.evaluation.pose_track import PoseTrack

LARGEST_OFFSET_MS = 300
COARSE_MS, FINE_MS = 20, 4

OUTLIER_PX = 1.0
"""Distance at which a point counts half; points on moving things and false matches lie far beyond."""

NO_TRANSLATION = 1e-6
"""Shorter translations than this, in the units of the poses, have no direction."""

PARTS = 4
"""Parts of the sequence that must agree about an offset."""

FEWEST_POINTS = 60
"""Pairs of points that say anything."""

FEWEST_OF_A_PAIR = 15
"""The same of two images."""


@dataclass(frozen=True)
class TimeOffset:
    """The shift of time at which poses agree best with the images.

    Attributes:
        offset_s: add this to an image's stamp to find its pose, seconds: positive if poses are stamped too late.
        spread_s: how far parts of the sequence disagree about it (standard error), seconds.
        residual_px: median distance of points from where the poses allow them, at that offset, pixels.
        residual_at_zero_px: the same as recorded.
    """

    offset_s: float
    spread_s: float
    residual_px: float
    residual_at_zero_px: float


def estimate_time_offset(tracks: Tracks, poses: PoseTrack) -> TimeOffset | None:
    """Find the offset between images and poses.

    Args:
        tracks: points of the images.
        poses: the camera's pose over time.

    Returns:
        The offset, or None where too few points can be compared.
    """
    pairs = _Pairs(tracks, poses)
    if pairs.count < FEWEST_POINTS:
        return None
    offset_s = pairs.best_offset_s(slice(None))
    parts = [pairs.best_offset_s(slice(part, None, PARTS)) for part in range(PARTS)]
    spread_s = float(np.std(parts) / np.sqrt(PARTS - 1))
    return TimeOffset(
        offset_s,
        spread_s,
        float(np.nanmedian(pairs.distances_px(offset_s))),
        float(np.nanmedian(pairs.distances_px(0.0))),
    )


def residuals_px(tracks: Tracks, poses: PoseTrack) -> tuple[np.ndarray, np.ndarray]:
    """Measure how far the poses are from explaining the motion from each image to the next, as they are recorded.

    Args:
        tracks: points of the images.
        poses: the camera's pose over time.

    Returns:
        (P,) positions of the later images in the sequence, and (P,) median distances of their points from where the
        poses allow them, pixels; pairs with too few points are left out.
    """
    distances = _Pairs(tracks, poses).distances_px(0.0)
    known = np.isfinite(distances).sum(axis=1) >= FEWEST_OF_A_PAIR
    return tracks.frame_index[:, 1:].ravel()[known], np.nanmedian(distances[known], axis=1)


class _Pairs:
    """Consecutive frames with the points that both see."""

    def __init__(self, tracks: Tracks, poses: PoseTrack) -> None:
        self._poses = poses
        self._focal_px = tracks.focal_px
        length, points = tracks.rays.shape[1:3]
        stamps_s = poses.stamps_of(tracks.frame_index)
        self._stamps = [stamps_s[:, i : i + length - 1].ravel() for i in (0, 1)]
        self._rays = [tracks.rays[:, i : i + length - 1].reshape(-1, points, 2) for i in (0, 1)]
        self.count = int(np.isfinite(self._rays[1]).all(axis=-1).sum())

    def best_offset_s(self, part: slice) -> float:
        """The offset with the least cost, first in coarse steps, then in fine ones, then between them."""
        coarse = np.arange(-LARGEST_OFFSET_MS, LARGEST_OFFSET_MS + 1, COARSE_MS) / 1000
        centre = coarse[np.argmin([self._cost(offset, part) for offset in coarse])]
        fine = centre + np.arange(-COARSE_MS, COARSE_MS + 1, FINE_MS) / 1000
        costs = np.array([self._cost(offset, part) for offset in fine])
        best = int(np.argmin(costs))
        if not 0 < best < len(fine) - 1:
            return float(fine[best])
        before, at, after = costs[best - 1 : best + 2]
        bend = before - 2 * at + after
        return float(fine[best] + (0.5 * (before - after) / bend if bend > 0 else 0.0) * FINE_MS / 1000)

    def distances_px(self, offset_s: float, part: slice = slice(None)) -> np.ndarray:
        """(P, N) distances of the points from where the poses at an offset allow them; NaN where unknown."""
        a, b = (self._poses.at(stamps[part] + offset_s) for stamps in self._stamps)
        b_T_a = np.linalg.inv(b) @ a
        t = b_T_a[:, :3, 3]
        zero = np.zeros(len(t))
        cross = np.stack((zero, -t[:, 2], t[:, 1], t[:, 2], zero, -t[:, 0], -t[:, 1], t[:, 0], zero), -1)
        E = cross.reshape(-1, 3, 3) @ b_T_a[:, :3, :3]
        x_a, x_b = (np.concatenate((r[part], np.ones_like(r[part][..., :1])), -1) for r in self._rays)
        line_b, line_a = x_a @ E.transpose(0, 2, 1), x_b @ E
        slope = np.sqrt((line_a[..., :2] ** 2).sum(-1) + (line_b[..., :2] ** 2).sum(-1))
        turned = x_a @ b_T_a[:, :3, :3].transpose(0, 2, 1)
        with np.errstate(invalid="ignore", divide="ignore"):
            distances = np.abs((x_b * line_b).sum(-1)) / slope
            # Without translation there is no line, but one place where each point must be.
            beside = np.linalg.norm(turned[..., :2] / turned[..., 2:] - x_b[..., :2], axis=-1)
        still = np.linalg.norm(t, axis=-1, keepdims=True) < NO_TRANSLATION
        return np.where(still, beside, distances) * self._focal_px

    def _cost(self, offset_s: float, part: slice) -> float:
        squared = self.distances_px(offset_s, part) ** 2
        known = np.isfinite(squared)
        if not known.any():
            return 1.0
        return float((squared[known] / (squared[known] + OUTLIER_PX**2)).mean())
