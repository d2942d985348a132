# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.


"""Pairs of images with points that both see, and how far the points lie from where poses allow them.

A point seen at x_a by a camera with b_T_a = (R, t) is seen, whatever its depth d, on the half-line that begins at
R x_a (d = ∞) and goes on as t / d grows. Its distance from there does not depend on the scale of t; it does tell t from
-t, and without translation only the beginning of the half-line is left.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import cv2
import numpy as np

from dvmvs_core.evaluation.trajectory.image_tracks import Tracks
from dvmvs_core.evaluation.trajectory.pose_track import PoseTrack

MIN_POINTS = 15
"""Points that both images of a pair must see."""

CONSISTENT_PX = 1.5
"""Distance from an epipolar line above which a point is a false match."""

MIN_CONSISTENT = 0.5
"""Share of the points of a pair that must not be false matches."""

OUTLIER_PX = 2.0
"""Distance at which a point counts half: points on moving things and false matches lie far beyond."""

RESAMPLINGS = 200
"""Of the bootstrap over stretches of the recording: pairs of images of one stretch share their errors."""

NO_TRANSLATION = 1e-9
"""Directions shorter than this, in units of the poses, are none."""


@dataclass(frozen=True, eq=False)
class ViewPairs:
    """P pairs of images and N points of each.

    Attributes:
        stretch: (P,) which stretch a pair is from; pairs of one are not independent.
        frame_index: (P, 2) positions of the images in the sequence.
        stamps_s: (P, 2) their times, seconds from the first pose on.
        rays: (2, P, N, 2) the points at depth 1 in the earlier and the later camera; NaN where not seen.
        sensor_depth: (P, N) their sensor depth in the earlier camera, metres; NaN where unknown.
        focal_px: pixels per unit of `rays`.
    """

    stretch: np.ndarray
    frame_index: np.ndarray
    stamps_s: np.ndarray
    rays: np.ndarray
    sensor_depth: np.ndarray
    focal_px: float

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.stretch)

    def relative_poses(self, poses: PoseTrack, offset_s: float = 0.0) -> np.ndarray:
        """Return b_T_a (P, 4, 4) with poses taken so much later than the images' stamps; NaN where there is none."""
        a, b = (poses.at(stamps + offset_s) for stamps in self.stamps_s.T)
        return np.linalg.inv(b) @ a

    def subset(self, chosen: np.ndarray) -> ViewPairs:
        """Return some of the pairs."""
        rows = {name: getattr(self, name)[chosen] for name in ("stretch", "frame_index", "stamps_s", "sensor_depth")}
        return dataclasses.replace(self, rays=self.rays[:, chosen], **rows)

    def thinned(self, every: int) -> ViewPairs:
        """Return all pairs with every n-th of their points."""
        return dataclasses.replace(self, rays=self.rays[:, :, ::every], sensor_depth=self.sensor_depth[:, ::every])

    def distances_px(self, b_T_a: np.ndarray, focal_factor: float = 1.0) -> np.ndarray:
        """Return how far the points are from where relative poses allow them.

        Args:
            b_T_a: (P, 4, 4).
            focal_factor: what the focal length is multiplied by.

        Returns:
            (P, N) pixels; NaN where a point or the pose is unknown.
        """
        x_a, x_b = self.rays / focal_factor
        turned = np.concatenate((x_a, np.ones_like(x_a[..., :1])), -1) @ b_T_a[:, :3, :3].transpose(0, 2, 1)
        t = b_T_a[:, None, :3, 3]
        with np.errstate(invalid="ignore", divide="ignore"):
            far = turned[..., :2] / turned[..., 2:]
            way = t[..., :2] - far * t[..., 2:]
            length = np.linalg.norm(way, axis=-1)
            way = np.where(length[..., None] > NO_TRANSLATION, way / length[..., None], 0.0)
            offset = x_b - far
            along = (offset * way).sum(-1)
            across = offset[..., 0] * way[..., 1] - offset[..., 1] * way[..., 0]
            whole = np.linalg.norm(offset, axis=-1)
            distance = np.where(along > 0, np.abs(across), whole)
        # What lies behind the later camera should not be seen there at all.
        distance = np.where(turned[..., 2] > 0, distance, np.where(np.isnan(distance), np.nan, 1.0))
        return distance * self.focal_px * focal_factor

    def parallax_px(self, b_T_a: np.ndarray, focal_factor: float = 1.0) -> np.ndarray:
        """Return how far the points are from where infinitely distant ones would be; otherwise as `distances_px`."""
        turned = b_T_a.copy()
        turned[:, :3, 3] = 0
        return self.distances_px(turned, focal_factor)


