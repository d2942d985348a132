"""Ray casting of box worlds in plain torch: exact z-depth of the first hit, and shaded colours.

Every solid is a unit shape (box, ellipsoid or cylinder) scaled by `half` and placed by `world_R_solid` and `centre`; the
rooms are a union of axis-aligned empty boxes, seen from inside. A ray of pixel (x, y) is
`centre_cam + z * world_R_cam @ ((x - cx) / fx, (y - cy) / fy, 1)`, so its parameter z is the depth along the optical axis.
Pixel (0, 0) is the centre of the top-left pixel.

Everything is a [frame, solid, pixel] pointwise expression followed by a minimum over solids, which `torch.compile` fuses
into one loop that never materialises. Camera and world values are tensors of fixed shapes, so nothing recompiles.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dvmvs_core.data.synthetic.textures import TextureBank

BOXES = 44
ELLIPSOIDS = 5
CYLINDERS = 7
SOLIDS = BOXES + ELLIPSOIDS + CYLINDERS
ROOMS = 4
LIGHTS = 3
SURFACES = SOLIDS + 6 * ROOMS
"""A surface is one solid, or one of the six faces of one room."""

_BOX_PART, _ROUND_PART = slice(0, BOXES), slice(BOXES, SOLIDS)
_FAR = 1e4
_OCCLUSION_RADIUS = 0.25
_OCCLUSION_STRENGTH = 0.65
_SHADOW_DEPTH = 0.12
"""Metres of matter that swallow all light."""
_NUMBER_MASK = 63
_INNER_BOX = 0.75
"""Size of the box that stands for a round solid in occlusion."""
_BLOCK = 4096
"""Rays traced together without a compiler: temporaries of all solids then fit a core's cache."""
_log = logging.getLogger(__name__)


class WorldTensors(NamedTuple):
    """One world (or, with a leading batch axis, one per frame) in fixed shapes.

    Attributes:
        world_R_solid: (..., SOLIDS, 3, 3) orientation; boxes first, then ellipsoids, then cylinders (axis z).
        centre: (..., SOLIDS, 3) metres.
        half: (..., SOLIDS, 3) half sizes, metres.
        room_low, room_high: (..., ROOMS, 3) corners of the empty boxes, metres.
        texture: (..., SURFACES) int64 index into the bank.
        mapping: (..., SURFACES, 6) rows of the 2x3 map from metres on a face to texture coordinates (texture sides).
        gain, bias: (..., SURFACES, 3) albedo = bias + gain * texture.
        gloss: (..., SURFACES) strength of the specular lobe.
        light: (..., LIGHTS, 3) positions, metres. The first casts shadows.
        power: (..., LIGHTS, 3) RGB.
        ambient: (..., 3) RGB.
    """

    world_R_solid: Tensor
    centre: Tensor
    half: Tensor
    room_low: Tensor
    room_high: Tensor
    texture: Tensor
    mapping: Tensor
    gain: Tensor
    bias: Tensor
    gloss: Tensor
    light: Tensor
    power: Tensor
    ambient: Tensor


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


class SolidFrames(NamedTuple):
    """Tables worked out once a call, outside the fused loops, which then only multiply and add.

    Attributes:
        rows: (F, S, 3, 3) rows that take world vectors to each solid's own axes.
        shift: (F, S, 3) the solid's centre, so taken.
    """

    rows: Tensor
    shift: Tensor


def solid_frames(world: WorldTensors, scaled: bool) -> SolidFrames:
    """Make the tables of own axes, in metres or scaled so that each solid is its unit shape."""
    rows = world.world_R_solid.transpose(-1, -2)
    if scaled:
        rows = rows / world.half[..., None]
    return SolidFrames(rows.contiguous(), (rows @ world.centre[..., None])[..., 0])


def _along(rows: Tensor, vector: Tensor) -> list[Tensor]:
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
    return torch.where(hit, (-b - root) * inverse, _FAR), torch.where(hit, (-b + root) * inverse, -_FAR)


def _box_interval(rows: Tensor, origin: Sequence[Tensor], direction: Tensor) -> tuple[Tensor, Tensor]:
    """Entry and exit parameters of rays through boxes.

    Args:
        rows: (F, BOXES, 3, 3) of scaled `SolidFrames`.
        origin: x, y and z of the rays' starts in each box's unit frame, each (F, BOXES, N) or (F, BOXES, 1).
        direction: (F, 3, N) in the world.

    Returns:
        (entry, exit), each (F, BOXES, N); no hit where entry >= exit.
    """
    dx, dy, dz = _along(rows, direction)
    (x0, x1), (y0, y1), (z0, z1) = _slab(origin[0], dx), _slab(origin[1], dy), _slab(origin[2], dz)
    return torch.maximum(torch.maximum(x0, y0), z0), torch.minimum(torch.minimum(x1, y1), z1)


