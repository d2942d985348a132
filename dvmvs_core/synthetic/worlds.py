# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Random indoor worlds: rooms joined by doorways, furnished with assemblies of boxes, ellipsoids and cylinders.

World axes: z up, floor at z = 0, metres. The rooms of a world are empty axis-aligned boxes (the main room, and a
doorway with a room behind it, an annex, or niches and windows cut into walls); solids stand in them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from dvmvs_core.synthetic.assembly import Builder, Look, Place, Solid, draw_weighted
from dvmvs_core.synthetic.fixtures import FACING_ROOM, ceiling_fixtures, run_along_walls, wall_fixture
from dvmvs_core.synthetic.furniture import FURNITURE, SLENDER, dining_set, heap, kitchen
from dvmvs_core.synthetic.materials import draw_materials
from dvmvs_core.synthetic.world_tensors import (
    BOXES,
    CYLINDERS,
    ELLIPSOIDS,
    LIGHTS,
    ROOMS,
    SOLIDS,
    SURFACES,
    WorldTensors,
)

_BURIED = (0.0, 0.0, -500.0)
"""Where unused solids lie: under the floor, never seen."""
_KITCHENS = 0.25
"""Share of worlds with a run of kitchen cupboards."""
_DINING_SETS = 0.35
"""Share of worlds with a table that chairs stand around."""


def sample_world(rng: np.random.Generator, textures: int, plain_textures: int, furniture: bool = True) -> WorldTensors:
    """Draw a world.

    Args:
        rng: Source of randomness; the same state gives the same world.
        textures: Number of textures in the bank.
        plain_textures: How many of them, the first ones, are plain.
        furniture: Whether anything stands or hangs in the rooms.

    Returns:
        Tensors without a batch axis, float32, on the CPU.
    """
    low, high = _sample_rooms(rng)
    builder = Builder(rng)
    if furniture:
        _furnish(builder, low, high)
    return _finish(builder, low, high, textures, plain_textures)


