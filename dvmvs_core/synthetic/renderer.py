# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""From worlds and cameras to frames: tiles of rays, the solids that matter to each, hits, light."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import torch
from torch import Tensor

from dvmvs_core.synthetic.culling import around, in_view, to_pairs, towards
from dvmvs_core.synthetic.raycast import (
    FAR_M,
    Interval,
    Pairs,
    Rays,
    box_interval,
    cylinder_interval,
    ellipsoid_interval,
    nearest_of,
    packed,
    pixel_rays,
    room_exit,
    unpacked,
)
from dvmvs_core.synthetic.shading import (
    OCCLUSION_RADIUS_M,
    Hits,
    describe_hits,
    light_hits,
    light_through,
    matter_towards,
    mirrored,
    occlusion,
)
from dvmvs_core.synthetic.textures import TextureBank
from dvmvs_core.synthetic.world_tensors import (
    BOX_PART,
    CYLINDER_PART,
    ELLIPSOID_PART,
    GLOWING_BOXES,
    SOLIDS,
    SolidFrames,
    WorldTensors,
    solid_frames,
)

_SHAPES: tuple[tuple[slice, Interval], ...] = (
    (BOX_PART, box_interval),
    (ELLIPSOID_PART, ellipsoid_interval),
    (CYLINDER_PART, cylinder_interval),
)
_TILE = 16
"""Side of the squares of rays that share a list of solids: smaller ones share less in vain, but take longer to list."""
_TILES_AT_ONCE = {"cpu": 320, "cuda": 20000}
"""What is traced together: a CPU's caches hold the tensors of so many tiles, a GPU's memory far more."""
_MIN_MIRROR = 0.02
"""Tiles whose mirror images are all fainter than this have none."""
_MIRROR_BLUR = 6.0
"""How much wider than a mirror's the footprint of a reflection is: furniture is varnished, not polished."""


class _Scene(NamedTuple):
    """Worlds of F frames, and tables of all their solids, flattened to F * SOLIDS rows."""

    world: WorldTensors
    unit: SolidFrames
    metric: SolidFrames
    world_T_cam: Tensor
    K: Tensor


class _Tiles(NamedTuple):
    """Squares of n rays of any frames: frame and first row of the tables (T,), x and y in pixels (T, n)."""

    frame: Tensor
    first_row: Tensor
    x: Tensor
    y: Tensor