def _round_interval(rows: Tensor, origin: Sequence[Tensor], direction: Tensor) -> tuple[Tensor, Tensor]:
    """Like `_box_interval`, for ellipsoids followed by cylinders along their own z."""
    dx, dy, dz = _along(rows, direction)
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
        entry, leave = far - _FAR, far + _FAR
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
    return _nearest_tag(*_box_interval(rows, [origin[:, :, k, None] for k in range(3)], direction))


def round_entry(rows: Tensor, origin: Tensor, direction: Tensor) -> Tensor:
    """Like `box_entry`, for ellipsoids and cylinders."""
    return _nearest_tag(*_round_interval(rows, [origin[:, :, k, None] for k in range(3)], direction))


def _nearest_tag(entry: Tensor, leave: Tensor) -> Tensor:
    """Nearest entry in front of the camera, with the solid's number in its low bits.

    Positive floats sort like their bits, so one integer minimum finds both. The number replaces the last 6 bits of z:
    a rounding of 4e-6 of the depth (0.02 mm at 5 m).
    """
    z = torch.where((entry < leave) & (entry > 1e-3), entry, _FAR)
    number = torch.arange(entry.shape[1], device=z.device, dtype=torch.int32)[None, :, None]
    return ((z.view(torch.int32) & ~_NUMBER_MASK) | number).amin(1)