def robust_cost(pairs: ViewPairs, b_T_a: np.ndarray, focal_factor: float = 1.0) -> np.ndarray:
    """Return for each pair (P,) how badly its relative pose explains it, from 0 to 1; arguments as `distances_px`."""
    return np.where(np.isfinite(b_T_a[:, 0, 0]), outlier_cost(pairs.distances_px(b_T_a, focal_factor)), np.nan)


def outlier_cost(distances_px: np.ndarray) -> np.ndarray:
    """Return the mean of d² / (d² + `OUTLIER_PX`²) over the known ones of distances (P, N) (Geman and McClure)."""
    squared = distances_px**2
    known = np.isfinite(squared)
    costs = np.where(known, squared / (squared + OUTLIER_PX**2), 0.0).sum(axis=1)
    return costs / np.maximum(known.sum(axis=1), 1)


def resampled(stretch: np.ndarray) -> np.ndarray:
    """Return how often each pair counts in random choices, with replacement, of as many stretches as there are.

    Args:
        stretch: (P,) which stretch each pair is from.

    Returns:
        (B, P) whole numbers; the same at every call.
    """
    names, group = np.unique(stretch, return_inverse=True)
    chosen = np.random.default_rng(0).integers(0, len(names), (RESAMPLINGS, len(names)))
    return np.array([np.bincount(row, minlength=len(names)) for row in chosen])[:, group]


def refined_minimum(values: np.ndarray, costs: np.ndarray) -> float:
    """Return where the parabola through the least of evenly spaced costs (N,) and its neighbours is lowest."""
    at = int(np.argmin(costs))
    if not 0 < at < len(values) - 1:
        return float(values[at])
    before, here, after = costs[at - 1 : at + 2]
    bend = before - 2 * here + after
    return float(values[at] + (0.5 * (before - after) / bend if bend > 0 else 0.0) * (values[at + 1] - values[at]))


def neighbours(tracks: Tracks, poses: PoseTrack) -> ViewPairs:
    """Return the pairs of consecutive images."""
    length = tracks.rays.shape[1]
    return _consistent(_pairs(tracks, poses, [(i, i + 1) for i in range(length - 1)]))


def wide_pairs(tracks: Tracks, poses: PoseTrack) -> ViewPairs:
    """Return the pairs with the most motion: of each stretch its first, middle and last images."""
    ends = (tracks.frame_index >= 0).sum(axis=1) - 1
    return _consistent(_pairs(tracks, poses, [(0, ends), (0, ends // 2), (ends // 2, ends)]))


def _consistent(pairs: ViewPairs) -> ViewPairs:
    """Leave out points that agree with no epipolar geometry at all, whatever K and the poses are: false matches.

    Pairs of which most points or all but a few are such show nothing in common, and are left out whole.
    """
    rays = pairs.rays.copy()
    common = np.zeros(len(pairs), bool)
    for pair in range(len(pairs)):
        both = np.flatnonzero(np.isfinite(rays[:, pair]).all(axis=(0, 2)))
        cv2.setRNGSeed(pair)
        _, inlier = cv2.findFundamentalMat(
            *(rays[:, pair, both] * pairs.focal_px), cv2.FM_RANSAC, CONSISTENT_PX, 0.999, 1000
        )
        if inlier is not None:
            rays[:, pair, both[inlier[:, 0] == 0]] = np.nan
            common[pair] = inlier.sum() >= max(MIN_POINTS, MIN_CONSISTENT * len(both))
    return dataclasses.replace(pairs, rays=rays).subset(common)


def _pairs(tracks: Tracks, poses: PoseTrack, places: list[tuple]) -> ViewPairs:
    stretches = len(tracks.frame_index)
    stretch = np.tile(np.arange(stretches), len(places))
    first, last = (np.ravel([np.broadcast_to(end, stretches) for end in ends]) for ends in zip(*places, strict=True))
    stamps_s = poses.stamps_of(tracks.frame_index)
    pairs = ViewPairs(
        stretch,
        np.stack((tracks.frame_index[stretch, first], tracks.frame_index[stretch, last]), -1),
        np.stack((stamps_s[stretch, first], stamps_s[stretch, last]), -1),
        np.stack((tracks.rays[stretch, first], tracks.rays[stretch, last])),
        np.where((first == 0)[:, None], tracks.sensor_depth[stretch], np.nan),
        tracks.focal_px,
    )
    both = np.isfinite(pairs.rays).all(axis=(0, 3)).sum(axis=1)
    usable = (both >= MIN_POINTS) & np.isfinite(pairs.stamps_s).all(axis=1)
    usable &= pairs.frame_index[:, 0] != pairs.frame_index[:, 1]
    usable &= np.isin(np.arange(len(pairs)), np.unique(pairs.frame_index, axis=0, return_index=True)[1])
    return pairs.subset(usable)
