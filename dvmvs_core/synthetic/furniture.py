# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What stands in rooms: assemblies of solids, each made at a `Place`.

A maker takes the builder, the place, the width and depth that it may have, and the height of the ceiling, all metres.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dvmvs_core.synthetic.assembly import Builder, Look, Place, draw_weighted, turn_x, turn_z
from dvmvs_core.synthetic.clutter import ON_FLOORS, cover, fill_board, leaves

Side = tuple[float, ...]
"""Offsets along one of a place's axes, metres."""
_PER_M2 = (5.0, 16.0)
"""Things on a square metre of a table."""


def _clutter(builder: Builder, place: Place, width: float, depth: float, top: float, free: float = 0.6) -> None:
    """Lay things on a surface, as many as suit its size; one in eight is empty."""
    rng = builder.rng
    if rng.random() > 0.12:
        cover(builder, place, width, depth, top, 1 + round(width * depth * rng.uniform(*_PER_M2)), free)


def table(builder: Builder, place: Place, width: float, depth: float, ceiling: float) -> None:
    """A table or a low one, with legs or side panels, and things on it."""
    rng = builder.rng
    height = rng.choice([rng.uniform(0.68, 0.8), rng.uniform(0.35, 0.5)], p=[0.75, 0.25])
    thick = rng.uniform(0.012, 0.03)
    top, legs = builder.smooth(), builder.material()
    builder.box(place, (0, 0, height - thick), (width / 2, depth / 2, thick), top)
    if rng.random() < 0.65:
        leg = rng.uniform(0.015, 0.04)
        x, y = width / 2 - leg - 0.02, depth / 2 - leg - 0.02
        _legs(builder, place, (-x, x), (-y, y), (leg, height / 2 - thick), legs)
    else:
        for sx in (-1, 1):
            offset = (sx * (width / 2 - 0.03), 0, height / 2 - thick)
            builder.box(place, offset, (0.02, depth / 2 - 0.02, height / 2 - thick), legs)
    _clutter(builder, place, width, depth, height)
    if rng.random() < 0.4:
        on_floor(builder, place.moved(rng.uniform(-0.3, 0.3) * width, 0.0, 0.0), 0.2, 0.2, height)


def shelf(builder: Builder, place: Place, width: float, depth: float, ceiling: float) -> None:
    """A shelf, with things on its boards."""
    rng = builder.rng
    height, depth = min(rng.uniform(0.8, 2.2), ceiling - 0.1), min(depth, 0.4)
    frame, back = builder.smooth(), builder.material()
    for sx in (-1, 1):
        builder.box(place, (sx * width / 2, 0, height / 2), (0.012, depth / 2, height / 2), frame)
    builder.box(place, (0, -depth / 2 + 0.01, height / 2), (width / 2, 0.01, height / 2), back)
    boards = int(np.clip(round(height / rng.uniform(0.3, 0.5)), 2, 6))
    for board in range(boards):
        z = 0.06 + (height - 0.08) * board / (boards - 1)
        builder.box(place, (0, 0, z), (width / 2, depth / 2, 0.012), frame)
        if board < boards - 1:
            fill_board(builder, place, width - 0.03, depth, z + 0.012, (height - 0.08) / (boards - 1) - 0.03)
        elif height < 1.6:
            _clutter(builder, place, width, depth, z + 0.012)


def cupboard(builder: Builder, place: Place, width: float, depth: float, ceiling: float) -> None:
    """A cupboard or a chest, with doors or without."""
    rng = builder.rng
    height = min(rng.choice([rng.uniform(0.5, 1.1), rng.uniform(1.2, 2.1)]), ceiling - 0.1)
    body = builder.smooth()
    builder.box(place, (0, 0, height / 2), (width / 2, depth / 2, height / 2), body)
    if rng.random() < 0.6:
        doors = int(rng.integers(1, 4))
        front = body if rng.random() < 0.6 else builder.smooth()
        for door in range(doors):
            x = (door + 0.5) / doors * width - width / 2
            half = (width / doors / 2 - 0.012, 0.01, height / 2 - 0.03)
            builder.box(place, (x, depth / 2 + 0.008, height / 2), half, front)
            handle = (x + 0.35 * width / doors, depth / 2 + 0.035, height * 0.55)
            builder.box(place, handle, (0.006, 0.008, 0.06), builder.material(Look.METAL))
    if height < 1.2:
        _clutter(builder, place, width, depth, height)


