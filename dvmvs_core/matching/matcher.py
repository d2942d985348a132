# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Depth of a keyframe, matched against past keyframes.

1. Prior: the median of the network's depth and its past predictions, splatted into this view.
2. Plane sweep of patches at half and of pretrained maps at quarter resolution, averaged over neighbourhoods.
3. Scores less the penalty of the prior, plus what past keyframes' depth says; semi-global matching; the best plane.
4. Depth at full resolution, guided by the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dvmvs_core.config import MatchingConfig
from dvmvs_core.matching.aggregation import box_means
from dvmvs_core.matching.consistency import add_support
from dvmvs_core.matching.descriptors import Describer, Descriptors
from dvmvs_core.matching.prior import parallax_rows, subtract_prior
from dvmvs_core.matching.relative_view import HALF, QUARTER, Grid, relative_views
from dvmvs_core.matching.semi_global import jump_penalties, paths_across, paths_down
from dvmvs_core.matching.splatting import median_rows, splat_views
from dvmvs_core.matching.sweep import sweep_rows
from dvmvs_core.matching.upsampling import add_upsampled, upsample_depth
from dvmvs_core.matching.view_selection import best_views
from dvmvs_core.matching.winner import best_planes
from dvmvs_core.runtime.bands import in_bands

OWN_WEIGHT = 2
"""How often the network's depth of this view counts in the median with past predictions."""

COLOUR_SCALE = 8.0
"""Grey levels, of 255, at which a cell's weight for a pixel has fallen to a quarter."""

SAME_SURFACE = 0.06
"""Log depth within which cells are of one surface when depth is brought to full resolution."""


@dataclass(frozen=True, eq=False)
class MatchingView:
    """A keyframe as matching knows it.

    Attributes:
        descriptors: of its image.
        K: (3, 3) intrinsics, pixels.
        world_T_cam: (4, 4) pose.
        network_depth: (H/2, W/2) float32 metres, of pixels 2x; None until it is there.
        swept_depth: (H/2, W/2) float32 metres as matched, before other keyframes' depth spoke; None likewise.
    """

    descriptors: Descriptors
    K: np.ndarray
    world_T_cam: np.ndarray
    network_depth: np.ndarray | None = None
    swept_depth: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class MatchedDepth:
    """What matching found for a keyframe.

    Attributes:
        depth: (H, W) float32 metres.
        network_depth: (H/2, W/2) float32, to be kept in the keyframe's `MatchingView`.
        swept_depth: (H/2, W/2) float32, likewise.
        prior: (H/2, W/2) float32 metres: what matching started from.
        margin: (H/2, W/2) float32: score of the chosen plane less that of the best other one.
        parallax: (H/2, W/2) float32: pixels that a depth step of 25 % moves the point in the best view.
        views: (H/2, W/2) uint8: number of views in which the chosen plane is in view.
    """

    depth: np.ndarray
    network_depth: np.ndarray
    swept_depth: np.ndarray
    prior: np.ndarray
    margin: np.ndarray
    parallax: np.ndarray
    views: np.ndarray