def _sample_rooms(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    kind = rng.choice(["room", "corridor", "hall"], p=[0.45, 0.18, 0.37])
    if kind == "room":
        size = np.array([rng.uniform(3.2, 6.5), rng.uniform(3.2, 6.0), rng.uniform(2.3, 3.2)])
    elif kind == "corridor":
        size = np.array([rng.uniform(7.0, 18.0), rng.uniform(1.7, 3.2), rng.uniform(2.3, 3.2)])
    else:
        size = np.array([rng.uniform(6.0, 17.0), rng.uniform(6.0, 13.0), rng.uniform(2.7, 5.0)])
    low = [np.array([-size[0] / 2, -size[1] / 2, 0.0])]
    high = [np.array([size[0] / 2, size[1] / 2, size[2]])]
    while len(low) < ROOMS:
        choice = rng.choice(["beyond", "niche", "annex", "none"], p=[0.35, 0.35, 0.15, 0.15])
        if choice == "beyond" and len(low) > ROOMS - 2:
            choice = "niche"
        axis, side = int(rng.integers(2)), int(rng.integers(2))
        other = 1 - axis
        sign = 1.0 if side else -1.0
        wall = high[0][axis] if side else low[0][axis]

        def span(
            near: float,
            far: float,
            width: float,
            bottom: float,
            top: float,
            axis: int = axis,
            other: int = other,
            sign: float = sign,
            wall: float = wall,
            middle: float | None = None,
        ) -> float:
            slack = max(0.0, size[other] / 2 - width / 2 - 0.1)
            place = rng.uniform(-slack, slack) if middle is None else middle
            a, b = np.zeros(3), np.zeros(3)
            ends = sorted((wall + sign * near, wall + sign * far))
            a[axis], b[axis] = ends
            a[other], b[other] = place - width / 2, place + width / 2
            a[2], b[2] = bottom, top
            low.append(a)
            high.append(b)
            return place

        if choice == "beyond":
            thick = rng.uniform(0.08, 0.25)
            width, door = rng.uniform(0.8, 1.8), rng.uniform(1.95, 2.25)
            middle = span(-0.02, thick + 0.02, min(width, size[other] - 0.3), 0.0, door)
            span(thick, thick + rng.uniform(1.5, 6.0), rng.uniform(2.0, 6.0), 0.0, rng.uniform(2.3, 3.0), middle=middle)
        elif choice == "niche":
            width = min(rng.uniform(0.5, 2.2), size[other] - 0.3)
            bottom = rng.choice([0.0, rng.uniform(0.4, 1.1)])
            span(-0.02, rng.uniform(0.06, 0.5), width, bottom, min(bottom + rng.uniform(0.5, 1.6), size[2] - 0.1))
        elif choice == "annex":
            width = size[other] * rng.uniform(0.35, 0.8)
            span(-0.02, rng.uniform(0.6, 3.0), width, 0.0, size[2] - rng.choice([0.0, rng.uniform(0.05, 0.4)]))
        else:
            low.append(low[0].copy())
            high.append(high[0].copy())
    return np.stack(low[:ROOMS]), np.stack(high[:ROOMS])


_Maker = Callable[[Builder, Place, float, float, float], None]


def _furnish(builder: Builder, low: np.ndarray, high: np.ndarray) -> None:
    rng = builder.rng
    sides = high[0][:2] - low[0][:2]
    narrow = min(sides) < 2.9
    if rng.random() < _KITCHENS and not narrow:
        _place(builder, low[0], high[0], kitchen, True, (rng.uniform(1.4, min(3.4, min(sides) - 0.8)), 0.62))
    if rng.random() < _DINING_SETS and not narrow:
        _place(builder, low[0], high[0], dining_set, False, (rng.uniform(1.1, min(2.4, min(sides) - 1.2)), 1.4))
    # Fixtures before the rest, or a full room would have neither doors nor windows.
    run_along_walls(builder, low[0], high[0])
    perimeter = 2.0 * float(sides.sum())
    for _ in range(int(np.clip(perimeter * rng.uniform(0.4, 1.0), 5, 22))):
        wall_fixture(builder, low, high)
    ceiling_fixtures(builder, low[0], high[0])
    for _ in range(int(np.clip(np.prod(sides) / 1.3, 10, 36))):
        maker = draw_weighted(rng, FURNITURE)
        if builder.room_for(6):
            _place(builder, low[0], high[0], maker, against_wall=narrow or rng.random() < 0.6)
    for _ in range(int(rng.integers(1, 4))):
        wall_fixture(builder, low, high)
    for _ in range(12):
        if builder.room_for(1):
            _place(builder, low[0], high[0], heap, against_wall=rng.random() < 0.6)


def _place(
    builder: Builder,
    low: np.ndarray,
    high: np.ndarray,
    maker: _Maker,
    against_wall: bool,
    size: tuple[float, float] | None = None,
) -> None:
    """Try a few spots for an assembly; give up where the room is full."""
    rng = builder.rng
    width, depth = rng.uniform(0.45, 1.9), rng.uniform(0.3, 0.9)
    if maker in SLENDER:
        width, depth = rng.uniform(0.35, 0.55), rng.uniform(0.35, 0.55)
    if min(high[:2] - low[:2]) < 2.9:
        depth = min(depth, 0.4)
    width, depth = size or (width, depth)
    radius = 0.5 * float(np.hypot(width, depth))
    for _ in range(8):
        if against_wall:
            axis, side = int(rng.integers(2)), int(rng.integers(2))
            yaw = FACING_ROOM[(axis, side)]
            spot = np.zeros(2)
            gap = depth / 2 + rng.choice([0.01, rng.uniform(0.02, 0.15)])
            spot[axis] = low[axis] + gap if side == 0 else high[axis] - gap
            margin = min(width / 2 + 0.05, (high[1 - axis] - low[1 - axis]) / 2)
            spot[1 - axis] = rng.uniform(low[1 - axis] + margin, high[1 - axis] - margin)
        else:
            yaw = rng.choice([0.0, np.pi / 2, np.pi, -np.pi / 2]) + rng.choice([0.0, rng.normal(0, 0.4)])
            spot = rng.uniform(low[:2] + 0.6, high[:2] - 0.6)
        if builder.free(spot[0], spot[1], radius):
            builder.footprints.append((spot[0], spot[1], radius))
            maker(builder, Place(float(spot[0]), float(spot[1]), float(yaw)), width, depth, high[2])
            return


def _finish(builder: Builder, low: np.ndarray, high: np.ndarray, textures: int, plain_textures: int) -> WorldTensors:
    """Pad to fixed shapes, paint and light."""
    rng = builder.rng
    buried = Solid(np.array(_BURIED), np.full(3, 0.1), np.eye(3), 0)
    # What glows comes first: the renderer looks for it in mirror images.
    boxes = sorted(builder.boxes, key=lambda solid: builder.looks[solid.material] is not Look.GLOWING)
    solids: list[Solid] = []
    for found, number in ((boxes, BOXES), (builder.ellipsoids, ELLIPSOIDS), (builder.cylinders, CYLINDERS)):
        solids += found + [buried] * (number - len(found))

    # Materials: one for each assembly part, then walls, floor, ceiling; rooms beyond differ at times.
    looks = list(builder.looks)
    role = ["solid"] * len(looks)
    room_material = np.zeros((ROOMS, 6), dtype=int)
    for room in range(ROOMS):
        if room == 0 or rng.random() < 0.35:
            walls, floor, ceiling = range(len(looks), len(looks) + 3)
            role += ["wall", "floor", "wall"]
            accent = walls
            if rng.random() < 0.35:
                accent = len(role)
                role.append("wall")
            looks += [Look.ANY] * (len(role) - len(looks))
        room_material[room] = [walls, walls, walls, walls, floor, ceiling]
        room_material[room, int(rng.integers(4))] = accent
    material = np.concatenate([[solid.material for solid in solids], room_material.ravel()])
    painted = draw_materials(rng, looks, np.array(role), textures, plain_textures)

    light = rng.uniform(low[0] + 0.2, high[0] - 0.2, (LIGHTS, 3))
    light[:, 2] = high[0][2] - rng.uniform(0.02, 0.4, LIGHTS)
    lamps = builder.lamps[:LIGHTS]
    light[: len(lamps)] = np.reshape(lamps, (-1, 3))
    warmth = 1.0 + rng.normal(0.0, 0.08, (LIGHTS, 1)) * np.array([1.0, 0.0, -1.0])
    power = rng.uniform(0.4, 2.5, (LIGHTS, 1)) * warmth
    ambient = rng.uniform(0.2, 0.65) * (1.0 + rng.normal(0.0, 0.04, 3))

    assert len(solids) == SOLIDS and len(material) == SURFACES

    def tensor(values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))

    return WorldTensors(
        world_R_solid=tensor(np.stack([solid.rotation for solid in solids])),
        centre=tensor(np.stack([solid.centre for solid in solids])),
        half=tensor(np.stack([solid.half for solid in solids])),
        room_low=tensor(low),
        room_high=tensor(high),
        texture=torch.from_numpy(painted.texture[material].astype(np.int64)),
        mapping=tensor(painted.mapping[material]),
        gain=tensor(painted.gain[material]),
        bias=tensor(painted.bias[material]),
        gloss=tensor(painted.gloss[material]),
        glow=tensor(painted.glow[material]),
        light=tensor(light),
        power=tensor(power),
        ambient=tensor(ambient),
    )