def seat(builder: Builder, place: Place, width: float, depth: float, ceiling: float) -> None:
    """A chair."""
    _chair(builder, place, width, depth, _ChairModel.drawn(builder))


def dining_set(builder: Builder, place: Place, width: float, depth: float, ceiling: float) -> None:
    """A long table with chairs of one model along it, most of them pushed under it."""
    rng = builder.rng
    depth = max(depth - 0.6, 0.6)  # the chairs take the rest
    high, thick = rng.uniform(0.7, 0.78), rng.uniform(0.012, 0.025)
    builder.box(place, (0, 0, high - thick), (width / 2, depth / 2, thick), builder.smooth())
    legs = builder.material()
    leg = rng.uniform(0.02, 0.04)
    for sx in (-1, 1):
        if rng.random() < 0.5:
            builder.box(place, (sx * (width / 2 - 0.15), 0, high / 2 - thick), (leg, depth / 4, high / 2 - thick), legs)
        else:
            y = depth / 2 - leg
            _legs(builder, place, (sx * (width / 2 - leg),), (-y, y), (leg, high / 2 - thick), legs)
    model = _ChairModel.drawn(builder)
    chair_width, chair_depth = rng.uniform(0.38, 0.5), rng.uniform(0.38, 0.48)
    along = min(2, int((width - 0.1) / (chair_width + 0.08)))
    for side in (-1, 1):
        for number in range(along):
            if rng.random() < 0.15:
                continue
            x = ((number + 0.5) / along - 0.5) * (width - 0.1) + rng.normal(0, 0.02)
            y = depth / 2 + chair_depth / 2 - rng.uniform(-0.1, 0.3)
            turn = rng.normal(0, 0.12)
            # A chair's back is on its -y side, and the table on its +y side.
            chair = place.moved(x, side * y, turn + (np.pi if side > 0 else 0.0))
            _chair(builder, chair, chair_width, chair_depth, model)
    _clutter(builder, place, width, depth, high)


@dataclass(frozen=True)
class _ChairModel:
    """What chairs that were bought together have in common: materials, sizes in metres, and what they stand on."""

    shell: int
    legs: int
    height: float
    back: float
    lean: float
    stand: str

    @classmethod
    def drawn(cls, builder: Builder) -> _ChairModel:
        rng = builder.rng
        return cls(
            shell=builder.material() if rng.random() < 0.5 else builder.smooth(),
            legs=builder.material(),
            height=rng.uniform(0.42, 0.5),
            back=rng.uniform(0.13, 0.28),
            lean=rng.uniform(0.05, 0.3),
            stand=rng.choice(["foot", "legs", "runners"], p=[0.3, 0.4, 0.3]),
        )


def _chair(builder: Builder, place: Place, width: float, depth: float, model: _ChairModel) -> None:
    height = model.height
    builder.box(place, (0, 0, height - 0.03), (width / 2, depth / 2, 0.03), model.shell)
    middle = (0, -depth / 2, height + model.back + 0.08)
    builder.box(place, middle, (width / 2, 0.02, model.back), model.shell, turn_x(model.lean))
    if model.stand == "foot":
        builder.cylinder(place, (0, 0, height / 2), (0.03, 0.03, height / 2), model.legs)
        builder.box(place, (0, 0, 0.03), (width * 0.5, 0.03, 0.02), model.legs)
        builder.box(place, (0, 0, 0.03), (0.03, depth * 0.5, 0.02), model.legs)
        return
    front = depth / 2 - 0.02
    ys = (front, -front) if model.stand == "legs" else (front,)
    for x in (0.02 - width / 2, width / 2 - 0.02):
        _legs(builder, place, (x,), ys, (0.015, height / 2), model.legs)
        if model.stand == "runners":
            builder.box(place, (x, 0, 0.015), (0.015, depth / 2, 0.015), model.legs)