class Matcher:
    """Matches keyframes against past ones.

    Args:
        config: how.
        describer: makes the descriptors.
    """

    def __init__(self, config: MatchingConfig, describer: Describer | None = None) -> None:
        self.config = config
        self.describe = describer or Describer()
        steps = np.linspace(np.log(config.min_depth_m), np.log(config.max_depth_m), config.planes)
        self._log_depths = steps.astype(np.float32)
        self._inverse_depths = np.exp(-steps).astype(np.float32)
        self._step = np.float32(steps[1] - steps[0])

    def match(self, reference: MatchingView, past: Sequence[MatchingView], network_depth: np.ndarray) -> MatchedDepth:
        """Return the depth of a keyframe.

        Args:
            reference: the keyframe.
            past: earlier keyframes with their depth, the newest last; the last `config.window` count.
            network_depth: (H, W) float32 metres that the network predicted for it, above 0.
        """
        config = self.config
        past = past[-config.window :]
        own = np.ascontiguousarray(network_depth[::2, ::2], dtype=np.float32)
        prior = self._prior(reference, past, own)
        chosen = best_views(
            network_depth, reference.K, reference.world_T_cam, [v.K for v in past], [v.world_T_cam for v in past], config.views
        )
        views = [past[i] for i in chosen]
        to_half = _to_views(reference, views, HALF)
        parallax = np.empty_like(prior)
        in_bands(parallax_rows, len(prior), prior, *to_half, np.float32(HALF.step), HALF.margin, parallax)
        scores, counts = self._similarity(reference, views, to_half)
        c = config
        in_bands(
            subtract_prior,
            len(prior),
            prior,
            parallax,
            self._log_depths,
            *(np.float32(x) for x in (c.prior_strength, c.prior_reach, c.prior_parallax_px)),
            scores,
        )
        swept_depth, margin, count = self._best(reference, scores, counts)
        depth = swept_depth
        if config.consistency and views:
            swept = np.stack([view.swept_depth for view in views])
            in_bands(
                add_support,
                len(prior),
                swept,
                *to_half,
                self._inverse_depths,
                np.float32(config.consistency_tolerance),
                np.float32(config.consistency),
                scores,
            )
            depth, margin, count = self._best(reference, scores, counts)
        return MatchedDepth(self._upsampled(reference, depth), own, swept_depth, prior, margin, parallax, count)

    def _prior(self, reference: MatchingView, past: Sequence[MatchingView], own: np.ndarray) -> np.ndarray:
        recent = past[-self.config.past_predictions :] if self.config.past_predictions else []
        if not recent:
            return own
        depths = np.stack([view.network_depth for view in recent])
        nearest = np.empty_like(depths)
        in_bands(splat_views, len(recent), depths, *_from_views(reference, recent, HALF), nearest)
        median = np.empty_like(own)
        in_bands(median_rows, len(own), own, OWN_WEIGHT, nearest, median)
        return median

    def _similarity(
        self, reference: MatchingView, views: Sequence[MatchingView], to_half: tuple[np.ndarray, np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Scores (h, w, P) and counts (h, w, P) of the half-resolution grid."""
        c = self.config
        patch_scores, counts = self._sweep(
            reference.descriptors.patches, [v.descriptors.patches for v in views], to_half, HALF.margin
        )
        map_scores, _ = self._sweep(
            reference.descriptors.maps,
            [v.descriptors.maps for v in views],
            _to_views(reference, views, QUARTER),
            QUARTER.margin,
        )
        scores, maps = np.empty_like(patch_scores), np.empty_like(map_scores)
        for i, side in enumerate(c.neighbourhoods):
            weight = np.float32((1 - c.map_weight) / len(c.neighbourhoods))
            in_bands(box_means, len(scores), patch_scores, side // 2, weight, i > 0, scores)
        in_bands(box_means, len(maps), map_scores, c.map_neighbourhood // 2, np.float32(1), False, maps)
        in_bands(add_upsampled, len(scores), maps, np.float32(c.map_weight), scores)
        return scores, counts

    def _sweep(
        self,
        own: np.ndarray,
        others: Sequence[np.ndarray],
        to_views: tuple[np.ndarray, np.ndarray],
        margin: np.float32,
    ) -> tuple[np.ndarray, np.ndarray]:
        scores = np.empty((*own.shape[:2], self.config.planes), np.float32)
        counts = np.empty(scores.shape, np.uint8)
        stacked = np.empty((len(others), *own.shape), np.float32)
        for m, other in enumerate(others):
            stacked[m] = other
        in_bands(
            sweep_rows, len(own), own.astype(np.float32), stacked, *to_views, self._inverse_depths, margin, scores, counts
        )
        return scores, counts

    def _best(
        self, reference: MatchingView, scores: np.ndarray, counts: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Depth (h, w) metres, margin (h, w) and number of views (h, w)."""
        c = self.config
        height, width, _ = scores.shape
        across, down = np.empty((height, width), np.float32), np.empty((height, width), np.float32)
        colours = reference.descriptors.colours.astype(np.float32)
        prices = [np.float32(x) for x in (c.jump_penalty, c.next_penalty, c.edge)]
        in_bands(jump_penalties, height, colours, *prices, across, down)
        agreed = np.empty_like(scores)
        next_penalty, weight = np.float32(c.next_penalty), np.float32(0.25)
        in_bands(paths_across, height, scores, across, next_penalty, weight, agreed)
        in_bands(paths_down, width, scores, down, next_penalty, weight, agreed)
        position, margin = np.empty((height, width), np.float32), np.empty((height, width), np.float32)
        views = np.empty((height, width), np.uint8)
        in_bands(best_planes, height, agreed, counts, position, margin, views)
        return np.exp(self._log_depths[0] + position * self._step), margin, views

    def _upsampled(self, reference: MatchingView, depth: np.ndarray) -> np.ndarray:
        image = reference.descriptors.image
        result = np.empty(image.shape[:2], np.float32)
        in_bands(
            upsample_depth,
            len(result),
            np.log(depth),
            reference.descriptors.colours.astype(np.float32),
            image,
            np.float32(COLOUR_SCALE),
            np.float32(SAME_SURFACE),
            result,
        )
        return np.exp(result)


def _to_views(reference: MatchingView, views: Sequence[MatchingView], grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    count = len(views)
    return relative_views(
        [reference.world_T_cam] * count, [reference.K] * count, [v.world_T_cam for v in views], [v.K for v in views], grid
    )


def _from_views(reference: MatchingView, views: Sequence[MatchingView], grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    count = len(views)
    return relative_views(
        [v.world_T_cam for v in views], [v.K for v in views], [reference.world_T_cam] * count, [reference.K] * count, grid
    )
