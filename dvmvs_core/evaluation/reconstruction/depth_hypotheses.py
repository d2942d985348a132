# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Depths that a view might have at each pixel, and what other views say of them.

Symbols: P depths at each pixel, (h, w) pixels that are tried, (H, W) all pixels of the view.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dvmvs_core.evaluation.reconstruction.depth_views import DepthView
from dvmvs_core.evaluation.reconstruction.geometric_consistency import consistency, image_tensor, matrix_tensor
from dvmvs_core.model.pinhole import pixel_grid, scale_intrinsics
from dvmvs_core.model.ray_matching import NeighbourhoodMeans, match_along_rays


class DepthHypotheses:
    """Depths on the rays of a view.

    Args:
        view: whose rays; its depth counts for nothing.
        depths: (1, P, h, w) metres, above 0.
        step: pixels of the view between two that are tried.
    """

    def __init__(self, view: DepthView, depths: Tensor, step: int) -> None:
        self._shape, self._step = depths.shape, step
        self._depths = depths.flatten(2)
        pixels = pixel_grid(*depths.shape[-2:], like=depths) * depths.new_tensor((step, step, 1.0)).view(3, 1)
        K = matrix_tensor(view.K)
        self._rays = torch.linalg.inv(K) @ pixels
        self._K = scale_intrinsics(K, 1 / step)
        self._world_T_cam = matrix_tensor(view.world_T_cam)

    def similarity(self, descriptors: Tensor, others: list[tuple[Tensor, DepthView]], sides: tuple[int, ...]) -> Tensor:
        """Return how well (1, P, h, w) the descriptors of the view match those of others at each depth, -1..1.

        Args:
            descriptors: (1, C, h, w) of the pixels that are tried.
            others: descriptors (1, C, h, w) of each other view, and the view.
            sides: of the squares, in pixels that are tried, over which matching is averaged; their mean counts. Odd.
        """
        matched = match_along_rays(
            self._rays,
            1 / self._depths,
            self._K,
            self._world_T_cam,
            descriptors.flatten(2),
            [(there, matrix_tensor(other.world_T_cam)) for there, other in others],
        )
        means = NeighbourhoodMeans(*(part.view(self._shape) for part in matched), max(sides))
        return torch.stack([means.over(side) for side in sides]).mean(dim=0)

    def support(self, others: list[DepthView], contradiction: float) -> Tensor:
        """Return how far (1, P, h, w) the depth of other views speaks for each depth, 0..1.

        Args:
            others: views with depth.
            contradiction: relative difference from which on their depth speaks against one.
        """
        step = self._step
        depths = [(image_tensor(other.depth[::step, ::step]), matrix_tensor(other.world_T_cam)) for other in others]
        support = consistency(self._rays, self._depths, self._K, self._world_T_cam, depths, contradiction)
        return support.view(self._shape)