def _legs(builder: Builder, place: Place, xs: Side, ys: Side, half_size: tuple[float, float], material: int) -> None:
    """Square legs on the floor, one at each x and y; `half_size` is half of their width and of their height."""
    half_width, half_height = half_size
    for x in xs:
        for y in ys:
            builder.box(place, (x, y, half_height), (half_width, half_width, half_height), material)


def sofa(builder: Builder, place: Place, width: float, depth: float, ceiling: float) -> None:
    """A sofa."""
    width, cloth = max(width, 1.2), builder.smooth()
    depth = max(depth, 0.6)
    builder.box(place, (0, 0, 0.21), (width / 2, depth / 2, 0.21), cloth)
    builder.box(place, (0, -depth / 2 + 0.1, 0.55), (width / 2, 0.1, 0.25), cloth, turn_x(0.15))
    for sx in (-1, 1):
        builder.box(place, (sx * (width / 2 - 0.08), 0, 0.31), (0.08, depth / 2, 0.31), cloth)
    for side in (-1, 1):
        builder.box(place, (side * width / 5.5, 0.05, 0.46), (width / 6, depth / 2 - 0.08, 0.05), cloth)
        if builder.rng.random() < 0.7:
            cushion = builder.material(Look.RUG if builder.rng.random() < 0.5 else Look.ANY)
            builder.ellipsoid(place, (side * width * 0.25, -0.1, 0.66), (0.22, 0.1, 0.18), cushion, turn_x(-0.3))


def heap(builder: Builder, place: Place, width: float, depth: float, ceiling: float) -> None:
    """Boxes, balls and drums standing on the floor, some of them stacked."""
    rng = builder.rng
    top = 0.0
    for _ in range(int(rng.integers(1, 4))):
        half = rng.uniform(0.1, 0.35, 3)
        tilt = turn_z(rng.normal(0, 0.5))
        shape = rng.choice(["box", "drum", "ball"], p=[0.7, 0.18, 0.12])
        if shape == "box":
            offset = (rng.normal(0, 0.05), rng.normal(0, 0.05), top + half[2])
            builder.box(place, offset, tuple(half), builder.material(), tilt)
            top += 2 * half[2]
        elif shape == "drum":
            radius = rng.uniform(0.1, 0.25)
            builder.cylinder(place, (width / 2, 0.1, half[2]), (radius, radius, half[2]), builder.material())
        else:
            builder.ellipsoid(place, (-width / 2, 0.1, half[2]), tuple(half), builder.material())
        if top > 1.3:
            break


def leaning_board(builder: Builder, place: Place, width: float, depth: float, ceiling: float) -> None:
    """A panel tilted towards the wall behind it, or a ramp."""
    rng = builder.rng
    angle = rng.choice([rng.uniform(0.1, 0.45), rng.uniform(0.9, 1.3)])
    length = min(rng.uniform(0.4, 1.0), 0.5 * ceiling)
    half = (width / 2, 0.015, length)
    builder.box(place, (0, 0, length * np.cos(angle) + 0.01), half, builder.smooth(), turn_x(angle))


def column(builder: Builder, place: Place, width: float, depth: float, ceiling: float) -> None:
    """A round or square column."""
    rng = builder.rng
    radius = rng.uniform(0.05, 0.25)
    if rng.random() < 0.5:
        builder.cylinder(place, (0, 0, ceiling / 2), (radius, radius, ceiling / 2), builder.material())
    else:
        builder.box(place, (0, 0, ceiling / 2), (radius, radius, ceiling / 2), builder.material())


def lamp(builder: Builder, place: Place, width: float, depth: float, ceiling: float) -> None:
    """A lamp on a foot."""
    height, metal = builder.rng.uniform(1.2, 1.8), builder.material()
    builder.cylinder(place, (0, 0, 0.015), (0.14, 0.14, 0.015), metal)
    builder.cylinder(place, (0, 0, height / 2), (0.014, 0.014, height / 2), metal)
    shade = builder.material(Look.GLOWING if builder.rng.random() < 0.5 else Look.ANY)
    builder.ellipsoid(place, (0, 0, height), (0.16, 0.16, 0.13), shade)