def nearest(room: tuple[Tensor, Tensor], box_tag: Tensor, round_tag: Tensor) -> tuple[Tensor, Tensor]:
    """Join what `room_exit`, `box_entry` and `round_entry` found.

    Returns:
        (z (F, N) float32, index (F, N) int64): index < SOLIDS is a solid, SOLIDS + k is room k.
    """
    depth, index = room[0], room[1] + SOLIDS
    for tag, first in ((box_tag, 0), (round_tag, BOXES)):
        z = ((tag & ~_NUMBER_MASK) | (_NUMBER_MASK + 1) // 2).view(torch.float32)
        closer = z < depth
        depth = torch.where(closer, z, depth)
        index = torch.where(closer, (tag & _NUMBER_MASK).long() + first, index)
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
    x, y, z = _along(frames.rows, points)
    x = (x - frames.shift[:, :, 0, None]).abs() - half[:, :, 0, None]
    y = (y - frames.shift[:, :, 1, None]).abs() - half[:, :, 1, None]
    z = (z - frames.shift[:, :, 2, None]).abs() - half[:, :, 2, None]
    outside = torch.sqrt(x.clamp(min=0.0).square() + y.clamp(min=0.0).square() + z.clamp(min=0.0).square())
    inside = torch.maximum(torch.maximum(x, y), z).clamp(max=0.0)
    nearest = (outside + inside).amin(1)
    rooms = torch.full_like(nearest, -_FAR)
    for room in range(ROOMS):
        reach = torch.full_like(nearest, _FAR)
        for axis in range(3):
            value = points[:, axis]
            reach = torch.minimum(reach, value - room_low[:, room, axis, None])
            reach = torch.minimum(reach, room_high[:, room, axis, None] - value)
        rooms = torch.maximum(rooms, reach)
    return torch.minimum(nearest, rooms)


def _texture(
    texels: Tensor, size: int, texture: Tensor, u: Tensor, v: Tensor, footprint: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Trilinear lookup; u, v in texture sides, footprint in texels of the finest level per ray."""
    levels = size.bit_length()
    stride = (4 * size * size - 1) // 3
    level = torch.log2(footprint.clamp(min=1.0)).clamp(max=levels - 1.001)
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
    """

    points: Tensor
    normal: Tensor
    albedo: Tensor
    gloss: Tensor


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
    colour = _texture(texels, texture_size, _pick(world.texture, surface), u, v, metres * density)
    gain, bias = _pick(world.gain, surface), _pick(world.bias, surface)
    # Texture colours are as displayed; light adds up linearly.
    albedo = torch.stack([(bias[..., k] + gain[..., k] * colour[k]).clamp(0.01, 1.0).pow(2.2) for k in range(3)], 1)
    return Hits(points, normal, albedo, _pick(world.gloss, surface))


def occlusion(frames: SolidFrames, half: Tensor, room_low: Tensor, room_high: Tensor, hits: Hits) -> Tensor:
    """Share of ambient light that reaches each hit (F, N), from how close the world is some way above the surface."""
    above = hits.points + _OCCLUSION_RADIUS * hits.normal
    gap = clearance(frames, half, room_low, room_high, above)
    return 1.0 - _OCCLUSION_STRENGTH * (1.0 - (gap / _OCCLUSION_RADIUS).clamp(0.0, 1.0))


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
        shine = shine + arriving * cosine.clamp(min=0.0).pow(40.0)
        total = total + arriving[:, None] * world.power[:, light, :, None]
    return hits.albedo * total + (hits.gloss * shine)[:, None]


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
    return _transmission(*_box_interval(rows, start, towards), towards)


def round_shadow(rows: Tensor, shift: Tensor, light: Tensor, hits: Hits) -> Tensor:
    """Like `box_shadow`, for ellipsoids and cylinders."""
    start, towards = _shadow_rays(rows, shift, light, hits)
    return _transmission(*_round_interval(rows, start, towards), towards)


def _shadow_rays(rows: Tensor, shift: Tensor, light: Tensor, hits: Hits) -> tuple[list[Tensor], Tensor]:
    start = _along(rows, hits.points + 0.01 * hits.normal)
    return [axis - shift[:, :, k, None] for k, axis in enumerate(start)], light[:, :, None] - hits.points


def _transmission(entry: Tensor, leave: Tensor, towards: Tensor) -> Tensor:
    crossed = (leave.clamp(max=0.98) - entry.clamp(min=0.0)).amax(1).clamp(min=0.0)
    return 1.0 - (crossed * torch.sqrt(towards.square().sum(1)) / _SHADOW_DEPTH).clamp(max=1.0)


class _Scene(NamedTuple):
    """A world with the tables that its stages share, all with a leading frame axis F."""

    world: WorldTensors
    unit: SolidFrames
    metric: SolidFrames
    inner_half: Tensor  # (F, S, 3): round solids darken their surroundings like the box inside them
    origin: Tensor  # (F, S, 3): cameras in each solid's unit frame
    pixel_angle: Tensor  # (F,)


def _prepare(world: WorldTensors, world_T_cam: Tensor, K: Tensor, samples: int) -> _Scene:
    unit = solid_frames(world, scaled=True)
    rounded = (torch.arange(SOLIDS, device=K.device) >= BOXES)[:, None]
    return _Scene(
        world=world,
        unit=unit,
        metric=solid_frames(world, scaled=False),
        inner_half=world.half * torch.where(rounded, _INNER_BOX, 1.0),
        origin=(unit.rows @ world_T_cam[:, None, :3, 3:])[..., 0] - unit.shift,
        pixel_angle=torch.rsqrt(K[:, 0, 0] * K[:, 1, 1]) / samples,
    )


def coarse_depth(world: WorldTensors, world_T_cam: Tensor, K: Tensor, height: int, width: int) -> Tensor:
    """Z-depth (F, H, W) of a few small views, for choosing paths; arguments as of `Renderer.__call__`."""
    scene = _prepare(world, world_T_cam, K, 1)
    rays = camera_rays(world_T_cam, K, height, width)
    return _first_hit(scene, rays, lambda stage, *args: stage(*args))[0].view(-1, height, width)


def _first_hit(scene: _Scene, rays: Rays, run: Callable[..., Any]) -> tuple[Tensor, Tensor]:
    tags = [
        run(stage, scene.unit.rows[:, part], scene.origin[:, part], rays.direction)
        for stage, part in ((box_entry, _BOX_PART), (round_entry, _ROUND_PART))
    ]
    room = run(room_exit, scene.world.room_low, scene.world.room_high, rays)
    return run(nearest, room, *tags)


class Renderer:
    """Renders frames of worlds with one texture bank.

    Each stage compiles on its own: fused across stages, the per-pixel look-ups would run once per solid. Without a
    compiler the stages run on blocks of rays small enough for a core's cache, with the same results.
    """

    def __init__(self, bank: TextureBank, compile: bool = True) -> None:
        """Prepare the stages.

        Args:
            bank: The textures.
            compile: Whether to run the stages under torch.compile: several times faster, but each new image size or
                number of frames first compiles for up to a minute. Needs a C++ compiler.
        """
        self.bank = bank
        self._compile = compile

    def __call__(
        self,
        world: WorldTensors,
        world_T_cam: Tensor,
        K: Tensor,
        height: int,
        width: int,
        samples: int = 1,
        shadows: bool = True,
    ) -> tuple[Tensor, Tensor]:
        """Render F frames.

        Args:
            world: Tensors with a leading frame axis F.
            world_T_cam: (F, 4, 4) float32.
            K: (F, 3, 3) float32 pixels.
            height: Image height.
            width: Image width.
            samples: Colour rays per pixel side. Depth is always that of the ray through the pixel's centre.
            shadows: Whether the first light casts shadows.

        Returns:
            (linear RGB (F, 3, H, W) float32, z-depth (F, H, W) metres).
        """
        scene = _prepare(world, world_T_cam, K, samples)
        rays = camera_rays(world_T_cam, K, height, width, samples)
        colour, depth = self._in_blocks(self._trace, scene, rays, shadows)
        colour = colour.view(-1, 3, height * samples, width * samples)
        if samples % 2 == 0:
            (depth,) = self._in_blocks(self._depth, scene, camera_rays(world_T_cam, K, height, width))
            depth = depth.view(-1, height, width)
        else:
            depth = depth.view(-1, height * samples, width * samples)
            depth = depth[:, samples // 2 :: samples, samples // 2 :: samples].contiguous()
        if samples > 1:
            colour = torch.nn.functional.avg_pool2d(colour, samples)
        return colour, depth

    def _trace(self, scene: _Scene, rays: Rays, shadows: bool) -> tuple[Tensor, Tensor]:
        """Colour (F, 3, N) and depth (F, N) of rays."""
        world = scene.world
        depth, index = _first_hit(scene, rays, self._run)
        hits = self._run(describe_hits, world, rays, scene.pixel_angle, depth, index, self.bank.texels, self.bank.size)
        open_sky = self._run(occlusion, scene.metric, scene.inner_half, world.room_low, world.room_high, hits)
        unshadowed = torch.ones_like(open_sky)
        if shadows:
            for stage, part in ((box_shadow, _BOX_PART), (round_shadow, _ROUND_PART)):
                passed = self._run(stage, scene.unit.rows[:, part], scene.unit.shift[:, part], world.light[:, 0], hits)
                unshadowed = torch.minimum(unshadowed, passed)
        return self._run(light_hits, world, rays, hits, open_sky, unshadowed), depth

    def _depth(self, scene: _Scene, rays: Rays) -> tuple[Tensor]:
        return (_first_hit(scene, rays, self._run)[0],)

    def _run(self, stage: Callable[..., Any], *args: object) -> Any:
        if self._compile:
            try:
                return _compiled(stage)(*args)
            except torch._dynamo.exc.BackendCompilerFailed as error:
                _log.warning("torch.compile failed, so rendering runs several times slower: %s", str(error)[:200])
                self._compile = False
        return stage(*args)

    def _in_blocks(
        self, trace: Callable[..., tuple[Tensor, ...]], scene: _Scene, rays: Rays, *args: object
    ) -> tuple[Tensor, ...]:
        """Trace all rays at once where they compile to one loop or have a GPU, else block by block."""
        if self._compile or rays.direction.is_cuda:
            return trace(scene, rays, *args)
        frames = []
        for frame in range(len(rays.origin)):
            own = _only_frame(scene, frame)
            origin = rays.origin[frame : frame + 1]
            blocks = [
                trace(own, Rays(origin, part.contiguous()), *args)
                for part in rays.direction[frame : frame + 1].split(_BLOCK, dim=-1)
            ]
            frames.append([torch.cat(parts, dim=-1) for parts in zip(*blocks, strict=True)])
        return tuple(torch.cat(parts) for parts in zip(*frames, strict=True))


def _only_frame(scene: Any, frame: int) -> Any:
    """Cut one frame, keeping its axis, out of nested tuples of tensors."""
    if isinstance(scene, Tensor):
        return scene[frame : frame + 1]
    return type(scene)(*(_only_frame(part, frame) for part in scene))


@functools.cache
def _compiled(stage: Callable[..., Any]) -> Callable[..., Any]:
    """Compile once per process, whatever the number of renderers."""
    # Inductor stores values that are read often: in these stages that would be numbers per solid and pixel, dearer to
    # store than to work out again.
    fuse_all = {"realize_reads_threshold": 1000, "realize_opcount_threshold": 1000, "realize_acc_reads_threshold": 1000}
    per_solid = stage in (box_entry, occlusion, box_shadow)
    return torch.compile(stage, dynamic=False, options=fuse_all if per_solid else None)
