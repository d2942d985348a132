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

from dvmvs_core.data.synthetic.raycast import Rays, along, box_interval, clearance, round_interval
from dvmvs_core.data.synthetic.world_tensors import BOXES, ELLIPSOIDS, LIGHTS, ROOMS, SOLIDS, SolidFrames, WorldTensors

OCCLUSION_RADIUS_M = 0.25
_OCCLUSION_STRENGTH = 0.65
_SHADOW_DEPTH_M = 0.12
"""Matter that swallows all light."""


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


def _pick(table: Tensor, index: Tensor) -> Tensor:
    """Read rows (F, S, ...) at (F, N) -> (F, N, ...)."""
    frame = torch.arange(table.shape[0], device=table.device)[:, None] * table.shape[1]
    return table.flatten(0, 1)[(frame + index)]


class Hits(NamedTuple):
    """What the rays of F frames and N pixels met.

    Attributes:
        points: (F, 3, N) metres, world.
        normal: (F, 3, N) unit, towards the camera's side of the surface.
        albedo: (F, 3, N) linear RGB.
        gloss: (F, N).
        glow: (F, N).
    """

    points: Tensor
    normal: Tensor
    albedo: Tensor
    gloss: Tensor
    glow: Tensor


def describe_hits(
    world: WorldTensors,
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
        rays: F frames of N rays.
        pixel_angle: (F,) radians that one ray stands for.
        depth: (F, N) from `nearest`.
        index: (F, N) from `nearest`.
        texels: The bank's packed texels.
        texture_size: The bank's finest side.
    """
    direction = rays.direction
    points = rays.origin[:, :, None] + depth[:, None] * direction
    identity = torch.eye(3, device=depth.device).expand(depth.shape[0], ROOMS, 3, 3)
    rotation = _pick(torch.cat([world.world_R_solid, identity], 1), index)  # (F, N, 3, 3)
    centre = _pick(torch.cat([world.centre, 0.5 * (world.room_low + world.room_high)], 1), index)
    half = _pick(torch.cat([world.half, 0.5 * (world.room_high - world.room_low)], 1), index)
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
    mapping = _pick(world.mapping, surface)
    face_shift = torch.where(is_room, 0.0, axis.float() * 0.37 + positive.float() * 0.21)
    u = mapping[..., 0] * s + mapping[..., 1] * t + mapping[..., 2] + face_shift
    v = mapping[..., 3] * s + mapping[..., 4] * t + mapping[..., 5]

    # Between the footprint's short side (aliases on grazing floors) and its long one (blurs them away).
    reach = torch.sqrt(direction.square().sum(1))
    incidence = -(normal * direction).sum(1) / reach
    metres = depth * reach * pixel_angle[:, None] * incidence.clamp(min=0.1).pow(-0.7)
    density = torch.sqrt(mapping[..., 0].square() + mapping[..., 3].square()) * texture_size
    colour = sample_texture(texels, texture_size, _pick(world.texture, surface), u, v, metres * density)
    gain, bias = _pick(world.gain, surface), _pick(world.bias, surface)
    # Texture colours are as displayed; light adds up linearly.
    albedo = torch.stack([(bias[..., k] + gain[..., k] * colour[k]).clamp(0.01, 1.0).pow(2.2) for k in range(3)], 1)
    return Hits(points, normal, albedo, _pick(world.gloss, surface), _pick(world.glow, surface))


def occlusion(frames: SolidFrames, half: Tensor, room_low: Tensor, room_high: Tensor, hits: Hits) -> Tensor:
    """Share of ambient light that reaches each hit (F, N), from how close the world is some way above the surface."""
    above = hits.points + OCCLUSION_RADIUS_M * hits.normal
    gap = clearance(frames, half, room_low, room_high, above)
    return 1.0 - _OCCLUSION_STRENGTH * (1.0 - (gap / OCCLUSION_RADIUS_M).clamp(0.0, 1.0))


def light_hits(world: WorldTensors, rays: Rays, hits: Hits, open_sky: Tensor, unshadowed: Tensor) -> Tensor:
    """Linear RGB (F, 3, N) of hits.

    Args:
        world: Tensors with a leading frame axis F.
        rays: F frames of N rays.
        hits: From `describe_hits`.
        open_sky: (F, N) from `occlusion`.
        unshadowed: (F, N) share of the first light that arrives.
    """
    view = rays.direction * torch.rsqrt(rays.direction.square().sum(1, keepdim=True))
    total = world.ambient[:, :, None] * (open_sky * (0.75 + 0.25 * hits.normal[:, 2]))[:, None]
    shine = torch.zeros_like(open_sky)
    sharpness = 20.0 * torch.exp2(4.0 * hits.gloss)
    for light in range(LIGHTS):
        towards = world.light[:, light, :, None] - hits.points
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
        total = total + arriving[:, None] * world.power[:, light, :, None]
    return hits.albedo * (total + hits.glow[:, None]) + (hits.gloss * shine)[:, None]


def box_shadow(rows: Tensor, shift: Tensor, light: Tensor, hits: Hits) -> Tensor:
    """Share of a light that boxes let through to each hit: grazing rays cross little matter, which softens the edges.

    Args:
        rows: (F, BOXES, 3, 3) of scaled `SolidFrames`.
        shift: (F, BOXES, 3) of scaled `SolidFrames`.
        light: (F, 3) metres.
        hits: From `describe_hits`.

    Returns:
        (F, N) in 0..1.
    """
    start, towards = _shadow_rays(rows, shift, light, hits)
    return _transmission(*box_interval(rows, start, towards), towards)


def round_shadow(rows: Tensor, shift: Tensor, light: Tensor, hits: Hits) -> Tensor:
    """Like `box_shadow`, for ellipsoids and cylinders."""
    start, towards = _shadow_rays(rows, shift, light, hits)
    return _transmission(*round_interval(rows, start, towards), towards)


def _shadow_rays(rows: Tensor, shift: Tensor, light: Tensor, hits: Hits) -> tuple[list[Tensor], Tensor]:
    start = along(rows, hits.points + 0.01 * hits.normal)
    return [axis - shift[:, :, k, None] for k, axis in enumerate(start)], light[:, :, None] - hits.points


def _transmission(entry: Tensor, leave: Tensor, towards: Tensor) -> Tensor:
    crossed = (leave.clamp(max=0.98) - entry.clamp(min=0.0)).amax(1).clamp(min=0.0)
    return 1.0 - (crossed * torch.sqrt(towards.square().sum(1)) / _SHADOW_DEPTH_M).clamp(max=1.0)