def plinth(builder: Builder, place: Place, width: float, depth: float, ceiling: float) -> None:
    """A broad low step, or a free-standing partition wall."""
    rng = builder.rng
    if rng.random() < 0.5:
        half = (width * 0.8, depth * 0.8, rng.uniform(0.05, 0.15))
    else:
        half = (width * 0.7, 0.05, min(rng.uniform(0.5, 1.1), ceiling / 2 - 0.02))
    builder.box(place, (0, 0, half[2]), half, builder.smooth())


def kitchen(builder: Builder, place: Place, width: float, depth: float, ceiling: float) -> None:
    """A run of kitchen cupboards: one colour, hardly a mark on it, and mostly dark."""
    rng = builder.rng
    looks = {Look.DARK: 0.55, Look.WHITE: 0.2, Look.BARE: 0.15, Look.ANY: 0.1}
    front, top = builder.material(draw_weighted(rng, looks)), builder.smooth()
    body = builder.material(Look.DARK)
    depth, doors = 0.6, max(2, round(width / rng.uniform(0.45, 0.8)))
    builder.box(place, (0, -0.01, 0.44), (width / 2, depth / 2 - 0.02, 0.44), body)
    oven = int(rng.integers(-3, doors))
    steel, handles = builder.material(Look.DARK), builder.material(Look.METAL)
    for door in range(doors):
        x = (door + 0.5) / doors * width - width / 2
        half = (width / doors / 2 - 0.005, 0.01, 0.38)
        builder.box(place, (x, depth / 2 - 0.015, 0.49), half, steel if door == oven else front)
        builder.box(place, (x, depth / 2 + 0.025, 0.8), (0.08, 0.012, 0.008), handles)
    builder.box(place, (0, 0.01, 0.9), (width / 2 + 0.01, depth / 2 + 0.01, 0.018), top)
    if rng.random() < 0.65:
        tall, bottom = rng.uniform(0.3, 0.45), rng.uniform(1.35, 1.5)
        reach = width / 2 * rng.choice([1.0, rng.uniform(0.5, 0.9)])
        side = rng.choice([-1.0, 1.0]) * (width / 2 - reach)
        builder.box(place, (side, -depth / 2 + 0.17, bottom + tall), (reach, 0.16, tall), body)
        doors = max(1, round(2 * reach / rng.uniform(0.45, 0.8)))
        for door in range(doors):
            x = side + (door + 0.5) / doors * 2 * reach - reach
            half = (reach / doors - 0.005, 0.01, tall - 0.005)
            builder.box(place, (x, -depth / 2 + 0.34, bottom + tall), half, front)
    if rng.random() < 0.45:
        high = min(rng.uniform(0.8, 1.1), ceiling / 2 - 0.03)
        end = rng.choice([-1.0, 1.0]) * (width / 2 + 0.31)
        builder.box(place, (end, 0, high), (0.3, depth / 2, high), steel if rng.random() < 0.3 else front)
    _clutter(builder, place, width, depth - 0.1, 0.918, 0.4)


def wardrobe(builder: Builder, place: Place, width: float, depth: float, ceiling: float) -> None:
    """Doors from the floor to above one's head: close by, they fill the image with nothing."""
    rng = builder.rng
    looks = {Look.WHITE: 0.35, Look.DARK: 0.3, Look.BARE: 0.25, Look.ANY: 0.1}
    width, tall = max(width, 1.0), min(rng.uniform(1.9, 2.4), ceiling - 0.03)
    front = builder.material(draw_weighted(rng, looks))
    builder.box(place, (0, 0, tall / 2), (width / 2, depth / 2, tall / 2), builder.material(Look.BARE))
    doors = max(1, round(width / rng.uniform(0.45, 0.9)))
    for door in range(doors):
        x = (door + 0.5) / doors * width - width / 2
        half = (width / doors / 2 - 0.006, 0.01, tall / 2 - 0.03)
        builder.box(place, (x, depth / 2 + 0.009, tall / 2 + 0.02), half, front)


