# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""From worlds and cameras to frames: the stages of ray casting, compiled, or tile by tile where they cannot be."""

from __future__ import annotations

import functools
import itertools
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dvmvs_core.data.synthetic.raycast import (
    NUMBER_MASK,
    Rays,
    box_entry,
    camera_rays,
    nearest,
    room_exit,
    round_entry,
)
from dvmvs_core.data.synthetic.shading import (
    OCCLUSION_RADIUS_M,
    box_shadow,
    describe_hits,
    light_hits,
    occlusion,
    round_shadow,
)
from dvmvs_core.data.synthetic.textures import TextureBank
from dvmvs_core.data.synthetic.world_tensors import (
    BOX_PART,
    BOXES,
    ROUND_PART,
    SOLIDS,
    SolidFrames,
    WorldTensors,
    solid_frames,
)

_INNER_BOX = 0.75
"""Size of the box that stands for a round solid in occlusion."""
_TILE = 64
"""Side of the pixel squares that are traced together without a compiler: small enough for a core's cache, and each sees
only a few of the solids."""
_log = logging.getLogger(__name__)


class _Scene(NamedTuple):
    """A world with the tables that its stages share, all with a leading frame axis F."""

    world: WorldTensors
    unit: SolidFrames
    metric: SolidFrames
    inner_half: Tensor  # (F, S, 3): round solids darken their surroundings like the box inside them
    origin: Tensor  # (F, S, 3): cameras in each solid's unit frame
    pixel_angle: Tensor  # (F,)


class Renderer:
    """Renders frames of worlds with one texture bank.

    Each stage compiles on its own: fused across stages, the per-pixel look-ups would run once per solid. Without a
    compiler the same stages run on tiles, each with the boxes that can matter to it, and give the same frames.
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
        size = (height * samples, width * samples)
        rays = camera_rays(world_T_cam, K, height, width, samples)
        if self._compile:
            try:
                colour, depth = _trace(scene, rays, self.bank, shadows, _run_compiled)
            except torch._dynamo.exc.BackendCompilerFailed as error:
                _log.warning("torch.compile failed, so rendering runs several times slower: %s", str(error)[:200])
                self._compile = False
        if not self._compile:
            colour, depth = _trace_tiles(scene, rays, size, self.bank, shadows)
        colour, depth = colour.view(-1, 3, *size), depth.view(-1, *size)
        if samples % 2 == 0:
            centres = camera_rays(world_T_cam, K, height, width)
            depth, _ = _first_hit(scene, centres, _run_compiled if self._compile else _run)
            depth = depth.view(-1, height, width)
        elif samples > 1:
            depth = depth[:, samples // 2 :: samples, samples // 2 :: samples].contiguous()
        if samples > 1:
            colour = torch.nn.functional.avg_pool2d(colour, samples)
        return colour, depth


def coarse_view(world: WorldTensors, world_T_cam: Tensor, K: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Z-depth (F, H, W) of a few small views, and which pixels show a solid; arguments as of `Renderer.__call__`."""
    rays = camera_rays(world_T_cam, K, height, width)
    depth, index = _first_hit(_prepare(world, world_T_cam, K, 1), rays, _run)
    return depth.view(-1, height, width), (index < SOLIDS).view(-1, height, width)


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


def _run(stage: Callable[..., Any], *args: object) -> Any:
    return stage(*args)


def _run_compiled(stage: Callable[..., Any], *args: object) -> Any:
    return _compiled(stage)(*args)


@functools.cache
def _compiled(stage: Callable[..., Any]) -> Callable[..., Any]:
    """Compile once per process, whatever the number of renderers."""
    # Inductor stores values that are read often: in these stages that would be numbers per solid and pixel, dearer to
    # store than to work out again.
    fuse_all = {"realize_reads_threshold": 1000, "realize_opcount_threshold": 1000, "realize_acc_reads_threshold": 1000}
    per_solid = stage in (box_entry, occlusion, box_shadow)
    return torch.compile(stage, dynamic=False, options=fuse_all if per_solid else None)


def _first_hit(scene: _Scene, rays: Rays, run: Callable[..., Any]) -> tuple[Tensor, Tensor]:
    tags = [
        run(stage, scene.unit.rows[:, part], scene.origin[:, part], rays.direction)
        for stage, part in ((box_entry, BOX_PART), (round_entry, ROUND_PART))
    ]
    return run(nearest, run(room_exit, scene.world.room_low, scene.world.room_high, rays), *tags)


def _trace(
    scene: _Scene, rays: Rays, bank: TextureBank, shadows: bool, run: Callable[..., Any]
) -> tuple[Tensor, Tensor]:
    """Linear colour (F, 3, N) and z-depth (F, N) of rays."""
    world, unit = scene.world, scene.unit
    depth, index = _first_hit(scene, rays, run)
    hits = run(describe_hits, world, rays, scene.pixel_angle, depth, index, bank.texels, bank.size)
    open_sky = run(occlusion, scene.metric, scene.inner_half, world.room_low, world.room_high, hits)
    unshadowed = torch.ones_like(open_sky)
    if shadows:
        for stage, part in ((box_shadow, BOX_PART), (round_shadow, ROUND_PART)):
            passed = run(stage, unit.rows[:, part], unit.shift[:, part], world.light[:, 0], hits)
            unshadowed = torch.minimum(unshadowed, passed)
    return run(light_hits, world, rays, hits, open_sky, unshadowed), depth


