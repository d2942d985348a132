# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Which solids can matter to which tiles: bounds only, so that a tile may get a solid too many but never one too few.

Each function answers with a (T, S) boolean table for T tiles and the S solids of a world; `to_pairs` lists what is true
in it. That listing is where a GPU has to report back: eight times a call, whatever the number of tiles.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dvmvs_core.synthetic.raycast import Pairs
from dvmvs_core.synthetic.world_tensors import WorldTensors

_CLOSE_M = 0.02
"""What reaches nearer to the image plane than this has no bounds on the image."""


def to_pairs(table: Tensor, part: slice, first_row: Tensor) -> Pairs:
    """List the pairs of a table (T, S) whose solids lie in a part, as rows of the tables of all frames' solids.

    Args:
        table: (T, S) bool.
        part: of the solids.
        first_row: (T,) row at which the solids of the tile's frame begin.
    """
    tile, solid = table[:, part].nonzero(as_tuple=True)
    return Pairs(tile, first_row[tile] + solid + part.start)


def in_view(world: WorldTensors, world_T_cam: Tensor, K: Tensor, low: Tensor, high: Tensor, frame: Tensor) -> Tensor:
    """Solids whose enclosing box, projected, meets the rectangle of a tile.

    Args:
        world: Tensors of F frames.
        world_T_cam: (F, 4, 4).
        K: (F, 3, 3) pixels.
        low: (T, 2) least x and y among the tile's pixels.
        high: (T, 2) greatest.
        frame: (T,) number of the tile's frame.

    Returns:
        (T, S) bool.
    """
    signs = torch.arange(-1.0, 2.0, 2.0, device=low.device)  # a tensor of numbers would have to be sent
    corners = torch.cartesian_prod(signs, signs, signs)  # (8, 3)
    edges = world.world_R_solid * world.half[:, :, None]  # columns: half sizes along the world's axes
    offsets = (edges[:, :, None] * corners[:, None]).sum(-1)  # (F, S, 8, 3)
    relative = world.centre[:, :, None] + offsets - world_T_cam[:, None, None, :3, 3]
    x, y, z = ((relative * world_T_cam[:, None, None, :3, k]).sum(-1) for k in range(3))  # each (F, S, 8)
    near = z.clamp(min=_CLOSE_M)
    # A corner's rounding must not cut off a pixel that its edge still covers.
    margin = 0.01
    bounds = []
    for values, axis in ((x, 0), (y, 1)):
        image = values / near * K[:, axis, axis, None, None] + K[:, axis, 2, None, None]
        unbounded = (z < _CLOSE_M).any(-1)
        least = torch.where(unbounded, -torch.inf, image.amin(-1) - margin)[frame]
        greatest = torch.where(unbounded, torch.inf, image.amax(-1) + margin)[frame]
        bounds.append((least <= high[:, axis, None]) & (greatest >= low[:, axis, None]))
    return bounds[0] & bounds[1] & (z > 0.0).any(-1)[frame]


def towards(world: WorldTensors, frame: Tensor, points: Tensor, light: Tensor) -> Tensor:
    """Solids whose enclosing ball meets a straight way from a tile's points to its light.

    Args:
        world: Tensors of F frames.
        frame: (T,) number of the tile's frame.
        points: (T, 3, n) metres.
        light: (T, 3) metres.

    Returns:
        (T, S) bool.
    """
    middle, reach = _enclosing_ball(points)
    line = light - middle
    length = _norm(line).clamp(min=1e-6)[:, None]
    along = line / length
    offset = world.centre[frame] - middle[:, None]  # (T, S, 3)
    share = (offset * along[:, None]).sum(-1)
    aside = offset - share.clamp(min=0.0).minimum(length)[..., None] * along[:, None]
    radius = _norm(world.half)[frame]
    # The ways narrow towards the light. The widest place that a ball can touch is its own extent nearer to the points.
    widest = 1.0 - ((share - radius - reach[:, None]) / length).clamp(0.0, 1.0)
    return _norm(aside) <= radius + reach[:, None] * widest + 0.01


def around(world: WorldTensors, frame: Tensor, points: Tensor, distance_m: float) -> Tensor:
    """Solids whose enclosing ball comes within a distance of the ball around a tile's points; as of `towards`."""
    middle, reach = _enclosing_ball(points)
    radius = _norm(world.half)[frame]
    gap = _norm(world.centre[frame] - middle[:, None])
    return gap <= radius + reach[:, None] + distance_m


def _enclosing_ball(points: Tensor) -> tuple[Tensor, Tensor]:
    """Middle (T, 3) and radius (T,) of a ball around points (T, 3, n)."""
    low, high = points.amin(2), points.amax(2)
    return 0.5 * (low + high), 0.5 * _norm(high - low)


def _norm(vectors: Tensor) -> Tensor:
    """Length of vectors (..., 3); torch's own norm takes thirty times as long over a short axis."""
    return vectors.square().sum(-1).sqrt()
