# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Depth of a keyframe, matched against past keyframes.

1. Prior: the weighted median of the network's depth and of what past keyframes settled on and predicted, splatted
   into this view.
2. Views: the past keyframes that see the same points best, as straight as the keyframe, and turned where their poses
   are clearly off. What they tell of poses, focal length and distortion counts from the next keyframe on.
3. Plane sweep of pretrained maps at quarter resolution; then of patches at half resolution, at the planes around the
   one that maps and prior choose. Both are averaged over neighbourhoods.
4. Scores less the penalty of the prior, plus what past keyframes' depth says; semi-global matching; the best plane.
5. A second, finer sweep of patches around that depth, and semi-global matching again.
6. A small network regularises all of that, and brings it to full resolution.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from dvmvs_core.config import MatchingConfig
from dvmvs_core.geometry import inverse_pose
from dvmvs_core.matching.blindness import blindness
from dvmvs_core.matching.descriptors import INT8_SCALE, Describer, Descriptors
from dvmvs_core.matching.keyframe import MatchedDepth, MatchingView, on_host
from dvmvs_core.matching.measured_around import FARTHEST_M
from dvmvs_core.matching.plane_scores import add_upsampled, best_planes, box_means
from dvmvs_core.matching.pose_correction import corrected_views
from dvmvs_core.matching.prior import count_views, fuse_rows, parallax_rows, subtract_prior, weigh_evidence
from dvmvs_core.matching.regularise import Found, Regularise, quarter_means, regularised
from dvmvs_core.matching.relative_view import HALF, PRETRAINED, QUARTER, Grid, relative_views
from dvmvs_core.matching.self_calibration import SelfCalibration, known_from
from dvmvs_core.matching.semi_global import jump_penalties, paths_across, paths_down
from dvmvs_core.matching.straight_views import StraightViews
from dvmvs_core.matching.view_selection import views_to_match
from dvmvs_core.runtime.reprojection_kernels import splat_maps
from dvmvs_core.runtime.sweep import aligned_zeros, repeat_edges
from dvmvs_core.runtime.sweep_kernels import FIRST_PLANE, ONE, ONE_METRE, sweep_rows
from dvmvs_core.runtime.threads import parallel_rows

OWN_WEIGHT = 2.0
"""Weight of the network's depth of this view in the prior."""

PREDICTION_WEIGHT = 0.3
"""Weight of each past prediction of the network."""

SURE_MARGIN, MIN_WEIGHT = 0.5, 0.1
"""Matched depth weighs its margin over the first, between the second and 1."""

NEAREST_M = np.float32(0.1)
"""Past depth nearer to this view than this is left out."""

AGREEING = 0.08
"""Log depth within which the past agrees with the prior."""

FULL_WEIGHT = 6.0
"""Weight of past depths whose agreement counts in full."""

MIN_NORM = np.float32(1e-3)
"""Samples of descriptors are divided by their norms, or by this."""


class _Buffers:
    """Arrays that are kept from call to call: fresh ones cost a tenth of the whole time in page faults."""

    def __init__(self) -> None:
        self._arrays: dict[tuple, np.ndarray] = {}

    def __call__(self, name: str, shape: tuple[int, ...], dtype: type = np.float32) -> np.ndarray:
        """Return the array of that name, with whatever is in it."""
        key = (name, shape, dtype)
        if key not in self._arrays:
            self._arrays[key] = aligned_zeros(shape, dtype)
        return self._arrays[key]


