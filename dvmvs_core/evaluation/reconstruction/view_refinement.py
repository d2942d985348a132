# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Predicted depth made sharper before it is fused, by what only an offline run has: the views that come later.

Refinement: a plane sweep in a range about the predicted depth, against those keyframes before and after that see the
same points at a good angle; then another in a small range about what came out, at every pixel. Looks are compared as
normalised 3×3 patches, averaged over neighbourhoods, with a small bias towards the depth before that decides where
there is nothing to see. Semi-global matching chooses among them, so that edges of depth keep to edges of the image.

Check: a pixel stays if the keyframes around say the same of its point; what a depth map invents at edges and on blank
walls hardly ever agrees with what the next one invents.

Source for the check: Yao et al., "MVSNet", ECCV 2018, section 4.2 (geometric constraint, three views at least).
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from dvmvs_core.evaluation.predict import Prediction
from dvmvs_core.evaluation.reconstruction.depth_views import DepthView, predicted_views
from dvmvs_core.evaluation.reconstruction.neighbours import with_neighbours
from dvmvs_core.evaluation.reconstruction.semi_global import semi_global_scores
from dvmvs_core.evaluation.reconstruction.view_selection import best_views
from dvmvs_core.model.intrinsics import pixel_grid, scale_intrinsics
from dvmvs_core.model.patch_matching import full_patch_descriptors, patch_descriptors
from dvmvs_core.model.ray_matching import NeighbourhoodMeans, look_up, match_along_rays
from dvmvs_core.preprocess import normalise

Looks = dict[int, Tensor]
"""What a view is compared by: a matching map (1, C, h, w) for each step of the sweeps."""

WINDOW = 30
"""Keyframes on either side among which those to match against are chosen."""

VIEWS = 24
"""Keyframes to match against."""

BIAS = 0.05
"""Similarity that a change of the logarithm of depth by 1 must win."""

CHECK_REACH = 4
"""Keyframes on either side that are asked whether they agree."""

AGREEMENT = 0.03
"""Largest difference of the logarithms of two depths that say the same."""

LEAST_AGREEING = 3
"""Keyframes that must."""


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
    """A view in the window, with its looks if others are matched against it; they take more memory than all else."""

    view: DepthView
    looks: Looks | None


@torch.inference_mode()
def refined_views(views: Iterable[DepthView]) -> Iterator[DepthView]:
    """Yield views whose depth was refined against the keyframes around them; pixels without depth stay without."""
    held = (_Held(view, _looks(view) if view.is_keyframe else None) for view in views)
    for one, around in with_neighbours(held, WINDOW, lambda one: one.view.is_keyframe):
        view, depth = one.view, one.view.depth
        chosen = [around[index] for index in best_views(view, [other.view for other in around], VIEWS)]
        if chosen:
            looks = one.looks or _looks(view)
            for sweep in (WIDE_SWEEP, FINE_SWEEP):
                depth = _refine(view, depth, looks, chosen, sweep)
        yield dataclasses.replace(view, depth=depth)


def refined_predictions(predictions: Iterable[Prediction]) -> Iterator[Prediction]:
    """Yield predictions of keyframes, in order of time, with their depth refined as `refined_views` does it.

    What else they hold stays as the network had it, confidence and latency too.
    """
    kept, copies = itertools.tee(predictions)
    views = predicted_views((prediction, item, True) for prediction, item in copies)
    for (prediction, item), view in zip(kept, refined_views(views), strict=True):
        yield dataclasses.replace(prediction, depth=view.depth, refined=True), item


@torch.inference_mode()
def agreeing_views(views: Iterable[DepthView]) -> Iterator[DepthView]:
    """Yield views without the depth that too few of the keyframes around them confirm."""
    for view, neighbours in with_neighbours(views, CHECK_REACH, lambda view: view.is_keyframe):
        # At the ends of a recording there are fewer to ask.
        needed = min(LEAST_AGREEING, max(1, len(neighbours) - 1))
        yield dataclasses.replace(view, depth=np.where(_confirmations(view, neighbours) >= needed, view.depth, 0))


