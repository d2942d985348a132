# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Predicted depth made sharper before it is fused, by what only an offline run has: the views that come later.

1. A plane sweep in a wide range about the predicted depth, against those keyframes before and after that see the same
   points at a good angle.
2. The same scores plus support from the depth that those keyframes came to: so what one of them cannot decide is
   decided by those that can, and all come to one surface.
3. Another sweep in a small range about what came out, at every pixel.

Pixels are compared by descriptors, normalised 3×3 patches, averaged over neighbourhoods, with a small bias towards the
depth before that decides where there is nothing to see. Semi-global matching chooses among the depths of a sweep, so
that edges of depth keep to edges of the image.

What is to be fused is also checked: a pixel stays if the keyframes around came to the same depth after the first sweep,
when none had heard of the others yet.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from dvmvs_core.evaluation.prediction.predict_sequence import Prediction
from dvmvs_core.evaluation.reconstruction.depth_hypotheses import DepthHypotheses
from dvmvs_core.evaluation.reconstruction.depth_views import DepthView, predicted_views
from dvmvs_core.evaluation.reconstruction.geometric_consistency import (
    CHECK_REACH,
    confirmed,
    image_tensor,
    with_neighbours,
)
from dvmvs_core.matching.gpu.plain_kernels import plain_paths
from dvmvs_core.matching.gpu.scores import jump_penalties
from dvmvs_core.matching.view_selection import best_views
from dvmvs_core.model.patch_matching import full_patch_descriptors, patch_descriptors
from dvmvs_core.preprocess import normalise

WINDOW = 30
"""Keyframes on either side among which those to match against are chosen."""

VIEWS = 24
"""Keyframes to match against."""

POINTS_STEP = 16
"""Pixels between the points by which they are chosen."""

NEXT_DEPTH, OTHER_DEPTH = 0.2, 4.0
"""Prices of semi-global matching for going to the next depth, and to any other where the image has no edge."""

EDGE = 30.0
"""Difference of grey levels, of 255, at which the latter has fallen to 1/e of it."""

BIAS = 0.05
"""Similarity that a change of the logarithm of depth by 1 must win."""

CONSISTENCY = 1.0
"""Similarity that the other views' depth is worth where all have the same."""

CONTRADICTION = 0.05
"""Relative difference from which on their depth speaks against one."""


@dataclass(frozen=True)
class Sweep:
    """Depths to try about the depth before.

    Attributes:
        step: pixels of the image between two that are matched.
        largest_change: of the logarithm of depth.
        planes: how many depths; a parabola through the best and its neighbours gives what lies between.
        neighbourhoods: sides, in matched pixels, of the squares over which matching is averaged; odd.
    """

    step: int
    largest_change: float
    planes: int
    neighbourhoods: tuple[int, ...]

    @property
    def changes(self) -> Tensor:
        """(planes,) of the logarithm of depth."""
        return torch.linspace(-self.largest_change, self.largest_change, self.planes)


WIDE_SWEEP = Sweep(step=2, largest_change=0.6, planes=29, neighbourhoods=(3, 7))
"""By a factor of 1.8, in steps of 4.4 %."""

FINE_SWEEP = Sweep(step=1, largest_change=0.045, planes=7, neighbourhoods=(5, 13))
"""By one such step, in steps of 1.5 %."""


@dataclass(frozen=True, eq=False)
class _Unswept:
    """A view before the wide sweep.

    Attributes:
        view: with its depth as it came.
        descriptors: (1, C, h, w) of the pixels of the wide sweep, which take much memory: only if others are matched
            against it.
    """

    view: DepthView
    descriptors: Tensor | None


@dataclass(frozen=True, eq=False)
class _Swept:
    """A view after the wide sweep.

    Attributes:
        view: with its depth as it came.
        depth: (H, W) that it came to in the sweep, metres.
        scores: (1, P, h, w) float16 of the sweep, of keyframes that had others to match against: a thousand frames may
            lie between two keyframes, and theirs are worked out twice rather than held.
        descriptors: (1, C, H, W) of all pixels, if others are matched against it.
        confirmed: (H, W) where its neighbours came to the same; None if that was not asked.
    """

    view: DepthView
    depth: np.ndarray
    scores: Tensor | None
    descriptors: Tensor | None
    confirmed: np.ndarray | None = None

    @property
    def swept_view(self) -> DepthView:
        """The view with the depth that it came to."""
        return dataclasses.replace(self.view, depth=self.depth)


Held = TypeVar("Held", _Unswept, _Swept)


@torch.inference_mode()
def refined_views(views: Iterable[DepthView], checked: bool = False) -> Iterator[DepthView]:
    """Yield views whose depth was refined against the keyframes around them.

    Args:
        views: in order of time; pixels without depth stay without.
        checked: leave out what too few of the keyframes around confirm.
    """
    swept_views = _swept_views(views)
    if checked:
        swept_views = _with_confirmation(swept_views)
    for one, around in with_neighbours(swept_views, WINDOW, _is_keyframe):
        view = one.view
        if others := _best(view, around):
            scores = _wide_scores(view, others) if one.scores is None else one.scores.float()
            support = _hypotheses(view, WIDE_SWEEP).support([other.swept_view for other in others], CONTRADICTION)
            view = _best_depth(view, scores + CONSISTENCY * support, WIDE_SWEEP)
            view = _best_depth(view, _scores(view, one.descriptors, others, FINE_SWEEP), FINE_SWEEP)
        if checked:
            view = dataclasses.replace(view, depth=np.where(one.confirmed, view.depth, np.float32(0)))
        yield view


