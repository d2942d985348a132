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
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from dvmvs_core.matching.descriptors import Descriptors
from dvmvs_core.matching.keyframe import MatchingView
from dvmvs_core.radial_distortion import straightened


class StraightViews:
    """Describes keyframes anew where another distortion was taken out of their images, and keeps the descriptors.

    Args:
        describe: makes the descriptors of an image (H, W, 3) of values 0…255.
    """

    def __init__(self, describe: Callable[[Tensor], Descriptors]) -> None:
        self._describe = describe
        self._anew: WeakKeyDictionary[Descriptors, tuple[float, Descriptors]] = WeakKeyDictionary()

    def __call__(self, views: Sequence[MatchingView], distortion: float) -> list[MatchingView]:
        """Return the views with descriptors of images without that distortion."""
        return [view if view.distortion == distortion else self._straight(view, distortion) for view in views]

    def _straight(self, view: MatchingView, distortion: float) -> MatchingView:
        known = self._anew.get(view.descriptors)
        if known is None or known[0] != distortion:
            image = torch.as_tensor(view.descriptors.image).float()
            described = self._describe(straightened(image, view.K, distortion - view.distortion))
            known = distortion, replace(described, levels=None)
            self._anew[view.descriptors] = known
        return replace(view, descriptors=known[1], distortion=distortion)
