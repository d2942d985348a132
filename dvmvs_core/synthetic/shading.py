# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What hits look like: textures, normals, occlusion, shadows and light."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from dvmvs_core.synthetic.raycast import (
    Interval,
    Pairs,
    Rays,
    blocks,
    gap_to,
    gap_to_walls,
    lower,
    to_own_axes,
)
from dvmvs_core.synthetic.world_tensors import BOXES, ELLIPSOIDS, LIGHTS, ROOMS, SOLIDS, SolidFrames, WorldTensors

OCCLUSION_RADIUS_M = 0.15
_OCCLUSION_STRENGTH = 0.65
_SHADOW_DEPTH_M = 0.06
"""Matter that swallows all light."""
_NORMAL_REFLECTANCE = 0.05
"""Share of light that a varnished surface reflects when seen from straight ahead."""


def sample_texture(
    texels: Tensor, size: int, texture: Tensor, u: Tensor, v: Tensor, footprint: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Trilinear lookup; u, v in texture sides, footprint in texels of the finest level per ray."""
    levels = size.bit_length()
    stride = (4 * size * size - 1) // 3
    level = (torch.log2(footprint.clamp(min=1e-3)) - 0.5).clamp(min=0.0).clamp(max=levels - 1.001)
    lower = level.floor()
    total = [torch.zeros_like(u) for _ in range(3)]
    for step in (0, 1):
        current = (lower + step).to(torch.int32)
        level_weight = (level - lower) if step else 1.0 - (level - lower)
        side = torch.bitwise_right_shift(torch.full_like(current, size), current)
        start = (4 * size * size - 4 * side * side) // 3
        x, y = u * side - 0.5, v * side - 0.5
        x0, y0 = x.floor(), y.floor()
        wx, wy = x - x0, y - y0
        xi, yi = x0.to(torch.int32), y0.to(torch.int32)
        for dy in (0, 1):
            for dx in (0, 1):
                column, row = (xi + dx) & (side - 1), (yi + dy) & (side - 1)
                packed = texels[texture * stride + (start + row * side + column).long()]
                weight = level_weight * (wx if dx else 1.0 - wx) * (wy if dy else 1.0 - wy) / 255.0
                total[0] = total[0] + weight * (packed & 255)
                total[1] = total[1] + weight * ((packed >> 8) & 255)
                total[2] = total[2] + weight * ((packed >> 16) & 255)
    return total[0], total[1], total[2]


def _pick(table: Tensor, frame: Tensor, index: Tensor) -> Tensor:
    """Read rows of a table (F, S, ...) at (T, n) of the tiles' frames (T,) -> (T, n, ...)."""
    return table.flatten(0, 1)[frame[:, None] * table.shape[1] + index]


class Hits(NamedTuple):
    """What the rays of T tiles of n pixels met.

    Attributes:
        points: (T, 3, n) metres, world.
        normal: (T, 3, n) unit, towards the camera's side of the surface.
        albedo: (T, 3, n) linear RGB.
        gloss: (T, n).
        glow: (T, n).
    """

    points: Tensor
    normal: Tensor
    albedo: Tensor
    gloss: Tensor
    glow: Tensor


def describe_hits(
    world: WorldTensors,
    frame: Tensor,
    rays: Rays,
    pixel_angle: Tensor,
    depth: Tensor,
    index: Tensor,
    texels: Tensor,
    texture_size: int,
) -> Hits:
    """Points, normals and texture colours of the hits.

    Args:
        world: Tensors with a leading frame axis F.
        frame: (T,) number of the tile's frame.
        rays: T tiles.
        pixel_angle: (F,) radians that one ray stands for.
        depth: (T, n) of the hit, in lengths of the ray's direction.
        index: (T, n) of the hit: a solid's number, or SOLIDS and a room's.
        texels: The bank's packed texels.
        texture_size: The bank's finest side.
    """
    direction = rays.direction
    points = rays.origin + depth[:, None] * direction
    identity = torch.eye(3, device=depth.device).expand(len(world.centre), ROOMS, 3, 3)
    rotation = _pick(torch.cat([world.world_R_solid, identity], 1), frame, index)  # (T, n, 3, 3)
    centre = _pick(torch.cat([world.centre, 0.5 * (world.room_low + world.room_high)], 1), frame, index)
    half = _pick(torch.cat([world.half, 0.5 * (world.room_high - world.room_low)], 1), frame, index)
    px, py, pz = (points[:, k] - centre[..., k] for k in range(3))
    own = [
        (rotation[..., 0, k] * px + rotation[..., 1, k] * py + rotation[..., 2, k] * pz) / half[..., k]
        for k in range(3)
    ]
    ax, ay, az = own[0].abs(), own[1].abs(), own[2].abs()
    on_x = (ax >= ay) & (ax >= az)
    on_y = ~on_x & (ay >= az)
    on_z = ~on_x & ~on_y
    is_room = index >= SOLIDS
    is_round = (index >= BOXES) & ~is_room
    is_cylinder = (index >= BOXES + ELLIPSOIDS) & ~is_room
    on_cap = is_cylinder & (az * az > own[0].square() + own[1].square())

    keep_x = torch.where(is_round, ~on_cap, on_x).float()
    keep_y = torch.where(is_round, ~on_cap, on_y).float()
    keep_z = torch.where(is_cylinder, on_cap, torch.where(is_round, ~is_cylinder, on_z)).float()
    gx, gy, gz = own[0] * keep_x / half[..., 0], own[1] * keep_y / half[..., 1], own[2] * keep_z / half[..., 2]
    gradient = [rotation[..., k, 0] * gx + rotation[..., k, 1] * gy + rotation[..., k, 2] * gz for k in range(3)]
    sign = torch.where(is_room, -1.0, 1.0)
    scale = sign * torch.rsqrt(gradient[0].square() + gradient[1].square() + gradient[2].square() + 1e-20)
    normal = torch.stack([component * scale for component in gradient], 1)

    # Faces are mapped as on a cube: the two other coordinates over the largest one, in metres.
    largest = torch.where(on_x, ax, torch.where(on_y, ay, az)).clamp(min=1e-6)
    s = torch.where(on_x, own[1] * half[..., 1], own[0] * half[..., 0]) / largest
    t = torch.where(on_z, own[1] * half[..., 1], own[2] * half[..., 2]) / largest
    axis = on_y.long() + 2 * on_z.long()
    positive = torch.where(on_x, own[0], torch.where(on_y, own[1], own[2])) > 0.0
    surface = torch.where(is_room, SOLIDS + 6 * (index - SOLIDS) + 2 * axis + positive.long(), index)
    mapping = _pick(world.mapping, frame, surface)
    face_shift = torch.where(is_room, 0.0, axis.float() * 0.37 + positive.float() * 0.21)
    u = mapping[..., 0] * s + mapping[..., 1] * t + mapping[..., 2] + face_shift
    v = mapping[..., 3] * s + mapping[..., 4] * t + mapping[..., 5]

    # Between the footprint's short side (aliases on grazing floors) and its long one (blurs them away).
    reach = torch.sqrt(direction.square().sum(1))
    incidence = -(normal * direction).sum(1) / reach
    metres = depth * reach * pixel_angle[frame, None] * incidence.clamp(min=0.1).pow(-0.7)
    density = torch.sqrt(mapping[..., 0].square() + mapping[..., 3].square()) * texture_size
    colour = sample_texture(texels, texture_size, _pick(world.texture, frame, surface), u, v, metres * density)
    gain, bias = _pick(world.gain, frame, surface), _pick(world.bias, frame, surface)
    # Texture colours are as displayed; light adds up linearly.
    albedo = torch.stack([(bias[..., k] + gain[..., k] * colour[k]).clamp(0.01, 1.0).pow(2.2) for k in range(3)], 1)
    return Hits(points, normal, albedo, _pick(world.gloss, frame, surface), _pick(world.glow, frame, surface))


def occlusion(world: WorldTensors, frame: Tensor, pairs: Pairs, frames: SolidFrames, hits: Hits) -> Tensor:
    """Share of ambient light that reaches each hit (T, n), from how close the world is some way above the surface.

    Args:
        world: Tensors with a leading frame axis F.
        frame: (T,) number of the tile's frame.
        pairs: Tiles, and rows of the tables of solids around them.
        frames: Tables in metres of all frames, flattened.
        hits: From `describe_hits`.
    """
    above = hits.points + OCCLUSION_RADIUS_M * hits.normal
    gap = gap_to_walls(world.room_low[frame], world.room_high[frame], above)
    half = world.half.flatten(0, 1)
    for tile, row in blocks(pairs, above.shape[2]):
        found = gap_to(SolidFrames(frames.rows[row], frames.shift[row]), half[row], above[tile])
        lower(gap, tile, found)
    return 1.0 - _OCCLUSION_STRENGTH * (1.0 - (gap / OCCLUSION_RADIUS_M).clamp(0.0, 1.0))


def matter_towards(
    crossed: Tensor, pairs: Pairs, interval: Interval, frames: SolidFrames, light: Tensor, hits: Hits
) -> None:
    """Note how much matter lies between hits and a light.

    Args:
        crossed: (T, n) metres inside the thickest solid so far, changed in place.
        pairs: Tiles, and rows of the tables.
        interval: Of the shape that all pairs have.
        frames: Scaled tables of all frames, flattened.
        light: (T, 3) metres.
        hits: From `describe_hits`.
    """
    start = hits.points + 0.01 * hits.normal
    way = light[:, :, None] - hits.points
    length = way.square().sum(1).sqrt()
    for tile, row in blocks(pairs, crossed.shape[1]):
        rows = frames.rows[row]
        origin = to_own_axes(rows, start[tile]) - frames.shift[row, :, None]
        entry, leave = interval(origin, to_own_axes(rows, way[tile]))
        inside = (leave.clamp_(max=0.98) - entry.clamp_(min=0.0)) * length[tile]
        crossed.scatter_reduce_(0, tile[:, None].expand_as(inside), inside, "amax")


def light_through(crossed: Tensor) -> Tensor:
    """Share of a light that matter lets through: grazing rays cross little of it, which softens the edges."""
    return 1.0 - (crossed / _SHADOW_DEPTH_M).clamp(0.0, 1.0)


def light_hits(
    world: WorldTensors, frame: Tensor, rays: Rays, hits: Hits, open_sky: Tensor, unshadowed: Tensor
) -> Tensor:
    """Linear RGB (T, 3, n) of hits.

    Args:
        world: Tensors with a leading frame axis F.
        frame: (T,) number of the tile's frame.
        rays: T tiles.
        hits: From `describe_hits`.
        open_sky: (T, n) from `occlusion`.
        unshadowed: (T, n) share of the first light that arrives.
    """
    view = rays.direction * torch.rsqrt(rays.direction.square().sum(1, keepdim=True))
    total = world.ambient[frame, :, None] * (open_sky * (0.75 + 0.25 * hits.normal[:, 2]))[:, None]
    shine = torch.zeros_like(open_sky)
    sharpness = 20.0 * torch.exp2(4.0 * hits.gloss)
    for light in range(LIGHTS):
        towards = world.light[frame, light, :, None] - hits.points
        squared = towards.square().sum(1)
        unit = towards * torch.rsqrt(squared + 1e-6)[:, None]
        facing = (hits.normal * unit).sum(1).clamp(min=0.0)
        # A wide panel rather than a point: its fall-off stays finite close by.
        arriving = facing / (1.0 + 0.25 * squared) * (0.5 + 0.5 * open_sky)
        if light == 0:
            arriving = arriving * unshadowed
        between = unit - view
        cosine = (hits.normal * between).sum(1) * torch.rsqrt(between.square().sum(1) + 1e-9)
        shine = shine + arriving * cosine.clamp(min=1e-6).pow(sharpness)
        total = total + arriving[:, None] * world.power[frame, light, :, None]
    return hits.albedo * (total + hits.glow[:, None]) + (3.0 * hits.gloss * shine)[:, None]


def mirrored(rays: Rays, hits: Hits) -> tuple[Rays, Tensor]:
    """Rays that leave the hits as from a mirror, and the share of the mirror image in their colour (T, n).

    Source: Schlick, "An Inexpensive BRDF Model for Physically-based Rendering", 1994.
    """
    across = (rays.direction * hits.normal).sum(1)  # negative
    direction = rays.direction - 2.0 * across[:, None] * hits.normal
    cosine = (-across * torch.rsqrt(rays.direction.square().sum(1))).clamp(0.0, 1.0)
    share = _NORMAL_REFLECTANCE + (1.0 - _NORMAL_REFLECTANCE) * (1.0 - cosine).pow(5)
    return Rays(hits.points + 1e-3 * hits.normal, direction), hits.gloss * share