class Renderer:
    """Renders frames of worlds with one texture bank."""

    def __init__(self, bank: TextureBank) -> None:
        """Keep the bank."""
        self.bank = bank

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
        scene = _prepare(world, world_T_cam, K)
        pixel_angle = torch.rsqrt(K[:, 0, 0] * K[:, 1, 1]) / samples
        tiles, grid = _tiles(len(K), height, width, samples, K.device)
        colour, depth = _each_portion(lambda part: _trace(scene, part, pixel_angle, self.bank, shadows), tiles)
        colour = _untiled(colour, grid)[..., : height * samples, : width * samples]
        if samples % 2 == 1:
            depth = _untiled(depth[:, None], grid)[:, 0, : height * samples, : width * samples]
            depth = depth[:, samples // 2 :: samples, samples // 2 :: samples]
        else:
            depth, _ = _depth_view(scene, height, width)
        if samples > 1:
            colour = torch.nn.functional.avg_pool2d(colour, samples)
        return colour.contiguous(), depth.contiguous()


def coarse_view(world: WorldTensors, world_T_cam: Tensor, K: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Z-depth (F, H, W) and number of what is seen: a solid, or SOLIDS and a room; arguments as of the renderer."""
    return _depth_view(_prepare(world, world_T_cam, K), height, width)


def _depth_view(scene: _Scene, height: int, width: int) -> tuple[Tensor, Tensor]:
    tiles, grid = _tiles(len(scene.K), height, width, 1, scene.K.device)
    found = _each_portion(lambda part: _first_hit(scene, part)[1:], tiles)
    depth, index = (_untiled(part[:, None], grid)[:, 0, :height, :width] for part in found)
    return depth, index


def _prepare(world: WorldTensors, world_T_cam: Tensor, K: Tensor) -> _Scene:
    unit, metric = (
        SolidFrames(*(table.flatten(0, 1) for table in solid_frames(world, scaled))) for scaled in (True, False)
    )
    return _Scene(world, unit, metric, world_T_cam, K)


class _Grid(NamedTuple):
    """How tiles lie in frames: rows and columns of tiles, rows and columns of rays in each."""

    rows: int
    columns: int
    height: int
    width: int


def _tiles(frames: int, height: int, width: int, samples: int, device: torch.device) -> tuple[_Tiles, _Grid]:
    """Cover frames with tiles, which may reach beyond the right and lower borders."""
    tall, wide = min(_TILE, height * samples), min(_TILE, width * samples)
    grid = _Grid(-(-height * samples // tall), -(-width * samples // wide), tall, wide)
    # Rays subdivide a pixel's square evenly.
    y = ((torch.arange(grid.rows * tall, device=device) + 0.5) / samples - 0.5).view(grid.rows, 1, tall, 1)
    x = ((torch.arange(grid.columns * wide, device=device) + 0.5) / samples - 0.5).view(1, grid.columns, 1, wide)
    x, y = (part.reshape(-1, tall * wide).repeat(frames, 1) for part in torch.broadcast_tensors(x, y))
    frame = torch.arange(frames, device=device).repeat_interleave(grid.rows * grid.columns)
    return _Tiles(frame, frame * SOLIDS, x, y), grid


def _each_portion(trace: Callable[[_Tiles], tuple[Tensor, ...]], tiles: _Tiles) -> tuple[Tensor, ...]:
    """Trace tiles in portions, on a CPU with a thread for each core, and join what comes back."""
    on_cpu = tiles.x.device.type == "cpu"
    size = _TILES_AT_ONCE["cpu" if on_cpu else "cuda"]
    portions = [_Tiles(*parts) for parts in zip(*(part.split(size) for part in tiles), strict=True)]
    count = torch.get_num_threads()
    if not on_cpu or len(portions) == 1 or count == 1:
        traced = [trace(part) for part in portions]
    else:
        # A portion's tensors are too small to share out: each thread takes whole portions, and torch none of its own.
        torch.set_num_threads(1)
        try:
            with ThreadPoolExecutor(count) as threads:
                traced = list(threads.map(trace, portions))
        finally:
            torch.set_num_threads(count)
    return tuple(torch.cat(parts) for parts in zip(*traced, strict=True))


def _untiled(values: Tensor, grid: _Grid) -> Tensor:
    """Put values (T, C, n) of tiles together as images (F, C, H, W)."""
    channels = values.shape[1]
    values = values.reshape(-1, grid.rows, grid.columns, channels, grid.height, grid.width)
    return values.permute(0, 3, 1, 4, 2, 5).reshape(-1, channels, grid.rows * grid.height, grid.columns * grid.width)


def _first_hit(scene: _Scene, tiles: _Tiles) -> tuple[Rays, Tensor, Tensor]:
    """The rays of tiles, and the depth (T, n) and index (T, n) of what they meet: a solid, or SOLIDS and a room."""
    world, frame = scene.world, tiles.frame
    rays = pixel_rays(scene.world_T_cam[frame], scene.K[frame], tiles.x, tiles.y)
    low = torch.stack([tiles.x[:, 0], tiles.y[:, 0]], 1)
    high = torch.stack([tiles.x[:, -1], tiles.y[:, -1]], 1)
    visible = in_view(world, scene.world_T_cam, scene.K, low, high, frame)
    depth, room = room_exit(world.room_low[frame], world.room_high[frame], rays)
    best = packed(depth, room + SOLIDS)
    for part, interval in _SHAPES:
        nearest_of(best, to_pairs(visible, part, tiles.first_row), interval, scene.unit, rays, tiles.first_row)
    return rays, *unpacked(best)


def _trace(
    scene: _Scene, tiles: _Tiles, pixel_angle: Tensor, bank: TextureBank, shadows: bool
) -> tuple[Tensor, Tensor]:
    """Linear colour (T, 3, n) and z-depth (T, n)."""
    world, frame = scene.world, tiles.frame
    rays, depth, index = _first_hit(scene, tiles)
    hits = describe_hits(world, frame, rays, pixel_angle, depth, index, bank.texels, bank.size)
    near = around(world, frame, hits.points, 2.0 * OCCLUSION_RADIUS_M)
    open_sky = occlusion(world, frame, to_pairs(near, slice(0, SOLIDS), tiles.first_row), scene.metric, hits)
    crossed = torch.zeros_like(open_sky)
    if shadows:
        light = world.light[frame, 0]
        between = towards(world, frame, hits.points, light)
        for part, interval in _SHAPES:
            matter_towards(crossed, to_pairs(between, part, tiles.first_row), interval, scene.unit, light, hits)
    colour = light_hits(world, frame, rays, hits, open_sky, light_through(crossed))
    return _add_mirror_images(colour, scene, tiles, rays, hits, pixel_angle, bank), depth


def _add_mirror_images(
    colour: Tensor, scene: _Scene, tiles: _Tiles, rays: Rays, hits: Hits, pixel_angle: Tensor, bank: TextureBank
) -> Tensor:
    """Add what glossy surfaces reflect of rooms, lamps and windows, not of furniture."""
    rays, share = mirrored(rays, hits)
    chosen = (share.amax(1) > _MIN_MIRROR).nonzero()[:, 0]
    if not len(chosen):
        return colour
    world, frame, first_row = scene.world, tiles.frame[chosen], tiles.first_row[chosen]
    rays = Rays(rays.origin[chosen], rays.direction[chosen])
    depth, room = room_exit(world.room_low[frame], world.room_high[frame], rays)
    best = packed(depth.clamp(1e-3, FAR_M), room + SOLIDS)
    tile = torch.arange(len(chosen), device=frame.device).repeat_interleave(GLOWING_BOXES)
    row = (first_row[:, None] + torch.arange(GLOWING_BOXES, device=frame.device)).flatten()
    nearest_of(best, Pairs(tile, row), box_interval, scene.unit, rays, first_row)
    seen = describe_hits(world, frame, rays, _MIRROR_BLUR * pixel_angle, *unpacked(best), bank.texels, bank.size)
    light = torch.ones_like(seen.glow)
    reflected = light_hits(world, frame, rays, seen._replace(gloss=torch.zeros_like(light)), light, light)
    return colour.index_add(0, chosen, share[chosen, None] * reflected)
