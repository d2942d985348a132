# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Where rays meet a world: exact z-depth of the first hit, and distances to what is near.

A ray of pixel (x, y) is `centre_cam + z * world_R_cam @ ((x - cx) / fx, (y - cy) / fy, 1)`, so its parameter z is the
depth along the optical axis. Pixel (0, 0) is the centre of the top-left pixel.

Rays come in tiles of n neighbouring pixels. Each of T tiles is intersected only with the solids that can matter to it
(`culling`): P pairs of a tile and a solid are one [P, n] expression, and a minimum over the pairs of each tile follows.
Temporary tensors stay small: pairs are taken in blocks that fit a core's cache, on a GPU in large ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from dvmvs_core.synthetic.world_tensors import ROOMS, SolidFrames

FAR_M = 1e4
_NEAREST_M = 1e-3
_BLOCK = {"cpu": 2**15, "cuda": 2**24}
"""Pairs times pixels that are worked on at once: temporary tensors of 128 KiB on a CPU, of 64 MiB on a GPU."""

Interval = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Entry and exit parameters (P, n) of rays through unit shapes, from origin and direction in the shape's own frame,
each (P, 3, n) or (P, 3, 1); no hit where entry >= exit."""


class Rays(NamedTuple):
    """Rays of T tiles of n pixels: origin (T, 3, 1) or (T, 3, n), direction (T, 3, n), both in the world."""

    origin: Tensor
    direction: Tensor


class Pairs(NamedTuple):
    """Pairs of a tile (P,) and a row (P,) of the tables of all frames' solids, int64, sorted by tile."""

    tile: Tensor
    row: Tensor


def pixel_rays(world_T_cam: Tensor, K: Tensor, x: Tensor, y: Tensor) -> Rays:
    """Make the rays of pixels.

    Args:
        world_T_cam: (T, 4, 4).
        K: (T, 3, 3) pixels.
        x: (T, n) or (1, n) pixels, fractions included.
        y: like `x`.

    Returns:
        Rays whose z is 1 in the camera.
    """
    across = (x - K[:, 0, 2, None]) / K[:, 0, 0, None]
    down = (y - K[:, 1, 2, None]) / K[:, 1, 1, None]
    axes = world_T_cam[:, :3, :3]
    direction = axes[:, :, 0:1] * across[:, None] + axes[:, :, 1:2] * down[:, None] + axes[:, :, 2:3]
    return Rays(world_T_cam[:, :3, 3:], direction)


def to_own_axes(rows: Tensor, vectors: Tensor) -> Tensor:
    """Take (P, 3, n) world vectors to (P, 3, n) components, by rows (P, 3, 3) of `SolidFrames`.

    Written out, since a GPU's matrix product may round to ten bits.
    """
    x, y, z = vectors[:, None, 0], vectors[:, None, 1], vectors[:, None, 2]
    return torch.addcmul(torch.addcmul(rows[:, :, 0, None] * x, rows[:, :, 1, None], y), rows[:, :, 2, None], z)


