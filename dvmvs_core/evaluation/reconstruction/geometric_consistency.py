# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Whether the depth maps of several views speak of the same surface.

What a depth map invents at edges and on blank walls hardly ever agrees with what the next one invents.

Symbols: P depths on a ray, N rays.

Sources: Yao et al., "MVSNet", ECCV 2018, section 4.2 (a pixel stays if three views say the same); Xu and Tao,
"Multi-Scale Geometric Consistency Guided Multi-View Stereo", CVPR 2019, section 3.3 (depths that other views have at
a point count while depth is still being chosen).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from dvmvs_core.evaluation.reconstruction.depth_views import DepthView
from dvmvs_core.model.pinhole import pixel_grid
from dvmvs_core.model.ray_matching import look_up
from dvmvs_core.model.warping import sampling_grid

View = TypeVar("View")

MIN_ASKED = 3
"""Views that must all speak for a depth to be wholly consistent, where fewer have it in view."""

CHECK_REACH = 4
"""Keyframes on either side that are asked whether they agree."""

AGREEMENT = 0.03
"""Largest difference of the logarithms of two depths that say the same."""

MIN_AGREEING = 3
"""Keyframes that must."""


def consistency(
    rays: Tensor,
    depths: Tensor,
    K: Tensor,
    world_T_cam: Tensor,
    others: Iterable[tuple[Tensor, Tensor]],
    tolerance: float,
) -> Tensor:
    """Return how far (1, P, N) other views' depth speaks for each depth on a ray: 0 not at all, 1 all of them exactly.

    Args:
        rays: (1, 3, N) of a view, with z = 1.
        depths: (1, P, N) on the rays, metres.
        K: (1, 3, 3) intrinsics of the other views' depth.
        world_T_cam: (1, 4, 4) pose of the view.
        others: depth (1, 1, h, w) in metres, 0 = none, and pose (1, 4, 4) of each other view.
        tolerance: relative difference from which on a depth is contradicted; below it, it is supported in proportion.
    """
    support = asked = torch.zeros_like(depths)
    inverse_depths = 1 / depths
    for depth, world_T_other in others:
        other_T_cam = torch.linalg.inv(world_T_other) @ world_T_cam
        ends, translation = K @ other_T_cam[:, :3, :3] @ rays, K @ other_T_cam[:, :3, 3:]
        # Homogeneous pixels divided by the depth on the ray, so (1, 3, P, N) need not be multiplied by it.
        pixels = ends[:, :, None] + translation[..., None] * inverse_depths[:, None]
        grid, in_view = sampling_grid(pixels[:, :2], pixels[:, 2], depth.shape[-2:])
        there = functional.grid_sample(depth, grid, mode="nearest", align_corners=True)[:, 0]
        difference = (there / (pixels[:, 2] * depths).clamp(min=1e-3) - 1).abs()
        in_view = in_view & (there > 0)
        support = support + (1 - difference / tolerance).clamp(min=0) * in_view
        asked = asked + in_view
    return support / asked.clamp(min=MIN_ASKED)


def with_neighbours(
    views: Iterable[View], reach: int, is_keyframe: Callable[[View], bool] = lambda view: True
) -> Iterator[tuple[View, list[View]]]:
    """Yield every view with the nearest keyframes on either side of it, in order.

    Args:
        views: in order of time.
        reach: how many keyframes on either side, fewer at the ends.
        is_keyframe: which views can be neighbours: others hardly moved.
    """
    held: list[View] = []
    position = 0  # of the next view to yield in `held`
    for view in views:
        held.append(view)
        while sum(map(is_keyframe, held[position + 1 :])) >= reach:
            yield _surroundings(held, position, reach, is_keyframe)
            position += 1
            while sum(map(is_keyframe, held[1:position])) >= reach:
                del held[0]
                position -= 1
    for last in range(position, len(held)):
        yield _surroundings(held, last, reach, is_keyframe)


def _surroundings(
    held: list[View], position: int, reach: int, is_keyframe: Callable[[View], bool]
) -> tuple[View, list[View]]:
    before = [view for view in held[:position] if is_keyframe(view)][-reach:]
    after = [view for view in held[position + 1 :] if is_keyframe(view)][:reach]
    return held[position], before + after


def agreeing_views(views: Iterable[DepthView]) -> Iterator[DepthView]:
    """Yield views without the depth that too few of the keyframes around them confirm."""
    for view, neighbours in with_neighbours(views, CHECK_REACH, lambda view: view.is_keyframe):
        yield dataclasses.replace(view, depth=np.where(confirmed(view, neighbours), view.depth, 0))


@torch.inference_mode()
def confirmed(view: DepthView, neighbours: list[DepthView]) -> np.ndarray:
    """Return at which pixels (h, w) of a view enough of its neighbours have the same depth."""
    # At the ends of a recording there are fewer to ask.
    needed = min(MIN_AGREEING, max(1, len(neighbours) - 1))
    return _confirmations(view, neighbours) >= needed


def _confirmations(view: DepthView, neighbours: list[DepthView]) -> np.ndarray:
    """How many neighbours (h, w) have depth at the points of a view that says the same."""
    depth = image_tensor(view.depth)
    count = torch.zeros_like(depth)
    K, world_T_cam = matrix_tensor(view.K), matrix_tensor(view.world_T_cam)
    rays = torch.linalg.inv(K) @ pixel_grid(*depth.shape[-2:], like=depth)
    points = world_T_cam[:, :3, :3] @ (rays * depth.flatten(2)) + world_T_cam[:, :3, 3:]
    for other in neighbours:
        there = image_tensor(other.depth)
        grid, z, in_view = look_up(points, matrix_tensor(other.K), matrix_tensor(other.world_T_cam), there.shape[-2:])
        seen = functional.grid_sample(there, grid, mode="nearest", align_corners=True)[:, 0, 0]
        difference = (seen.clamp(min=1e-3).log() - z.clamp(min=1e-3).log()).abs()
        count += ((difference < AGREEMENT) & in_view & (seen > 0)).view(count.shape)
    return count[0, 0].numpy()


def image_tensor(depth: np.ndarray) -> Tensor:
    """Return a depth image (h, w) as (1, 1, h, w) float32."""
    return torch.tensor(depth, dtype=torch.float32)[None, None]


def matrix_tensor(matrix: np.ndarray) -> Tensor:
    """Return intrinsics or a pose (n, n) as (1, n, n) float32."""
    return torch.from_numpy(np.asarray(matrix, dtype=np.float32))[None]