def _refine(view: DepthView, before: np.ndarray, looks: Looks, others: list[_Held], sweep: Sweep) -> np.ndarray:
    """The depth (h, w) of a view that the others' looks speak for, about the depth before."""
    depth = _image(before)
    known = depth > 0
    # Pixels without depth are matched as if they were far away, and left out at the end.
    coarse = torch.where(known, depth, torch.full_like(depth, 10.0))[..., :: sweep.step, :: sweep.step]
    K = _tensor(view.K)
    size = coarse.shape[-2:]
    pixels = pixel_grid(*size, like=coarse) * coarse.new_tensor((sweep.step, sweep.step, 1.0)).view(3, 1)
    changes = sweep.changes
    matched = match_along_rays(
        torch.linalg.inv(K) @ pixels,
        torch.exp(-changes).view(1, -1, 1) / coarse.flatten(2),
        scale_intrinsics(K, 1 / sweep.step),
        _tensor(view.world_T_cam),
        looks[sweep.step].flatten(2),
        [(other.looks[sweep.step], _tensor(other.view.world_T_cam)) for other in others],
    )
    sides = sweep.neighbourhoods
    means = NeighbourhoodMeans(*(part.view(1, sweep.planes, *size) for part in matched), max(sides))
    score = torch.stack([means.over(side) for side in sides]).mean(dim=0)
    score = score - BIAS * changes.abs().view(1, -1, 1, 1)
    grey = torch.from_numpy(cv2.cvtColor(view.image, cv2.COLOR_RGB2GRAY))[:: sweep.step, :: sweep.step].float()
    change = _best_change(semi_global_scores(score[0], grey)[None], changes)
    if sweep.step > 1:
        change = functional.interpolate(change, depth.shape[-2:], mode="bilinear", align_corners=False)
    return torch.where(known, depth * torch.exp(change), torch.zeros_like(depth))[0, 0].numpy()


def _best_change(score: Tensor, changes: Tensor) -> Tensor:
    """The change (B, 1, h, w) of the highest score (B, P, h, w), between planes by a parabola through three."""
    best = score.argmax(dim=1, keepdim=True)
    middle = best.clamp(1, len(changes) - 2)
    before, here, after = (score.gather(1, middle + step) for step in (-1, 0, 1))
    offset = (before - after) / (2 * (before - 2 * here + after).clamp(max=-1e-6))
    position = torch.where(best == middle, middle + offset.clamp(-0.5, 0.5), best.float())
    return changes[0] + position * (changes[1] - changes[0])


def _confirmations(view: DepthView, neighbours: list[DepthView]) -> np.ndarray:
    """How many neighbours (h, w) have depth at the points of a view that says the same."""
    depth = _image(view.depth)
    count = torch.zeros_like(depth)
    K, world_T_cam = _tensor(view.K), _tensor(view.world_T_cam)
    rays = torch.linalg.inv(K) @ pixel_grid(*depth.shape[-2:], like=depth)
    points = world_T_cam[:, :3, :3] @ (rays * depth.flatten(2)) + world_T_cam[:, :3, 3:]
    for other in neighbours:
        there = _image(other.depth)
        grid, z, in_view = look_up(points, _tensor(other.K), _tensor(other.world_T_cam), there.shape[-2:])
        seen = functional.grid_sample(there, grid, mode="nearest", align_corners=True)[:, 0, 0]
        difference = (seen.clamp(min=1e-3).log() - z.clamp(min=1e-3).log()).abs()
        count += ((difference < AGREEMENT) & in_view & (seen > 0)).view(count.shape)
    return count[0, 0].numpy()


def _looks(view: DepthView) -> Looks:
    image = torch.from_numpy(normalise(view.image))[None]
    return {1: full_patch_descriptors(image), 2: patch_descriptors(image)}


def _image(depth: np.ndarray) -> Tensor:
    return torch.tensor(depth, dtype=torch.float32)[None, None]


def _tensor(matrix: np.ndarray) -> Tensor:
    return torch.from_numpy(np.asarray(matrix, dtype=np.float32))[None]
