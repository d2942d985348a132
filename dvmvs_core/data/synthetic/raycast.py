# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Where rays meet a world: exact z-depth of the first hit, and distances to what is near.

A ray of pixel (x, y) is `centre_cam + z * world_R_cam @ ((x - cx) / fx, (y - cy) / fy, 1)`, so its parameter z is the
depth along the optical axis. Pixel (0, 0) is the centre of the top-left pixel.

Everything is a [frame, solid, pixel] pointwise expression followed by a minimum over solids, which `torch.compile`
fuses into one loop that never materialises. Camera and world values are tensors of fixed shapes: nothing recompiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from dvmvs_core.data.synthetic.world_tensors import BOXES, CYLINDERS, ELLIPSOIDS, ROOMS, SOLIDS, SolidFrames

FAR_M = 1e4
NUMBER_MASK = 63
"""Low bits of a tag that hold a solid's number."""


class Rays(NamedTuple):
    """Rays of F frames and N pixels: origin (F, 3), direction rows (F, 3, N) in the world, z = 1 in the camera."""

    origin: Tensor
    direction: Tensor


def camera_rays(world_T_cam: Tensor, K: Tensor, height: int, width: int, samples: int = 1) -> Rays:
    """Make the rays of every pixel.

    Args:
        world_T_cam: (F, 4, 4).
        K: (F, 3, 3) pixels.
        height: Image height.
        width: Image width.
        samples: Rays per pixel side; they subdivide the pixel's square evenly.

    Returns:
        Rays with N = height * samples * width * samples, row by row.
    """
    device = K.device
    x = (torch.arange(width * samples, device=device, dtype=torch.float32) + 0.5) / samples - 0.5
    y = (torch.arange(height * samples, device=device, dtype=torch.float32) + 0.5) / samples - 0.5
    across = (x[None, :] - K[:, 0, 2, None]) / K[:, 0, 0, None]  # (F, W)
    down = (y[None, :] - K[:, 1, 2, None]) / K[:, 1, 1, None]  # (F, H)
    rotation = world_T_cam[:, :3, :3]
    direction = (
        rotation[:, :, 0, None, None] * across[:, None, None, :]
        + rotation[:, :, 1, None, None] * down[:, None, :, None]
        + rotation[:, :, 2, None, None]
    )
    return Rays(world_T_cam[:, :3, 3], direction.flatten(2))


def along(rows: Tensor, vector: Tensor) -> list[Tensor]:
    """Take (F, 3, N) world vectors to (F, S, N) components of every solid."""
    x, y, z = vector[:, None, 0], vector[:, None, 1], vector[:, None, 2]
    return [rows[:, :, k, 0, None] * x + rows[:, :, k, 1, None] * y + rows[:, :, k, 2, None] * z for k in range(3)]