def plant(builder: Builder, place: Place, width: float, depth: float, ceiling: float) -> None:
    """A pot with blades that lean all ways: thin, slanted, and much alike."""
    rng = builder.rng
    pot, leaf = rng.uniform(0.12, 0.2), builder.material(Look.LEAF)
    builder.cylinder(place, (0, 0, pot), (0.8 * pot, 0.8 * pot, pot), builder.smooth())
    if rng.random() < 0.5:
        stem = rng.uniform(0.1, 0.7)
        builder.rod(place, np.array([0, 0, 2 * pot]), np.array([0, 0, 2 * pot + stem]), 0.012, builder.material())
        leaves(builder, place, 2 * pot + 0.7 * stem, rng.uniform(0.2, 0.4), int(rng.integers(10, 22)))
        return
    blades = int(rng.integers(7, 14))
    for blade in range(blades):
        turn, lean = 2 * np.pi * blade / blades + rng.normal(0, 0.3), rng.uniform(0.1, 1.1)
        long = rng.uniform(0.2, 0.45)
        reach = long * np.sin(lean)
        middle = (-reach * np.sin(turn), reach * np.cos(turn), 2 * pot + long * np.cos(lean))
        half = (rng.uniform(0.015, 0.06), 0.004, long)
        builder.box(place, middle, half, leaf, turn_z(turn) @ turn_x(-lean))


def on_floor(builder: Builder, place: Place, width: float, depth: float, ceiling: float) -> None:
    """One or two things that were put on the floor."""
    rng = builder.rng
    for _ in range(int(rng.integers(1, 3))):
        maker = draw_weighted(rng, ON_FLOORS)
        spot = place.moved(rng.normal(0, width / 2), rng.normal(0, depth / 2), rng.uniform(-1.5, 1.5))
        maker(builder, spot, 0.0, min(ceiling, 0.6))


def rug(builder: Builder, place: Place, width: float, depth: float, ceiling: float) -> None:
    """A rug."""
    rng = builder.rng
    builder.box(place, (0, 0, 0.004), (0.7 * width, rng.uniform(0.4, 0.8), 0.004), builder.material(Look.RUG))


def rack(builder: Builder, place: Place, width: float, depth: float, ceiling: float) -> None:
    """Thin rods: a clothes-horse, a trolley, a stand."""
    rng = builder.rng
    metal, high = builder.material(Look.METAL if rng.random() < 0.6 else Look.ANY), rng.uniform(0.6, 1.5)
    x, y, thick = min(width, 1.0) / 2, min(depth, 0.6) / 2, rng.uniform(0.006, 0.014)
    for sx in (-1, 1):
        for sy in (-1, 1):
            builder.rod(place, np.array([sx * x, sy * y, 0]), np.array([sx * x, sy * y, high]), thick, metal)
        builder.rod(place, np.array([sx * x, -y, high]), np.array([sx * x, y, high]), thick, metal)
    levels = int(rng.integers(1, 4))
    for level in range(levels):
        z = high * (level + 0.4) / levels
        if rng.random() < 0.5:
            builder.box(place, (0, 0, z), (x, y, 0.008), builder.smooth())
            cover(builder, place, 2 * x, 2 * y, z + 0.008, int(rng.integers(2, 6)), 0.8 * high / levels)
        else:
            for bar in range(4):
                at = (2 * bar / 3 - 1) * y
                builder.rod(place, np.array([-x, at, z]), np.array([x, at, z]), 0.6 * thick, metal)


FURNITURE = {
    table: 0.22,
    shelf: 0.15,
    cupboard: 0.1,
    seat: 0.1,
    sofa: 0.05,
    heap: 0.07,
    leaning_board: 0.03,
    column: 0.03,
    lamp: 0.03,
    plinth: 0.02,
    wardrobe: 0.04,
    plant: 0.06,
    on_floor: 0.06,
    rug: 0.04,
    rack: 0.04,
}
"""Makers, and how often each is chosen."""
SLENDER = (seat, lamp, column, plant, on_floor)
"""Makers of what is about as deep as it is wide."""