def _slab(origin: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    """Interval of a ray inside -1..1 along one axis."""
    inverse = (direction + 1e-9).reciprocal_()
    middle = -origin * inverse
    reach = inverse.abs_()
    return middle - reach, middle + reach


def box_interval(origin: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    """`Interval` of the cube from -1 to 1."""
    entry, leave = _slab(origin, direction)
    return entry.amax(1), leave.amin(1)


def ellipsoid_interval(origin: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    """`Interval` of the unit ball."""
    return _quadratic(direction.square().sum(1), (origin * direction).sum(1), origin.square().sum(1) - 1.0)


def cylinder_interval(origin: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    """`Interval` of the cylinder about z of radius 1 from z = -1 to 1."""
    round_in, round_out = ellipsoid_interval(origin[:, :2], direction[:, :2])
    cap_in, cap_out = _slab(origin[:, 2], direction[:, 2])
    return torch.maximum(round_in, cap_in), torch.minimum(round_out, cap_out)


def _quadratic(a: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """Interval where a t^2 + 2 b t + c < 0; empty (far, -far) where the ray misses."""
    discriminant = b * b - a * c
    hit = discriminant > 0.0
    root = discriminant.clamp_(min=0.0).sqrt_()
    inverse = a.clamp(min=1e-12).reciprocal_()
    return torch.where(hit, (-b - root) * inverse, FAR_M), torch.where(hit, (-b + root) * inverse, -FAR_M)


def room_exit(room_low: Tensor, room_high: Tensor, rays: Rays) -> tuple[Tensor, Tensor]:
    """Where rays leave the union of rooms.

    Starting in some room, the exit moves on through every other room whose interval holds it. As many passes as rooms
    follow any chain of doorways.

    Args:
        room_low: (T, ROOMS, 3) metres.
        room_high: (T, ROOMS, 3) metres.
        rays: T tiles.

    Returns:
        (z (T, n), room index (T, n) int64).
    """
    far = torch.zeros_like(rays.direction[:, 0])
    index = torch.zeros_like(far, dtype=torch.int64)
    spans = []
    for room in range(ROOMS):
        middle = 0.5 * (room_low + room_high)[:, room, :, None]
        half = 0.5 * (room_high - room_low)[:, room, :, None]
        spans.append(box_interval((rays.origin - middle) / half, rays.direction / half))
    for _ in range(ROOMS - 1):
        for room, (entry, leave) in enumerate(spans):
            inside = (entry <= far + 1e-4) & (leave > far)
            far = torch.where(inside, leave, far)
            index = torch.where(inside, room, index)
    return far, index


def blocks(pairs: Pairs, pixels: int) -> Iterator[Pairs]:
    """Cut pairs into blocks that are worked on at once."""
    size = max(1, _BLOCK["cpu" if pairs.tile.device.type == "cpu" else "cuda"] // pixels)
    for tile, row in zip(pairs.tile.split(size), pairs.row.split(size), strict=True):
        yield Pairs(tile, row)


def nearest_of(
    best: Tensor, pairs: Pairs, interval: Interval, frames: SolidFrames, rays: Rays, first_row: Tensor
) -> None:
    """Let the nearest entry of pairs replace what is farther.

    Args:
        best: (T, n) int64 of `packed`, changed in place.
        pairs: Tiles, and rows of the tables.
        interval: Of the shape that all pairs have.
        frames: Scaled tables of all frames, flattened: (F * S, 3, 3) and (F * S, 3).
        rays: T tiles that each have one origin.
        first_row: (T,) row of the tables at which the tile's frame begins.
    """
    for tile, row in blocks(pairs, best.shape[1]):
        rows = frames.rows[row]
        origin = to_own_axes(rows, rays.origin[tile]) - frames.shift[row, :, None]
        entry, leave = interval(origin, to_own_axes(rows, rays.direction[tile]))
        z = torch.where((entry < leave) & (entry > _NEAREST_M), entry, FAR_M)
        lower(best, tile, packed(z, (row - first_row[tile])[:, None]))


def lower(least: Tensor, tile: Tensor, values: Tensor) -> None:
    """Let values (P, n) of tiles (P,) replace what is greater in (T, n), in place."""
    least.scatter_reduce_(0, tile[:, None].expand_as(values), values, "amin")


def packed(z: Tensor, index: Tensor) -> Tensor:
    """Put a positive depth and a number into one int64, so that one minimum finds the nearest and which it is.

    Positive floats sort like their bits.
    """
    return (z.view(torch.int32).to(torch.int64) << 32).bitwise_or_(index)


def unpacked(best: Tensor) -> tuple[Tensor, Tensor]:
    """Depth (float32) and number (int64) of `packed`."""
    return (best >> 32).to(torch.int32).view(torch.float32), best & 0xFFFFFFFF


def gap_to(frames: SolidFrames, half: Tensor, points: Tensor) -> Tensor:
    """Distance (P, n) from points (P, 3, n) to boxes, negative inside; round solids are counted as boxes.

    Args:
        frames: Tables in metres, (P, 3, 3) and (P, 3).
        half: (P, 3) metres.
        points: (P, 3, n) metres.
    """
    beyond = (to_own_axes(frames.rows, points) - frames.shift[:, :, None]).abs_() - half[:, :, None]
    return beyond.clamp(min=0.0).square_().sum(1).sqrt_() + beyond.amax(1).clamp_(max=0.0)


def gap_to_walls(room_low: Tensor, room_high: Tensor, points: Tensor) -> Tensor:
    """Distance (T, n) from points (T, 3, n) to the walls of rooms (T, ROOMS, 3), negative outside of all rooms.

    Where rooms overlap it is a lower bound.
    """
    found = torch.full_like(points[:, 0], -FAR_M)
    for room in range(ROOMS):
        reach = torch.minimum(points - room_low[:, room, :, None], room_high[:, room, :, None] - points).amin(1)
        found = torch.maximum(found, reach)
    return found
