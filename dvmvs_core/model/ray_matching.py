# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Matching of single points along the rays of a view: what a plane sweep does, at depths of one's own choice.

Symbols: B batch, C channels of the matching maps, P depths on a ray, N rays, half_K intrinsics (B, 3, 3) of the
matching maps, poses world_T_cam (B, 4, 4).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional

from dvmvs_core.model.pinhole import inverse
from dvmvs_core.model.warping import sampling_grid, warp_to_rays

MIN_NORM = 1e-3
"""Of descriptors that count in full: what is less is rounding error, of patches of one colour for instance."""


def match_along_rays(
    rays: Tensor,
    inverse_depths: Tensor,
    half_K: Tensor,
    world_T_ref: Tensor,
    reference: Tensor,
    measurements: Iterable[tuple[Tensor, Tensor]],
) -> tuple[Tensor, Tensor]:
    """Compare the descriptors of points with those of their rays.

    Args:
        rays: (B, 3, N) of the reference frame, with z = 1.
        inverse_depths: (B, P, N) of the points, 1/m.
        half_K: intrinsics of the measurement frames' maps, pixels.
        world_T_ref: pose of the reference frame.
        reference: (B, C, N) matching map of the reference frame at the rays.
        measurements: (matching map (B, C, h, w), pose) of each measurement frame.

    Returns:
        Sum (B, P, N) of the cosine of both descriptors over the measurement frames that have the point in view, and
        how many do.
    """
    transforms = ((matching, inverse(pose) @ world_T_ref) for matching, pose in measurements)
    return match_at_pixels(
        inverse_depths,
        reference,
        ((matching, half_K @ T[:, :3, :3] @ rays, (half_K @ T[:, :3, 3:])[..., 0]) for matching, T in transforms),
    )


def match_at_pixels(
    inverse_depths: Tensor, reference: Tensor, measurements: Iterable[tuple[Tensor, Tensor, Tensor]]
) -> tuple[Tensor, Tensor]:
    """Compare descriptors as `match_along_rays` does, by where frames see the rays.

    Args:
        inverse_depths: (B, P, N) of the points, 1/m.
        reference: (B, C, N) matching map of the reference frame at the rays.
        measurements: of each measurement frame its matching map (B, C, h, w), the homogeneous pixels (B, 3, N) of the
            rays' ends at infinity, and what an inverse depth of 1 adds to them, (B, 3).

    Returns:
        As `match_along_rays`.
    """
    own = functional.normalize(reference.float(), dim=1, eps=MIN_NORM)[:, :, None]  # (B, C, 1, N)
    total = count = torch.zeros_like(inverse_depths)
    for measurement, ends, translation in measurements:
        warped, in_view = warp_to_rays(measurement.float(), ends, translation, inverse_depths)  # (B, C, P, N)
        norms = warped.square().sum(dim=1).sqrt().clamp(min=MIN_NORM)
        total = total + (own * warped).sum(dim=1) / norms * in_view
        count = count + in_view
    return total, count


def look_up(points: Tensor, K: Tensor, world_T_cam: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Find where a camera sees points (B, 3, N) of the world.

    Returns:
        Sampling grid (B, 1, N, 2) over its image of `size`, depth (B, N) in it, and which points are in view (B, N).
    """
    cam_T_world = inverse(world_T_cam)
    pixels = K @ (cam_T_world[:, :3, :3] @ points + cam_T_world[:, :3, 3:])
    grid, in_view = sampling_grid(pixels[:, :2, None], pixels[:, 2][:, None], size)
    return grid, pixels[:, 2], in_view[:, 0]


class NeighbourhoodMeans:
    """Means of what was counted, over square neighbourhoods.

    They are differences of sums over all that is above and to the left, which on a CPU takes a sixth of the time of
    torch's average pooling over the same squares.

    Args:
        total: (B, P, h, w).
        count: (B, P, h, w) how many each total is of.
        largest: side of the largest square that will be asked for, odd.
    """

    def __init__(self, total: Tensor, count: Tensor, largest: int) -> None:
        self._reach = reach = largest // 2
        maps = torch.cat((total, count), dim=1)
        self._sums = functional.pad(maps, (reach + 1, reach, reach + 1, reach)).cumsum(dim=-1).cumsum(dim=-2)

    def over(self, side: int) -> Tensor:
        """Return the means (B, P, h, w) over squares of a side, odd; 0 where nothing was counted."""
        rim = self._reach - side // 2
        inner = self._sums[..., rim : self._sums.shape[-2] - rim, rim : self._sums.shape[-1] - rim]
        before, after = slice(None, -side), slice(side, None)
        sums = inner[..., after, after] - inner[..., before, after]
        sums = sums - inner[..., after, before] + inner[..., before, before]
        total, count = sums.chunk(2, dim=1)
        return total / count.clamp(min=1.0)
