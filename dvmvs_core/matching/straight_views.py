# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Past keyframes as straight as the one that is matched: what is known of a camera's distortion grows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from dvmvs_core.matching.descriptors import Descriptors
from dvmvs_core.matching.keyframe import MatchedDepth, MatchingView
from dvmvs_core.radial_distortion import straight_maps, straightened

Source = TypeVar("Source", Descriptors, MatchedDepth)


class StraightViews:
    """Past keyframes as if another distortion had been taken out of their images; what that takes is kept.

    Args:
        describe: makes the descriptors of an image (H, W, 3) of values 0…255.
    """

    def __init__(self, describe: Callable[[Tensor], Descriptors]) -> None:
        self._describe = describe
        self._described: WeakKeyDictionary[Descriptors, tuple[float, Descriptors]] = WeakKeyDictionary()
        self._moved: WeakKeyDictionary[MatchedDepth, tuple[float, MatchedDepth]] = WeakKeyDictionary()

    def described(self, views: Sequence[MatchingView], like: MatchingView) -> list[MatchingView]:
        """Return the views with descriptors of images as straight as those of another, with their intrinsics.

        Args:
            views: whose intrinsics may be others than those that their images were straightened by.
            like: a view of the same camera, with the intrinsics that it was given.
        """
        return [view if view.distortion == like.distortion else self._anew(view, like) for view in views]

    def with_depth(self, views: Sequence[MatchingView], like: MatchingView) -> list[MatchingView]:
        """Return the views, which all were matched, with the depth that later keyframes start from at such pixels."""
        return [view if view.distortion == like.distortion else self._with_moved(view, like) for view in views]

    def _anew(self, view: MatchingView, like: MatchingView) -> MatchingView:
        def described() -> Descriptors:
            image = torch.as_tensor(view.descriptors.image).float()
            straight = straightened(image, like.K, like.distortion - view.distortion)
            return replace(self._describe(straight), levels=None)

        descriptors = _kept(self._described, view.descriptors, like.distortion, described)
        return replace(view, descriptors=descriptors, distortion=like.distortion)

    def _with_moved(self, view: MatchingView, like: MatchingView) -> MatchingView:
        def moved(maps: Tensor, cells: int) -> Tensor:
            K = np.diag((1 / cells, 1 / cells, 1)) @ like.K
            return straight_maps(maps, K, like.distortion - view.distortion)

        matched = _kept(self._moved, view.matched, like.distortion, lambda: view.matched.moved(moved))
        return replace(view, matched=matched)


def _kept(
    made: WeakKeyDictionary[Source, tuple[float, Source]],
    source: Source,
    distortion: float,
    make: Callable[[], Source],
) -> Source:
    """What was made of a source for that distortion, or is made now in place of what was made for another."""
    known = made.get(source)
    if known is None or known[0] != distortion:
        known = made[source] = distortion, make()
    return known[1]