def _trace_tiles(
    scene: _Scene, rays: Rays, size: tuple[int, int], bank: TextureBank, shadows: bool
) -> tuple[Tensor, Tensor]:
    """`_trace`, frame by frame and tile by tile."""
    frames = [_only_frame(scene, frame) for frame in range(len(rays.origin))]
    colour = rays.direction.new_empty((len(frames), 3, *size))
    depth = rays.direction.new_empty((len(frames), *size))
    grid = rays.direction.view(len(frames), 3, *size)

    def trace(corner: tuple[int, int, int]) -> None:
        frame, top, left = corner
        tile = (slice(frame, frame + 1), ..., slice(top, top + _TILE), slice(left, left + _TILE))
        direction = grid[tile]
        part = Rays(rays.origin[frame : frame + 1], direction.flatten(2))
        tile_colour, tile_depth = _trace_tile(frames[frame], part, bank, shadows)
        colour[tile] = tile_colour.view(direction.shape)
        depth[tile] = tile_depth.view(1, *direction.shape[2:])

    corners = itertools.product(range(len(frames)), range(0, size[0], _TILE), range(0, size[1], _TILE))
    # A tile's tensors are too small to share out: each thread takes whole tiles, and torch none of its own.
    count = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(count) as threads:
            for _ in threads.map(trace, corners):
                pass
    finally:
        torch.set_num_threads(count)
    return colour, depth


def _only_frame(scene: Any, frame: int) -> Any:
    """Cut one frame, keeping its axis, out of nested tuples of tensors."""
    if isinstance(scene, Tensor):
        return scene[frame : frame + 1]
    return type(scene)(*(_only_frame(part, frame) for part in scene))


def _trace_tile(scene: _Scene, rays: Rays, bank: TextureBank, shadows: bool) -> tuple[Tensor, Tensor]:
    """`_trace` of one frame's tile, leaving out boxes that cannot change it."""
    world, unit = scene.world, scene.unit
    seen = _boxes_in_cone(world, rays)
    box_tag = box_entry(unit.rows[:, seen], scene.origin[:, seen], rays.direction)
    box_tag = (box_tag & ~NUMBER_MASK) | seen.int()[(box_tag & NUMBER_MASK).long()]
    round_tag = round_entry(unit.rows[:, ROUND_PART], scene.origin[:, ROUND_PART], rays.direction)
    depth, index = nearest(room_exit(world.room_low, world.room_high, rays), box_tag, round_tag)
    hits = describe_hits(world, rays, scene.pixel_angle, depth, index, bank.texels, bank.size)
    low, high = hits.points.amin(2), hits.points.amax(2)
    middle, reach = 0.5 * (low + high)[0], 0.5 * float(torch.linalg.vector_norm(high - low))
    near = _solids_along(world, middle, middle, reach + 2.0 * OCCLUSION_RADIUS_M)
    frames = SolidFrames(scene.metric.rows[:, near], scene.metric.shift[:, near])
    open_sky = occlusion(frames, scene.inner_half[:, near], world.room_low, world.room_high, hits)
    unshadowed = torch.ones_like(open_sky)
    if shadows:
        between = _solids_along(world, middle, world.light[0, 0], reach)
        boxes = between[between < BOXES]
        unshadowed = box_shadow(unit.rows[:, boxes], unit.shift[:, boxes], world.light[:, 0], hits)
        passed = round_shadow(unit.rows[:, ROUND_PART], unit.shift[:, ROUND_PART], world.light[:, 0], hits)
        unshadowed = torch.minimum(unshadowed, passed)
    return light_hits(world, rays, hits, open_sky, unshadowed), depth


def _boxes_in_cone(world: WorldTensors, rays: Rays) -> Tensor:
    """Numbers of the boxes whose enclosing ball meets the cone around one frame's rays; box 0 is always among them."""
    unit = torch.nn.functional.normalize(rays.direction[0], dim=0)
    axis = torch.nn.functional.normalize(unit.mean(1), dim=0)
    spread = torch.acos((axis @ unit).min().clamp(-1.0, 1.0))
    towards = world.centre[0, BOX_PART] - rays.origin[0]
    distance = torch.linalg.vector_norm(towards, dim=1)
    radius = torch.linalg.vector_norm(world.half[0, BOX_PART], dim=1)
    angle = torch.acos(((towards @ axis) / distance).clamp(-1.0, 1.0))
    width = torch.asin((radius / distance).clamp(max=1.0))
    met = (angle <= spread + width + 1e-3) | (distance <= radius)
    met[0] = True
    return met.nonzero()[:, 0]


def _solids_along(world: WorldTensors, start: Tensor, end: Tensor, reach: float) -> Tensor:
    """Numbers of the solids whose enclosing ball comes within `reach` of a segment; solid 0 is always among them."""
    line = end - start
    offset = world.centre[0] - start
    share = ((offset @ line) / (line @ line).clamp(min=1e-12)).clamp(0.0, 1.0)
    distance = torch.linalg.vector_norm(offset - share[:, None] * line, dim=1)
    met = distance <= reach + torch.linalg.vector_norm(world.half[0], dim=1)
    met[0] = True
    return met.nonzero()[:, 0]