def refined_predictions(predictions: Iterable[Prediction]) -> Iterator[Prediction]:
    """Yield predictions of keyframes, in order of time, with their depth refined as `refined_views` does it.

    What else they hold stays as the network had it, confidence and latency too.
    """
    kept, copies = itertools.tee(predictions)
    views = predicted_views((prediction, item, True) for prediction, item in copies)
    for (prediction, item), view in zip(kept, refined_views(views), strict=True):
        yield dataclasses.replace(prediction, depth=view.depth, refined=True), item


def _swept_views(views: Iterable[DepthView]) -> Iterator[_Swept]:
    unswept = (_Unswept(view, _descriptors(view, WIDE_SWEEP) if view.is_keyframe else None) for view in views)
    for one, around in with_neighbours(unswept, WINDOW, _is_keyframe):
        view, scores = one.view, None
        if others := _best(view, around):
            scores = _scores(view, one.descriptors, others, WIDE_SWEEP)
            view = _best_depth(view, scores, WIDE_SWEEP)
            scores = scores.half() if view.is_keyframe else None
        yield _Swept(one.view, view.depth, scores, _descriptors(view, FINE_SWEEP) if view.is_keyframe else None)


def _with_confirmation(swept_views: Iterable[_Swept]) -> Iterator[_Swept]:
    for one, around in with_neighbours(swept_views, CHECK_REACH, _is_keyframe):
        neighbours = [other.swept_view for other in around]
        yield dataclasses.replace(one, confirmed=confirmed(one.swept_view, neighbours))


def _is_keyframe(one: _Unswept | _Swept) -> bool:
    return one.view.is_keyframe


def _best(view: DepthView, around: list[Held]) -> list[Held]:
    """Those of the keyframes around a view that it is matched against."""
    intrinsics, poses = ([getattr(other.view, name) for other in around] for name in ("K", "world_T_cam"))
    chosen = best_views(view.depth, view.K, view.world_T_cam, intrinsics, poses, VIEWS, POINTS_STEP)
    return [around[index] for index in chosen]


def _descriptors(view: DepthView, sweep: Sweep) -> Tensor:
    """What the pixels of a sweep are compared by: (1, C, h, w)."""
    describe = {1: full_patch_descriptors, 2: patch_descriptors}[sweep.step]
    return describe(torch.from_numpy(normalise(view.image))[None])


def _hypotheses(view: DepthView, sweep: Sweep) -> DepthHypotheses:
    """The depths that a sweep tries about the view's own."""
    depth = image_tensor(view.depth)[..., :: sweep.step, :: sweep.step]
    # Pixels without depth are matched as if they were far away, and left out at the end.
    depth = torch.where(depth > 0, depth, torch.full_like(depth, 10.0))
    return DepthHypotheses(view, depth * torch.exp(sweep.changes).view(1, -1, 1, 1), sweep.step)


def _scores(view: DepthView, descriptors: Tensor | None, others: list[_Unswept] | list[_Swept], sweep: Sweep) -> Tensor:
    """How well (1, P, h, w) each depth of a sweep matches the others' descriptors, less the bias."""
    descriptors = _descriptors(view, sweep) if descriptors is None else descriptors
    descriptors_there = [(other.descriptors, other.view) for other in others]
    similarity = _hypotheses(view, sweep).similarity(descriptors, descriptors_there, sweep.neighbourhoods)
    return similarity - BIAS * sweep.changes.abs().view(1, -1, 1, 1)


def _wide_scores(view: DepthView, others: list[_Swept]) -> Tensor:
    """What the wide sweep gave, once more."""
    return _scores(
        view, None, [_Unswept(other.view, _descriptors(other.view, WIDE_SWEEP)) for other in others], WIDE_SWEEP
    )


def _best_depth(view: DepthView, scores: Tensor, sweep: Sweep) -> DepthView:
    """The view with the depth that semi-global matching chooses by the scores (1, P, h, w) of a sweep."""
    grey = torch.from_numpy(cv2.cvtColor(view.image, cv2.COLOR_RGB2GRAY))[:: sweep.step, :: sweep.step].float()
    change = _best_change(semi_global_scores(scores[0], grey)[None], sweep.changes)
    if sweep.step > 1:
        change = functional.interpolate(change, view.depth.shape, mode="bilinear", align_corners=False)
    depth = image_tensor(view.depth) * torch.exp(change)
    return dataclasses.replace(view, depth=depth[0, 0].numpy())


def semi_global_scores(scores: Tensor, grey: Tensor) -> Tensor:
    """Return scores (P, h, w) of P neighbouring depths after semi-global matching, by grey levels (h, w), 0 to 255."""
    jumps = jump_penalties(grey[..., None], OTHER_DEPTH, NEXT_DEPTH, EDGE)
    return plain_paths(scores.permute(1, 2, 0), jumps, NEXT_DEPTH).sum(dim=0).permute(2, 0, 1) / 4


def _best_change(score: Tensor, changes: Tensor) -> Tensor:
    """The change (B, 1, h, w) of the highest score (B, P, h, w), between planes by a parabola through three."""
    best = score.argmax(dim=1, keepdim=True)
    middle = best.clamp(1, len(changes) - 2)
    before, here, after = (score.gather(1, middle + step) for step in (-1, 0, 1))
    offset = (before - after) / (2 * (before - 2 * here + after).clamp(max=-1e-6))
    position = torch.where(best == middle, middle + offset.clamp(-0.5, 0.5), best.float())
    return changes[0] + position * (changes[1] - changes[0])