class Matcher:
    """Matches keyframes against past ones. Not thread-safe.

    Args:
        config: how.
        describer: makes the descriptors.
        regularise: the trained part, or `unregularised`.
    """

    def __init__(self, config: MatchingConfig, describer: Describer, regularise: Regularise) -> None:
        self.config = config
        self.regularise = regularise
        self.describe = describer
        steps = np.linspace(np.log(config.min_depth_m), np.log(config.max_depth_m), config.planes)
        self._straight = StraightViews(describer)
        self._buffers = _Buffers()
        self._log_depths = steps.astype(np.float32)
        self._inverse_depths = np.exp(-steps).astype(np.float32)
        self._step = np.float32(steps[1] - steps[0])
        reach = config.fine_reach * self._step
        self._fine_changes = np.linspace(-reach, reach, max(2, config.fine_planes)).astype(np.float32)

    @property
    def description(self) -> str:
        """What it is, for a person."""
        return self.config.preset

    def describe_beside(self, image: Tensor) -> Callable[[], Descriptors]:
        """Begin to describe an image in a thread beside, see `Describer.begun`."""
        return self.describe.begun(image)

    def match(
        self, reference: MatchingView, past: Sequence[MatchingView], network_depth: np.ndarray | Tensor
    ) -> MatchedDepth:
        """Return the depth of a keyframe.

        Args:
            reference: the keyframe.
            past: earlier keyframes, the newest last; the last `config.window` count.
            network_depth: (H, W) float32 metres that the network predicted for it, above 0.
        """
        c = self.config
        network_depth = on_host(network_depth)
        calibration, given = known_from(past), reference
        reference, *past = (calibration.applied(view) for view in (reference, *past[-c.window :]))
        own = np.ascontiguousarray(network_depth[::2, ::2], dtype=np.float32)
        prior, agreement = self._prior(reference, past, own, given)
        views = views_to_match(reference, past, prior, c.views)
        if not views:
            return _unmatched(network_depth, own, prior, agreement, calibration)
        views = self._straight.described(views, given)
        views, calibration = corrected_views(reference, views, prior, agreement, calibration)
        to_half = _to_views(reference, views, HALF)
        parallax = np.empty_like(prior)
        to_quarter = _to_views(reference, views, QUARTER)
        parallel_rows(parallax_rows, len(prior), prior, *to_quarter, np.float32(QUARTER.step), QUARTER.margin, parallax)
        maps, counts = self._map_scores(reference, views)
        patches = self._floats("patches", reference, views)
        prior_terms = self._prior_terms(prior, agreement, parallax)
        starts = self._windows(reference, maps, counts, prior_terms)
        scores = self._scores(patches, to_half, maps, starts)
        parallel_rows(weigh_evidence, len(scores), counts, np.float32(c.doubt), scores)
        images_alone = self._buffers("images alone", maps.shape)
        parallel_rows(quarter_means, len(images_alone), scores, images_alone)
        parallel_rows(subtract_prior, len(scores), *prior_terms, scores)
        depth, margin, count = self._best(reference, scores, counts)
        if c.fine_planes:
            depth = self._swept_finely(reference, patches, to_half, depth)
        found = Found(
            reference.descriptors.image,
            reference.K,
            reference.descriptors.levels,
            np.log(depth),
            np.log(own),
            margin,
            count,
            prior,
            agreement,
            parallax,
            self._buffers("agreed", scores.shape),  # as `_best` left it
            images_alone,
            float(self._log_depths[0]),
            float(self._step),
        )
        full, log_odds, evidence = regularised(found, self.regularise)
        full = np.clip(full, np.float32(c.min_depth_m), np.float32(FARTHEST_M))
        count = np.empty(depth.shape, np.uint8)
        parallel_rows(count_views, len(count), full[::2, ::2], *to_half, HALF.margin, count)
        pose_error_px = calibration.pose_error_px(reference, views)
        known = torch.from_numpy(parallax), torch.from_numpy(agreement), evidence
        blind = blindness(*known, c.prior_parallax_px, pose_error_px).numpy()
        found = (full, depth, own, prior, agreement, parallax, margin, count, blind, log_odds)
        return MatchedDepth(*found, calibration=calibration, pose_error_px=pose_error_px)

    def _prior(
        self, reference: MatchingView, past: Sequence[MatchingView], own: np.ndarray, given: MatchingView
    ) -> tuple[np.ndarray, np.ndarray]:
        """Prior depth (h, w) metres and its agreement (h, w), on the quarter-resolution grid.

        `given` is the reference with the intrinsics that it came with.
        """
        own = np.ascontiguousarray(own[::2, ::2])
        fused, agreement = np.empty_like(own), np.empty_like(own)
        recent = [view for view in past if view.matched][-self.config.past_depths :] if self.config.past_depths else []
        recent = self._straight.with_depth(recent, given)
        count = len(recent)
        depths, weights = np.empty((2 * count, *own.shape), np.float32), np.empty((2 * count, *own.shape), np.float32)
        for k, view in enumerate(recent):
            depths[k], depths[count + k], margin = view.matched.quarter
            np.clip(margin * np.float32(1 / SURE_MARGIN), MIN_WEIGHT, 1, out=weights[k])
        weights[count:] = PREDICTION_WEIGHT
        nearest, nearest_weights = np.empty_like(depths), np.empty_like(weights)
        if recent:
            cameras = _to_reference(reference, [*recent, *recent], QUARTER)
            splats = (NEAREST_M, False, nearest, nearest_weights)
            parallel_rows(splat_maps, len(depths), depths, weights, *cameras, *splats)
        parallel_rows(
            fuse_rows,
            len(own),
            own,
            np.float32(OWN_WEIGHT),
            nearest,
            nearest_weights,
            count,
            np.float32(AGREEING),
            np.float32(FULL_WEIGHT),
            fused,
            agreement,
        )
        return fused, agreement

    def _prior_terms(self, prior: np.ndarray, agreement: np.ndarray, parallax: np.ndarray) -> tuple:
        c = self.config
        penalties = (c.prior_strength, c.prior_trust, c.prior_reach, c.prior_parallax_px, c.far_strength)
        return prior, agreement, parallax, self._log_depths, *(np.float32(x) for x in penalties)

    def _map_scores(self, reference: MatchingView, views: Sequence[MatchingView]) -> tuple[np.ndarray, np.ndarray]:
        """Scores (h, w, P) and counts (h, w, P) of the pretrained maps, on the quarter-resolution grid."""
        swept, counts = self._sweep(
            *self._floats("maps", reference, views),
            _to_views(reference, views, PRETRAINED),
            PRETRAINED.margin,
            self._inverse_depths,
        )
        scores = self._buffers("maps averaged", swept.shape)
        parallel_rows(box_means, len(swept), swept, self.config.map_neighbourhood // 2, np.float32(1), False, scores)
        return scores, counts

    def _windows(self, reference: MatchingView, maps: np.ndarray, counts: np.ndarray, prior_terms: tuple) -> np.ndarray:
        """First of the planes that patches are swept at (h, w): maps and prior choose the one in their middle."""
        c = self.config
        height, width, planes = maps.shape
        if c.patch_planes >= planes:
            return FIRST_PLANE
        scores = maps.copy()
        parallel_rows(weigh_evidence, height, counts, np.float32(c.doubt), scores)
        parallel_rows(subtract_prior, height, *prior_terms, scores)
        colours = reference.descriptors.colours[1::2, 1::2].astype(np.float32)
        position, _, _ = self._positions(colours, scores, counts, c.next_penalty)
        starts = np.rint(position).astype(np.int32) - c.patch_planes // 2
        return np.clip(starts, 0, planes - c.patch_planes).repeat(2, axis=0).repeat(2, axis=1)

    def _scores(
        self,
        patches: tuple[np.ndarray, np.ndarray],
        to_half: tuple[np.ndarray, np.ndarray],
        maps: np.ndarray,
        starts: np.ndarray,
    ) -> np.ndarray:
        """Scores (h, w, P) of patches and maps together, on the half-resolution grid."""
        c = self.config
        swept, _ = self._sweep(
            *patches,
            to_half,
            HALF.margin,
            self._inverse_depths,
            starts=starts,
            window=min(c.patch_planes, c.planes),
        )
        scores = self._averaged(swept, c.neighbourhoods, 1 - c.map_weight)
        parallel_rows(add_upsampled, len(scores), maps, np.float32(c.map_weight), scores)
        return scores

    def _averaged(self, swept: np.ndarray, neighbourhoods: tuple[int, ...], weight: float) -> np.ndarray:
        """Mean over squares of several sides, times a weight."""
        scores = self._buffers("averaged", swept.shape)
        each = np.float32(weight / len(neighbourhoods))
        for i, side in enumerate(neighbourhoods):
            parallel_rows(box_means, len(scores), swept, side // 2, each, i > 0, scores)
        return scores

    def _floats(
        self, kind: str, reference: MatchingView, views: Sequence[MatchingView]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Descriptors (h, w, C) of the reference view and bordered ones (M, h+2, w+2, C): "patches" or "maps"."""
        stored = getattr(reference.descriptors, kind)
        height, width, channels = stored.shape
        own = self._buffers(kind, stored.shape)
        others = self._buffers(kind, (self.config.views, height + 2, width + 2, channels))[: len(views)]
        maps = [
            (stored, own),
            *((getattr(v.descriptors, kind), o[1:-1, 1:-1]) for v, o in zip(views, others, strict=True)),
        ]
        parallel_rows(_unpack, len(maps), maps)
        repeat_edges(others)
        return own, others

    def _sweep(
        self,
        own: np.ndarray,
        others: np.ndarray,
        to_views: tuple[np.ndarray, np.ndarray],
        margin: np.float32,
        factors: np.ndarray,
        centres: np.ndarray = ONE_METRE,
        starts: np.ndarray = FIRST_PLANE,
        window: int | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Scores (h, w, P) and counts (h, w, P); the other arguments are those of `sweep_rows`."""
        scores = self._buffers("swept", (*own.shape[:2], len(factors)))
        counts = self._buffers("counts", scores.shape, np.uint8)
        parallel_rows(
            sweep_rows,
            len(own),
            0,
            1,
            own,
            others,
            *to_views,
            centres,
            factors,
            starts,
            len(factors) if window is None else window,
            margin,
            True,
            ONE,
            MIN_NORM,
            scores,
            counts,
        )
        return scores, counts

    def _swept_finely(
        self,
        reference: MatchingView,
        patches: tuple[np.ndarray, np.ndarray],
        to_half: tuple[np.ndarray, np.ndarray],
        depth: np.ndarray,
    ) -> np.ndarray:
        """Depth (h, w) of a second, finer sweep of patches around that of the first."""
        c = self.config
        factors = np.exp(-self._fine_changes)
        swept, counts = self._sweep(*patches, to_half, HALF.margin, factors, centres=1 / depth)
        scores = self._averaged(swept, c.fine_neighbourhoods, 1)
        scores -= np.float32(c.fine_bias) * np.abs(self._fine_changes)
        colours = reference.descriptors.colours.astype(np.float32)
        position, _, _ = self._positions(colours, scores, counts, c.fine_next_penalty, "agreed finely")
        change = self._fine_changes[0] + position * (self._fine_changes[1] - self._fine_changes[0])
        return depth * np.exp(change)

    def _best(
        self, reference: MatchingView, scores: np.ndarray, counts: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Depth (h, w) metres, margin (h, w) and number of views (h, w)."""
        colours = reference.descriptors.colours.astype(np.float32)
        position, margin, views = self._positions(colours, scores, counts, self.config.next_penalty)
        return np.exp(self._log_depths[0] + position * self._step), margin, views

    def _positions(
        self, colours: np.ndarray, scores: np.ndarray, counts: np.ndarray, next_penalty: float, kept_as: str = "agreed"
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Position (h, w) of the best plane after semi-global matching, margin (h, w), number of views (h, w).

        The scores that agree (h, w, P) stay in the buffer named `kept_as`.
        """
        c = self.config
        height, width, _ = scores.shape
        across, down = np.empty((height, width), np.float32), np.empty((height, width), np.float32)
        prices = [np.float32(x) for x in (c.jump_penalty, next_penalty, c.edge)]
        parallel_rows(jump_penalties, height, colours, *prices, across, down)
        agreed = self._buffers(kept_as, scores.shape)
        next_penalty, weight = np.float32(next_penalty), np.float32(0.25)
        parallel_rows(paths_across, height, scores, across, next_penalty, weight, agreed)
        parallel_rows(paths_down, width, scores, down, next_penalty, weight, agreed)
        position, margin = np.empty((height, width), np.float32), np.empty((height, width), np.float32)
        views = np.empty((height, width), np.uint8)
        parallel_rows(best_planes, height, agreed, counts, position, margin, views)
        return position, margin, views


def _unpack(first: int, last: int, maps: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
    """Writes descriptors first…last of bytes as floats. NumPy releases the GIL."""
    for stored, floats in maps[first:last]:
        np.multiply(stored, np.float32(1 / INT8_SCALE), out=floats)


def _unmatched(
    network_depth: np.ndarray,
    own: np.ndarray,
    prior: np.ndarray,
    agreement: np.ndarray,
    calibration: SelfCalibration,
) -> MatchedDepth:
    """The network's depth, where no past keyframe sees what the keyframe sees."""
    return MatchedDepth(
        depth=np.ascontiguousarray(network_depth, dtype=np.float32),
        measured_depth=own,
        network_depth=own,
        prior=prior,
        agreement=agreement,
        parallax=np.zeros_like(prior),
        margin=np.zeros_like(own),
        views=np.zeros(own.shape, np.uint8),
        blindness=1 - agreement,
        calibration=calibration,
    )


def _to_views(reference: MatchingView, views: Sequence[MatchingView], grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    count = len(views)
    return relative_views(
        [reference.world_T_cam] * count,
        [reference.K] * count,
        [v.world_T_cam for v in views],
        [v.K for v in views],
        grid,
    )


def _to_reference(reference: MatchingView, views: Sequence[MatchingView], grid: Grid) -> tuple[np.ndarray, ...]:
    """Transforms (N, 4, 4) from the views to the reference, and K (N, 3, 3) of the reference's and the views' cells."""
    cell_from_pixel = np.linalg.inv(grid.pixel_from_cell)
    ref_T_world = inverse_pose(reference.world_T_cam)
    ref_T_view = np.stack([ref_T_world @ view.world_T_cam for view in views])
    K_ref, K_view = (cell_from_pixel @ np.stack(K) for K in ([reference.K] * len(views), [v.K for v in views]))
    return tuple(x.astype(np.float32) for x in (ref_T_view, K_ref, K_view))
