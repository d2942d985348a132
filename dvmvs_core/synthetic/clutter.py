# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Things of 5 to 40 cm that lie on tables, boards and floors.

A maker takes the builder, the place where the thing stands, the height of the surface, and the height that is free
above it, all metres.
"""

from __future__ import annotations

import numpy as np

from dvmvs_core.synthetic.assembly import Builder, Look, Place, draw_weighted, turn_x, turn_z

_SCREENS = (Look.DARK, Look.DARK, Look.GLOWING, Look.POSTER)


def _goods(builder: Builder) -> int:
    """A material of something bought: mostly printed, at times of one colour."""
    return builder.material(Look.LABEL if builder.rng.random() < 0.75 else Look.ANY)


def carton(builder: Builder, spot: Place, z: float, free: float) -> None:
    """One box, or two on top of each other."""
    rng = builder.rng
    for _ in range(1 + (rng.random() < 0.25)):
        half = rng.uniform(0.025, 0.13, 3)
        half[2] = min(half[2], free / 2)
        builder.box(spot, (0, 0, z + half[2]), tuple(half), _goods(builder), turn_z(rng.normal(0, 0.4)))
        z, free = z + 2 * half[2], free - 2 * half[2]
        if free < 0.06:
            return


def book_stack(builder: Builder, spot: Place, z: float, free: float) -> None:
    """Books that lie on each other."""
    rng = builder.rng
    for _ in range(int(rng.integers(1, 6))):
        half = (rng.uniform(0.07, 0.12), rng.uniform(0.09, 0.15), rng.uniform(0.006, 0.025))
        if 2 * half[2] > free:
            return
        builder.box(spot, (0, 0, z + half[2]), half, _goods(builder), turn_z(rng.normal(0, 0.25)))
        z, free = z + 2 * half[2], free - 2 * half[2]


def can(builder: Builder, spot: Place, z: float, free: float) -> None:
    """Cans or jars next to each other."""
    rng = builder.rng
    radius, half = rng.uniform(0.025, 0.06), min(rng.uniform(0.04, 0.12), free / 2)
    material = _goods(builder)
    for number in range(int(rng.choice([1, 2, 3], p=[0.6, 0.25, 0.15]))):
        x, y = number * 2.1 * radius, rng.normal(0, 0.3 * radius)
        builder.cylinder(spot, (x, y, z + half), (radius, radius, half), material)
        if rng.random() < 0.4:
            builder.cylinder(spot, (x, y, z + 2 * half), (radius * 0.9, radius * 0.9, 0.006), builder.material())


def bottle(builder: Builder, spot: Place, z: float, free: float) -> None:
    """A bottle: body, neck and cap."""
    rng = builder.rng
    radius, body = rng.uniform(0.025, 0.045), min(rng.uniform(0.07, 0.11), 0.35 * free)
    glass, neck = builder.material(Look.LABEL if rng.random() < 0.5 else Look.DARK), 0.45 * body
    builder.cylinder(spot, (0, 0, z + body), (radius, radius, body), glass)
    builder.cylinder(spot, (0, 0, z + 2 * body + neck), (0.4 * radius, 0.4 * radius, neck), glass)
    builder.cylinder(spot, (0, 0, z + 2 * body + 2 * neck), (0.45 * radius, 0.45 * radius, 0.01), builder.material())


def cup(builder: Builder, spot: Place, z: float, free: float) -> None:
    """Cups with handles."""
    rng = builder.rng
    radius, half = rng.uniform(0.032, 0.05), min(rng.uniform(0.035, 0.06), free / 2)
    material = builder.material(Look.WHITE if rng.random() < 0.5 else Look.LABEL)
    for number in range(int(rng.integers(1, 4))):
        x, y = number * 2.6 * radius, rng.normal(0, radius)
        builder.cylinder(spot, (x, y, z + half), (radius, radius, half), material)
        builder.box(spot, (x, y + radius, z + half), (0.005, 0.02, 0.6 * half), material)


def ball(builder: Builder, spot: Place, z: float, free: float) -> None:
    """A ball, or something soft."""
    half = builder.rng.uniform(0.03, 0.11, 3)
    if builder.rng.random() < 0.5:
        half[:] = half[0]
    half = np.minimum(half, free / 2)
    builder.ellipsoid(spot, (0, 0, z + half[2]), tuple(half), _goods(builder))


def basket(builder: Builder, spot: Place, z: float, free: float) -> None:
    """An open basket or crate, with round or square things in it."""
    rng = builder.rng
    x, y, tall = rng.uniform(0.09, 0.2), rng.uniform(0.08, 0.15), min(rng.uniform(0.03, 0.1), free / 3)
    wall = builder.material(Look.RUG if rng.random() < 0.6 else Look.ANY)
    builder.box(spot, (0, 0, z + 0.006), (x, y, 0.006), wall)
    for side in (-1, 1):
        builder.box(spot, (side * x, 0, z + tall), (0.005, y, tall), wall, None)
        builder.box(spot, (0, side * y, z + tall), (x, 0.005, tall), wall, None)
    kinds = [builder.material() for _ in range(2)]
    for _ in range(int(rng.integers(2, 8))):
        radius = rng.uniform(0.03, 0.045)
        offset = (rng.uniform(-0.75, 0.75) * x, rng.uniform(-0.75, 0.75) * y, z + tall * rng.uniform(0.6, 1.6))
        material = kinds[int(rng.integers(2))]
        if rng.random() < 0.7:
            builder.ellipsoid(spot, offset, (radius, radius, 0.9 * radius), material)
        else:
            builder.box(spot, offset, (radius, radius, 0.7 * radius), material, turn_z(rng.uniform(0, 3)))


def screen(builder: Builder, spot: Place, z: float, free: float) -> None:
    """A screen on a foot, often with a keyboard before it."""
    rng = builder.rng
    half = (rng.uniform(0.18, 0.33), 0.012, min(rng.uniform(0.11, 0.2), 0.4 * free))
    case = builder.material(Look.DARK)
    lift = min(rng.uniform(0.05, 0.15), 0.2 * free)
    builder.box(spot, (0, -0.02, z + lift + half[2]), half, case, turn_x(-0.08))
    glass = builder.material(_SCREENS[int(rng.integers(4))])
    builder.box(spot, (0, -0.005, z + lift + half[2]), (half[0] - 0.012, 0.003, half[2] - 0.012), glass, turn_x(-0.08))
    builder.box(spot, (0, -0.04, z + lift), (0.025, 0.012, lift), case)
    builder.box(spot, (0, -0.02, z + 0.006), (0.1, 0.07, 0.006), case)
    if rng.random() < 0.6:
        keys = builder.material(Look.POSTER)
        builder.box(spot, (0, 0.22, z + 0.01), (0.2, 0.065, 0.01), keys, turn_z(rng.normal(0, 0.1)))
        builder.ellipsoid(spot, (0.28, 0.22, z + 0.015), (0.03, 0.05, 0.018), case)


def laptop(builder: Builder, spot: Place, z: float, free: float) -> None:
    """An open laptop."""
    rng = builder.rng
    half, lean = rng.uniform(0.14, 0.18), rng.uniform(0.15, 0.6)
    case = builder.material(Look.DARK if rng.random() < 0.5 else Look.METAL)
    builder.box(spot, (0, 0, z + 0.008), (half, 0.11, 0.008), case)
    builder.box(spot, (0, 0.01, z + 0.017), (0.85 * half, 0.06, 0.003), builder.material(Look.POSTER))
    lid = (0, -0.11 - 0.1 * np.sin(lean), z + 0.1 * np.cos(lean))
    builder.box(spot, lid, (half, 0.004, 0.1), case, turn_x(lean))
    glass = (0, lid[1] + 0.005, lid[2])
    builder.box(spot, glass, (0.92 * half, 0.003, 0.09), builder.material(_SCREENS[int(rng.integers(4))]), turn_x(lean))


def papers(builder: Builder, spot: Place, z: float, free: float) -> None:
    """Sheets that lie about."""
    rng = builder.rng
    for number in range(int(rng.integers(1, 5))):
        offset = (rng.normal(0, 0.08), rng.normal(0, 0.08), z + 0.002 * number)
        half = (0.105, 0.148, 0.003) if rng.random() < 0.6 else (0.06, 0.09, 0.003)
        builder.box(spot, offset, half, builder.material(Look.POSTER), turn_z(rng.uniform(-1.5, 1.5)))


def pen_pot(builder: Builder, spot: Place, z: float, free: float) -> None:
    """A pot with pens, brushes or spoons."""
    rng = builder.rng
    radius, half = rng.uniform(0.03, 0.05), min(rng.uniform(0.04, 0.07), free / 4)
    builder.cylinder(spot, (0, 0, z + half), (radius, radius, half), _goods(builder))
    for _ in range(int(rng.integers(2, 5))):
        lean = rng.normal(0, 0.5 * radius, 2)
        end = np.array([2.5 * lean[0], 2.5 * lean[1], z + half * rng.uniform(2.6, 3.6)])
        builder.rod(spot, np.array([lean[0], lean[1], z + half]), end, rng.uniform(0.003, 0.006), builder.material())


def small_plant(builder: Builder, spot: Place, z: float, free: float) -> None:
    """A flowerpot with a cluster of leaves."""
    rng = builder.rng
    pot = min(rng.uniform(0.04, 0.09), free / 4)
    builder.cylinder(spot, (0, 0, z + pot), (0.9 * pot, 0.9 * pot, pot), builder.smooth())
    leaves(builder, spot, z + 2 * pot, min(rng.uniform(0.08, 0.22), (free - 2 * pot) / 2), int(rng.integers(5, 11)))


def leaves(builder: Builder, spot: Place, z: float, reach: float, count: int) -> None:
    """Flat leaves at all angles about a point `reach` above z, within `reach` of it."""
    rng = builder.rng
    kinds = [builder.material(Look.LEAF) for _ in range(2)]
    for number in range(count):
        way = rng.normal(0.0, 1.0, 3)
        way *= rng.uniform(0.3, 0.8) * reach / np.linalg.norm(way)
        turn, lean = np.arctan2(-way[0], way[1]), rng.uniform(-0.5, 1.2)
        half = (reach * rng.uniform(0.1, 0.22), reach * rng.uniform(0.25, 0.45), 0.003)
        offset = (way[0], way[1], z + reach + way[2])
        builder.ellipsoid(spot, offset, half, kinds[number % 2], turn_z(turn) @ turn_x(lean))


def desk_lamp(builder: Builder, spot: Place, z: float, free: float) -> None:
    """A lamp with a jointed arm."""
    rng = builder.rng
    metal, high = builder.material(Look.METAL if rng.random() < 0.5 else Look.DARK), min(0.4, 0.8 * free)
    builder.cylinder(spot, (0, 0, z + 0.01), (0.08, 0.08, 0.01), metal)
    knee, head = np.array([-0.08, 0.05, z + 0.6 * high]), np.array([0.12, 0.08, z + high])
    builder.rod(spot, np.array([0, 0, z + 0.02]), knee, 0.008, metal)
    builder.rod(spot, knee, head, 0.008, metal)
    shade = builder.material(Look.GLOWING if rng.random() < 0.3 else Look.METAL)
    builder.ellipsoid(spot, tuple(head), (0.07, 0.06, 0.045), shade)


def cable(builder: Builder, spot: Place, z: float, free: float) -> None:
    """A cable that winds over a surface."""
    rng = builder.rng
    wire = builder.material(Look.DARK if rng.random() < 0.6 else Look.WHITE)
    point, turn = np.zeros(2), rng.uniform(0, 6)
    for _ in range(int(rng.integers(3, 6))):
        turn += rng.normal(0, 0.8)
        end = point + rng.uniform(0.06, 0.16) * np.array([np.cos(turn), np.sin(turn)])
        builder.rod(spot, np.array([*point, z + 0.004]), np.array([*end, z + 0.004]), 0.004, wire)
        point = end


def bin_(builder: Builder, spot: Place, z: float, free: float) -> None:
    """A waste-paper bin or a bucket."""
    rng = builder.rng
    radius, half = rng.uniform(0.1, 0.18), rng.uniform(0.12, 0.2)
    builder.cylinder(spot, (0, 0, z + half), (radius, radius, half), builder.smooth())
    builder.cylinder(spot, (0, 0, z + 2 * half), (0.92 * radius, 0.92 * radius, 0.004), builder.material(Look.DARK))


def bag(builder: Builder, spot: Place, z: float, free: float) -> None:
    """A bag: something soft with straps."""
    rng = builder.rng
    half = rng.uniform(0.09, 0.2, 3)
    cloth = builder.material()
    builder.ellipsoid(spot, (0, 0, z + half[2]), tuple(half), cloth)
    top = np.array([0, 0, z + 2.3 * half[2]])
    for side in (-1, 1):
        builder.rod(spot, np.array([side * 0.6 * half[0], 0, z + 1.6 * half[2]]), top, 0.008, cloth)


ON_TABLES = {
    carton: 0.17,
    book_stack: 0.13,
    can: 0.1,
    bottle: 0.08,
    cup: 0.09,
    ball: 0.05,
    basket: 0.07,
    screen: 0.08,
    laptop: 0.04,
    papers: 0.07,
    pen_pot: 0.04,
    small_plant: 0.05,
    desk_lamp: 0.02,
    cable: 0.03,
}
"""Makers of what lies on tables, and how often each is chosen."""
ON_FLOORS = {carton: 0.25, bin_: 0.2, bag: 0.2, basket: 0.1, cable: 0.1, ball: 0.05, papers: 0.1}
"""The same for floors."""


def cover(
    builder: Builder, place: Place, width: float, depth: float, top: float, count: int, free: float = 0.6
) -> None:
    """Lay things on a surface, apart from each other.

    Args:
        builder: Takes the solids.
        place: Middle of the surface.
        width: Along the place's x, metres.
        depth: Along its y.
        top: Height of the surface.
        count: How many things.
        free: Height above the surface.
    """
    rng = builder.rng
    taken: list[np.ndarray] = []
    for _ in range(count):
        for _ in range(6):
            spot = rng.uniform(-0.44, 0.44, 2) * (width, depth)
            if all(np.linalg.norm(spot - other) > 0.17 for other in taken):
                break
        else:
            return
        taken.append(spot)
        maker = draw_weighted(rng, ON_TABLES)
        maker(builder, place.moved(*spot, rng.normal(0.0, 0.35)), top, free)


def fill_board(builder: Builder, place: Place, width: float, depth: float, z: float, free: float) -> None:
    """Line things up on a shelf's board: rows of books, cartons, cans, and gaps between them.

    Args:
        builder: Takes the solids.
        place: Middle of the shelf.
        width: Of the board, metres.
        depth: Of the board.
        z: Height of the board.
        free: Height to the next one.
    """
    rng = builder.rng
    x = -width / 2 + 0.02
    while x < width / 2 - 0.06 and builder.room_for(10):
        rest = width / 2 - x
        kind = rng.choice(["books", "thing", "carton", "gap"], p=[0.45, 0.25, 0.2, 0.1])
        if kind == "books":
            look = builder.material(Look.LABEL) if rng.random() < 0.3 else None  # volumes of one edition
            tall, deep = free * rng.uniform(0.6, 0.9), min(depth * 0.42, rng.uniform(0.07, 0.12))
            for _ in range(int(rng.integers(3, 9))):
                half = (rng.uniform(0.008, 0.028), deep * rng.uniform(0.85, 1.0), tall / 2 * rng.uniform(0.8, 1.0))
                if 2 * half[0] > rest:
                    break
                offset = (x + half[0], 0.04 * rng.random(), z + half[2])
                builder.box(place, offset, half, _goods(builder) if look is None else look)
                x, rest = x + 2 * half[0] + 0.001, rest - 2 * half[0]
        elif kind == "carton":
            half = (min(rng.uniform(0.04, 0.15), rest / 2), *(side * rng.uniform(0.2, 0.42) for side in (depth, free)))
            builder.box(place, (x + half[0], 0.0, z + half[2]), half, _goods(builder))
            x += 2 * half[0] + 0.02
        elif kind == "thing":
            maker = (can, bottle, cup, ball, basket, small_plant, book_stack)[int(rng.integers(7))]
            maker(builder, place.moved(min(x + 0.1, width / 2 - 0.08), 0.0, 0.0), z, free)
            x += rng.uniform(0.18, 0.3)
        else:
            x += rng.uniform(0.05, 0.25)