def _slab(origin: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    """Interval of a ray inside -1..1 along one axis."""
    inverse = 1.0 / (direction + 1e-9)
    middle = -origin * inverse
    reach = inverse.abs()
    return middle - reach, middle + reach


def _quadratic(a: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """Interval where a t^2 + 2 b t + c < 0; empty (far, -far) where the ray misses."""
    discriminant = b * b - a * c
    hit = discriminant > 0.0
    root = torch.sqrt(torch.where(hit, discriminant, 0.0))
    inverse = 1.0 / torch.clamp(a, min=1e-12)
    return torch.where(hit, (-b - root) * inverse, FAR_M), torch.where(hit, (-b + root) * inverse, -FAR_M)


def box_interval(rows: Tensor, origin: Sequence[Tensor], direction: Tensor) -> tuple[Tensor, Tensor]:
    """Entry and exit parameters of rays through boxes.

    Args:
        rows: (F, BOXES, 3, 3) of scaled `SolidFrames`.
        origin: x, y and z of the rays' starts in each box's unit frame, each (F, BOXES, N) or (F, BOXES, 1).
        direction: (F, 3, N) in the world.

    Returns:
        (entry, exit), each (F, BOXES, N); no hit where entry >= exit.
    """
    dx, dy, dz = along(rows, direction)
    (x0, x1), (y0, y1), (z0, z1) = _slab(origin[0], dx), _slab(origin[1], dy), _slab(origin[2], dz)
    return torch.maximum(torch.maximum(x0, y0), z0), torch.minimum(torch.minimum(x1, y1), z1)


def round_interval(rows: Tensor, origin: Sequence[Tensor], direction: Tensor) -> tuple[Tensor, Tensor]:
    """Like `box_interval`, for ellipsoids followed by cylinders along their own z."""
    dx, dy, dz = along(rows, direction)
    ox, oy, oz = origin
    # A cylinder is round in x and y only, and cut by the slab of z.
    number = torch.arange(ELLIPSOIDS + CYLINDERS, device=rows.device)[None, :, None]
    ball = torch.where(number < ELLIPSOIDS, 1.0, 0.0)
    round_in, round_out = _quadratic(
        dx * dx + dy * dy + ball * dz * dz,
        ox * dx + oy * dy + ball * oz * dz,
        ox * ox + oy * oy + ball * oz * oz - 1.0,
    )
    cap_in, cap_out = _slab(oz, dz)
    return torch.maximum(round_in, cap_in), torch.minimum(round_out, cap_out)


def room_exit(room_low: Tensor, room_high: Tensor, rays: Rays) -> tuple[Tensor, Tensor]:
    """Where rays leave the union of rooms.

    Starting in some room, the exit moves on through every other room whose interval holds it. As many passes as rooms
    follow any chain of doorways.

    Returns:
        (z (F, N), room index (F, N) int64).
    """
    far = torch.zeros_like(rays.direction[:, 0])
    index = torch.zeros_like(far, dtype=torch.int64)
    middle = 0.5 * (room_low + room_high)
    half = 0.5 * (room_high - room_low)
    spans = []
    for room in range(ROOMS):
        entry, leave = far - FAR_M, far + FAR_M
        for axis in range(3):
            start = (rays.origin[:, axis] - middle[:, room, axis]) / half[:, room, axis]
            step = rays.direction[:, axis] / half[:, room, axis, None]
            near, beyond = _slab(start[:, None], step)
            entry, leave = torch.maximum(entry, near), torch.minimum(leave, beyond)
        spans.append((entry, leave))
    for _ in range(ROOMS - 1):
        for room, (entry, leave) in enumerate(spans):
            inside = (entry <= far + 1e-4) & (leave > far)
            far = torch.where(inside, leave, far)
            index = torch.where(inside, room, index)
    return far, index


def box_entry(rows: Tensor, origin: Tensor, direction: Tensor) -> Tensor:
    """Nearest box along each ray.

    Args:
        rows: (F, BOXES, 3, 3) of scaled `SolidFrames`.
        origin: (F, BOXES, 3) the cameras in each box's unit frame.
        direction: (F, 3, N) in the world.

    Returns:
        (F, N) int32 tags: see `_nearest_tag`.
    """
    return _nearest_tag(*box_interval(rows, [origin[:, :, k, None] for k in range(3)], direction))


def round_entry(rows: Tensor, origin: Tensor, direction: Tensor) -> Tensor:
    """Like `box_entry`, for ellipsoids and cylinders."""
    return _nearest_tag(*round_interval(rows, [origin[:, :, k, None] for k in range(3)], direction))


def _nearest_tag(entry: Tensor, leave: Tensor) -> Tensor:
    """Nearest entry in front of the camera, with the solid's number in its low bits.

    Positive floats sort like their bits, so one integer minimum finds both. The number replaces the last 6 bits of z:
    a rounding of 4e-6 of the depth (0.02 mm at 5 m).
    """
    z = torch.where((entry < leave) & (entry > 1e-3), entry, FAR_M)
    number = torch.arange(entry.shape[1], device=z.device, dtype=torch.int32)[None, :, None]
    return ((z.view(torch.int32) & ~NUMBER_MASK) | number).amin(1)


def nearest(room: tuple[Tensor, Tensor], box_tag: Tensor, round_tag: Tensor) -> tuple[Tensor, Tensor]:
    """Join what `room_exit`, `box_entry` and `round_entry` found.

    Returns:
        (z (F, N) float32, index (F, N) int64): index < SOLIDS is a solid, SOLIDS + k is room k.
    """
    depth, index = room[0], room[1] + SOLIDS
    for tag, first in ((box_tag, 0), (round_tag, BOXES)):
        z = ((tag & ~NUMBER_MASK) | (NUMBER_MASK + 1) // 2).view(torch.float32)
        closer = z < depth
        depth = torch.where(closer, z, depth)
        index = torch.where(closer, (tag & NUMBER_MASK).long() + first, index)
    return depth, index


def clearance(frames: SolidFrames, half: Tensor, room_low: Tensor, room_high: Tensor, points: Tensor) -> Tensor:
    """Distance from points to the nearest surface, ellipsoids and cylinders counted as boxes.

    Args:
        frames: Tables in metres.
        half: (F, S, 3) half sizes, metres.
        room_low: (F, ROOMS, 3) metres.
        room_high: (F, ROOMS, 3) metres.
        points: (F, 3, N) metres.

    Returns:
        (F, N) metres, negative inside a solid or outside the rooms. Where rooms overlap it is a lower bound.
    """
    x, y, z = along(frames.rows, points)
    x = (x - frames.shift[:, :, 0, None]).abs() - half[:, :, 0, None]
    y = (y - frames.shift[:, :, 1, None]).abs() - half[:, :, 1, None]
    z = (z - frames.shift[:, :, 2, None]).abs() - half[:, :, 2, None]
    outside = torch.sqrt(x.clamp(min=0.0).square() + y.clamp(min=0.0).square() + z.clamp(min=0.0).square())
    inside = torch.maximum(torch.maximum(x, y), z).clamp(max=0.0)
    nearest = (outside + inside).amin(1)
    rooms = torch.full_like(nearest, -FAR_M)
    for room in range(ROOMS):
        reach = torch.full_like(nearest, FAR_M)
        for axis in range(3):
            value = points[:, axis]
            reach = torch.minimum(reach, value - room_low[:, room, axis, None])
            reach = torch.minimum(reach, room_high[:, room, axis, None] - value)
        rooms = torch.maximum(rooms, reach)
    return torch.minimum(nearest, rooms)
