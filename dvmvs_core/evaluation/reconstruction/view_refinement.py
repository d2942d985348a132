# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Predicted depth made sharper before it is fused, by what only an offline run has: the views that come later.

1. A plane sweep in a wide range about the predicted depth, against those keyframes before and after that see the same
   points at a good angle.
2. The same scores once more, with a say for the depth that those keyframes came to: so what one of them cannot decide
   is decided by those that can, and all come to one surface.
3. Another sweep in a small range about what came out, at every pixel.

Looks are compared as normalised 3×3 patches, averaged over neighbourhoods, with a small bias towards the depth before
that decides where there is nothing to see. Semi-global matching chooses among the depths, so that edges of depth keep
to edges of the image.

What is to be fused is also checked: a pixel stays if the keyframes around came to the same depth after the first sweep,
when none had heard of the others yet.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from dvmvs_core.evaluation.predict import Prediction
from dvmvs_core.evaluation.reconstruction.depth_views import DepthView, predicted_views
from dvmvs_core.evaluation.reconstruction.geometric_consistency import (
    CHECK_REACH,
    confirmed,
    consistency,
    image_tensor,
    matrix_tensor,
)
from dvmvs_core.evaluation.reconstruction.neighbours import with_neighbours
from dvmvs_core.evaluation.reconstruction.semi_global import semi_global_scores
from dvmvs_core.evaluation.reconstruction.view_selection import best_views
from dvmvs_core.model.intrinsics import pixel_grid, scale_intrinsics
from dvmvs_core.model.patch_matching import full_patch_descriptors, patch_descriptors
from dvmvs_core.model.ray_matching import NeighbourhoodMeans, match_along_rays
from dvmvs_core.preprocess import normalise

View = TypeVar("View")

WINDOW = 30
"""Keyframes on either side among which those to match against are chosen."""

VIEWS = 24
"""Keyframes to match against."""

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
class _Held:
    """A view in a window, with its looks (1, C, h, w) if others are matched against it, which take much memory."""

    view: DepthView
    looks: Tensor | None


@dataclass(frozen=True, eq=False)
class _Swept:
    """A view after the wide sweep.

    Attributes:
        before: with its depth before the sweep.
        after: with the depth that it came to.
        scores: (1, P, h, w) float16 of the sweep; None without another view to match against.
        looks: (1, C, H, W) of every pixel, if others are matched against it.
        confirmed: (H, W) where its neighbours came to the same; None if that was not asked.
    """

    before: DepthView
    after: DepthView
    scores: Tensor | None
    looks: Tensor | None
    confirmed: np.ndarray | None = None

    @property
    def is_keyframe(self) -> bool:
        return self.before.is_keyframe


@torch.inference_mode()
def refined_views(views: Iterable[DepthView], checked: bool = False) -> Iterator[DepthView]:
    """Yield views whose depth was refined against the keyframes around them.

    Args:
        views: in order of time; pixels without depth stay without.
        checked: leave out what too few of the keyframes around confirm.
    """
    swept_views = _swept_views(views)
    if checked:
        swept_views = _confirmed(swept_views)
    for swept, around in with_neighbours(swept_views, WINDOW, lambda swept: swept.is_keyframe):
        depth = swept.after.depth
        if swept.scores is not None:
            others = _best(swept.before, around, lambda other: other.before)
            rays = _Rays(swept.before, WIDE_SWEEP)
            depth = rays.best_depth(
                swept.scores.float() + CONSISTENCY * rays.support([other.after for other in others])
            )
            rays = _Rays(dataclasses.replace(swept.before, depth=depth), FINE_SWEEP)
            looks = _looks(swept.before, FINE_SWEEP) if swept.looks is None else swept.looks
            depth = rays.best_depth(rays.scores(looks, [(other.looks, other.before) for other in others]))
        if checked:
            depth = np.where(swept.confirmed, depth, np.float32(0))
        yield dataclasses.replace(swept.before, depth=depth)


def refined_predictions(predictions: Iterable[Prediction]) -> Iterator[Prediction]:
    """Yield predictions of keyframes, in order of time, with their depth refined as `refined_views` does it.

    What else they hold stays as the network had it, confidence and latency too.
    """
    kept, copies = itertools.tee(predictions)
    views = predicted_views((prediction, item, True) for prediction, item in copies)
    for (prediction, item), view in zip(kept, refined_views(views), strict=True):
        yield dataclasses.replace(prediction, depth=view.depth, refined=True), item


def _swept_views(views: Iterable[DepthView]) -> Iterator[_Swept]:
    held = (_Held(view, _looks(view, WIDE_SWEEP) if view.is_keyframe else None) for view in views)
    for one, around in with_neighbours(held, WINDOW, lambda one: one.view.is_keyframe):
        view, after, scores = one.view, one.view, None
        if others := _best(view, around, lambda other: other.view):
            rays = _Rays(view, WIDE_SWEEP)
            looks = _looks(view, WIDE_SWEEP) if one.looks is None else one.looks
            scores = rays.scores(looks, [(other.looks, other.view) for other in others])
            after, scores = dataclasses.replace(view, depth=rays.best_depth(scores)), scores.half()
        yield _Swept(view, after, scores, _looks(view, FINE_SWEEP) if view.is_keyframe else None)


def _confirmed(swept_views: Iterable[_Swept]) -> Iterator[_Swept]:
    for swept, around in with_neighbours(swept_views, CHECK_REACH, lambda swept: swept.is_keyframe):
        yield dataclasses.replace(swept, confirmed=confirmed(swept.after, [other.after for other in around]))


class _Rays:
    """The rays of a view and the depths that a sweep tries on them.

    Args:
        view: whose rays, with the depth before the sweep.
        sweep: which pixels and depths.
    """

    def __init__(self, view: DepthView, sweep: Sweep) -> None:
        self._view, self._sweep = view, sweep
        depth = self._before = image_tensor(view.depth)
        # Pixels without depth are matched as if they were far away, and left out at the end.
        coarse = torch.where(depth > 0, depth, torch.full_like(depth, 10.0))[..., :: sweep.step, :: sweep.step]
        self._size = coarse.shape[-2:]
        pixels = pixel_grid(*self._size, like=coarse) * coarse.new_tensor((sweep.step, sweep.step, 1.0)).view(3, 1)
        K = matrix_tensor(view.K)
        self._rays = torch.linalg.inv(K) @ pixels
        self._K = scale_intrinsics(K, 1 / sweep.step)
        self._world_T_cam = matrix_tensor(view.world_T_cam)
        self._depths = coarse.flatten(2) * torch.exp(sweep.changes).view(1, -1, 1)

    def scores(self, looks: Tensor, others: list[tuple[Tensor, DepthView]]) -> Tensor:
        """Return how well (1, P, h, w) the view's looks match those of the others at each depth, less the bias."""
        matched = match_along_rays(
            self._rays,
            1 / self._depths,
            self._K,
            self._world_T_cam,
            looks.flatten(2),
            [(there, matrix_tensor(other.world_T_cam)) for there, other in others],
        )
        sides = self._sweep.neighbourhoods
        means = NeighbourhoodMeans(*(self._image(part) for part in matched), max(sides))
        score = torch.stack([means.over(side) for side in sides]).mean(dim=0)
        return score - BIAS * self._sweep.changes.abs().view(1, -1, 1, 1)

    def support(self, others: list[DepthView]) -> Tensor:
        """Return how far (1, P, h, w) the depth of the others speaks for each depth, 0..1."""
        step = self._sweep.step
        depths = [(image_tensor(other.depth[::step, ::step]), matrix_tensor(other.world_T_cam)) for other in others]
        return self._image(consistency(self._rays, self._depths, self._K, self._world_T_cam, depths, CONTRADICTION))

    def best_depth(self, scores: Tensor) -> np.ndarray:
        """Return the depth (H, W) that semi-global matching chooses by the scores; 0 where there was none before."""
        step = self._sweep.step
        grey = torch.from_numpy(cv2.cvtColor(self._view.image, cv2.COLOR_RGB2GRAY))[::step, ::step].float()
        change = _best_change(semi_global_scores(scores[0], grey)[None], self._sweep.changes)
        if step > 1:
            change = functional.interpolate(change, self._before.shape[-2:], mode="bilinear", align_corners=False)
        return (self._before * torch.exp(change))[0, 0].numpy()

    def _image(self, values: Tensor) -> Tensor:
        return values.view(1, self._sweep.planes, *self._size)


def _best_change(score: Tensor, changes: Tensor) -> Tensor:
    """The change (B, 1, h, w) of the highest score (B, P, h, w), between planes by a parabola through three."""
    best = score.argmax(dim=1, keepdim=True)
    middle = best.clamp(1, len(changes) - 2)
    before, here, after = (score.gather(1, middle + step) for step in (-1, 0, 1))
    offset = (before - after) / (2 * (before - 2 * here + after).clamp(max=-1e-6))
    position = torch.where(best == middle, middle + offset.clamp(-0.5, 0.5), best.float())
    return changes[0] + position * (changes[1] - changes[0])


def _best(view: DepthView, around: list[View], view_of: Callable[[View], DepthView]) -> list[View]:
    """Those of the keyframes around a view that it is matched against."""
    return [around[index] for index in best_views(view, [view_of(other) for other in around], VIEWS)]


def _looks(view: DepthView, sweep: Sweep) -> Tensor:
    """What the pixels of a sweep are compared by: (1, C, h, w)."""
    descriptors = {1: full_patch_descriptors, 2: patch_descriptors}[sweep.step]
    return descriptors(torch.from_numpy(normalise(view.image))[None])
