"""Random indoor worlds: rooms joined by doorways, furnished with assemblies of boxes, ellipsoids and cylinders.

World axes: z up, floor at z = 0, metres. The rooms of a world are empty axis-aligned boxes (the main room, and a
doorway with a room behind it, an annex, or niches and windows cut into walls); solids stand in them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

from dvmvs_core.data.synthetic.world_tensors import (
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


@dataclass
class _Solid:
    centre: np.ndarray
    half: np.ndarray
    rotation: np.ndarray
    material: int


@dataclass
class _Builder:
    """Collects solids up to the fixed number of each shape."""

    rng: np.random.Generator
    boxes: list[_Solid] = field(default_factory=list)
    ellipsoids: list[_Solid] = field(default_factory=list)
    cylinders: list[_Solid] = field(default_factory=list)
    footprints: list[tuple[float, float, float]] = field(default_factory=list)
    materials: int = 0

    def material(self) -> int:
        """A number that solids of one assembly share: the same number looks the same."""
        self.materials += 1
        return self.materials

    def room_for(self, boxes: int) -> bool:
        return len(self.boxes) + boxes <= BOXES

    def box(
        self,
        place: _Place,
        offset: tuple[float, float, float],
        half: tuple[float, float, float],
        material: int,
        tilt: np.ndarray | None = None,
    ) -> None:
        if len(self.boxes) < BOXES:
            self.boxes.append(self._solid(place, offset, half, material, tilt))

    def cylinder(
        self,
        place: _Place,
        offset: tuple[float, float, float],
        half: tuple[float, float, float],
        material: int,
        tilt: np.ndarray | None = None,
    ) -> None:
        if len(self.cylinders) < CYLINDERS:
            self.cylinders.append(self._solid(place, offset, half, material, tilt))

    def ellipsoid(
        self, place: _Place, offset: tuple[float, float, float], half: tuple[float, float, float], material: int
    ) -> None:
        if len(self.ellipsoids) < ELLIPSOIDS:
            self.ellipsoids.append(self._solid(place, offset, half, material, None))

    def _solid(
        self,
        place: _Place,
        offset: tuple[float, float, float],
        half: tuple[float, float, float],
        material: int,
        tilt: np.ndarray | None,
    ) -> _Solid:
        rotation = _turn_z(place.yaw)
        centre = np.array([place.x, place.y, 0.0]) + rotation @ np.array(offset)
        return _Solid(centre, np.maximum(half, 0.004), rotation if tilt is None else rotation @ tilt, material)

    def free(self, x: float, y: float, radius: float) -> bool:
        return all((x - a) ** 2 + (y - b) ** 2 > (0.85 * (radius + r)) ** 2 for a, b, r in self.footprints)


@dataclass(frozen=True)
class _Place:
    """Where an assembly stands; its +y side faces away from the wall behind it."""

    x: float
    y: float
    yaw: float


def _turn_z(angle: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def _turn_x(angle: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]])


def sample_world(rng: np.random.Generator, textures: int, plain_textures: int) -> WorldTensors:
    """Draw a furnished world.

    Args:
        rng: Source of randomness; the same state gives the same world.
        textures: Number of textures in the bank.
        plain_textures: How many of them, the first ones, are plain.

    Returns:
        Tensors without a batch axis, float32, on the CPU.
    """
    low, high = _sample_rooms(rng)
    builder = _Builder(rng)
    _furnish(builder, low, high)
    return _finish(builder, low, high, textures, plain_textures)


def _sample_rooms(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    kind = rng.choice(["room", "corridor", "hall"], p=[0.55, 0.15, 0.3])
    if kind == "room":
        size = np.array([rng.uniform(3.2, 6.5), rng.uniform(3.2, 6.0), rng.uniform(2.3, 3.2)])
    elif kind == "corridor":
        size = np.array([rng.uniform(6.0, 14.0), rng.uniform(1.7, 2.8), rng.uniform(2.3, 3.0)])
    else:
        size = np.array([rng.uniform(6.0, 13.0), rng.uniform(6.0, 11.0), rng.uniform(2.7, 4.5)])
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


def _furnish(builder: _Builder, low: np.ndarray, high: np.ndarray) -> None:
    rng = builder.rng
    area = float(np.prod(high[0][:2] - low[0][:2]))
    makers = [_table, _shelf, _cupboard, _seat, _sofa, _heap, _leaning_board, _column, _lamp, _plinth]
    weights = np.array([0.2, 0.13, 0.13, 0.13, 0.07, 0.14, 0.07, 0.05, 0.05, 0.03])
    narrow = min(high[0][:2] - low[0][:2]) < 2.9
    for _ in range(int(np.clip(area / 1.6, 9, 24))):
        maker = makers[int(rng.choice(len(makers), p=weights / weights.sum()))]
        if builder.room_for(6):
            _place(builder, low[0], high[0], maker, against_wall=narrow or rng.random() < 0.6)
    for _ in range(int(rng.integers(2, 7))):
        _wall_panel(builder, low[0], high[0])
    if rng.random() < 0.3:
        _ceiling_beam(builder, low[0], high[0])
    for _ in range(12):
        if builder.room_for(1):
            _place(builder, low[0], high[0], _heap, against_wall=rng.random() < 0.6)


def _place(builder: _Builder, low: np.ndarray, high: np.ndarray, maker, against_wall: bool) -> None:
    """Try a few spots for an assembly; give up where the room is full."""
    rng = builder.rng
    width, depth = rng.uniform(0.45, 1.9), rng.uniform(0.3, 0.9)
    if maker in (_seat, _lamp, _column):
        width, depth = rng.uniform(0.35, 0.55), rng.uniform(0.35, 0.55)
    if min(high[:2] - low[:2]) < 2.9:
        depth = min(depth, 0.4)
    radius = 0.5 * float(np.hypot(width, depth))
    for _ in range(8):
        if against_wall:
            axis, side = int(rng.integers(2)), int(rng.integers(2))
            # The assembly's +y looks into the room.
            yaw = {(0, 0): -np.pi / 2, (0, 1): np.pi / 2, (1, 0): 0.0, (1, 1): np.pi}[(axis, side)]
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
            maker(builder, _Place(float(spot[0]), float(spot[1]), float(yaw)), width, depth, high[2])
            return


def _clutter(builder: _Builder, place: _Place, width: float, depth: float, top: float, count: int) -> None:
    """Small things on a surface."""
    rng = builder.rng
    for _ in range(count):
        x, y = rng.uniform(-0.42, 0.42) * width, rng.uniform(-0.38, 0.38) * depth
        spot = _Place(place.x, place.y, place.yaw)
        shape = rng.choice(["box", "book", "screen", "can", "ball"], p=[0.35, 0.25, 0.15, 0.17, 0.08])
        material = builder.material()
        tilt = _turn_z(rng.normal(0, 0.5))
        if shape == "box":
            half = rng.uniform(0.03, 0.16, 3)
            builder.box(spot, (x, y, top + half[2]), tuple(half), material, tilt)
        elif shape == "book":
            half = (rng.uniform(0.08, 0.15), rng.uniform(0.1, 0.2), rng.uniform(0.01, 0.04))
            builder.box(spot, (x, y, top + half[2]), half, material, tilt)
        elif shape == "screen":
            half = (rng.uniform(0.15, 0.35), rng.uniform(0.01, 0.03), rng.uniform(0.1, 0.22))
            lean = _turn_x(rng.uniform(-0.25, 0.1))
            builder.box(spot, (x, y, top + half[2] + 0.06), half, material, tilt @ lean)
        elif shape == "can":
            half = (rng.uniform(0.03, 0.08),) * 2 + (rng.uniform(0.04, 0.16),)
            builder.cylinder(spot, (x, y, top + half[2]), half, material)
        else:
            half = rng.uniform(0.04, 0.14, 3)
            builder.ellipsoid(spot, (x, y, top + half[2]), tuple(half), material)


def _table(builder: _Builder, place: _Place, width: float, depth: float, ceiling: float) -> None:
    rng = builder.rng
    height, thick = (
        rng.choice([rng.uniform(0.68, 0.8), rng.uniform(0.35, 0.5)], p=[0.75, 0.25]),
        rng.uniform(0.012, 0.03),
    )
    top, legs = builder.material(), builder.material()
    builder.box(place, (0, 0, height - thick), (width / 2, depth / 2, thick), top)
    if rng.random() < 0.65:
        leg = rng.uniform(0.015, 0.04)
        for sx in (-1, 1):
            for sy in (-1, 1):
                offset = (sx * (width / 2 - leg - 0.02), sy * (depth / 2 - leg - 0.02), height / 2 - thick)
                builder.box(place, offset, (leg, leg, height / 2 - thick), legs)
    else:
        for sx in (-1, 1):
            offset = (sx * (width / 2 - 0.03), 0, height / 2 - thick)
            builder.box(place, offset, (0.02, depth / 2 - 0.02, height / 2 - thick), legs)
    _clutter(builder, place, width, depth, height, int(rng.integers(0, 5)))


def _shelf(builder: _Builder, place: _Place, width: float, depth: float, ceiling: float) -> None:
    rng = builder.rng
    height, depth = min(rng.uniform(0.8, 2.2), ceiling - 0.1), min(depth, 0.4)
    frame, back = builder.material(), builder.material()
    for sx in (-1, 1):
        builder.box(place, (sx * width / 2, 0, height / 2), (0.012, depth / 2, height / 2), frame)
    builder.box(place, (0, -depth / 2 + 0.01, height / 2), (width / 2, 0.01, height / 2), back)
    boards = int(rng.integers(2, 5))
    for board in range(boards):
        z = 0.06 + (height - 0.08) * board / (boards - 1)
        builder.box(place, (0, 0, z), (width / 2, depth / 2, 0.012), frame)
        if board < boards - 1 and rng.random() < 0.75 and builder.room_for(1):
            tall = (height / (boards - 1)) * rng.uniform(0.3, 0.8)
            reach = width * rng.uniform(0.2, 0.48)
            x = rng.uniform(-1, 1) * (width / 2 - reach)
            builder.box(place, (x, 0.0, z + tall / 2 + 0.012), (reach, depth * 0.35, tall / 2), builder.material())


def _cupboard(builder: _Builder, place: _Place, width: float, depth: float, ceiling: float) -> None:
    rng = builder.rng
    height = min(rng.choice([rng.uniform(0.5, 1.1), rng.uniform(1.2, 2.1)]), ceiling - 0.1)
    body = builder.material()
    builder.box(place, (0, 0, height / 2), (width / 2, depth / 2, height / 2), body)
    if rng.random() < 0.6:
        doors = int(rng.integers(1, 4))
        front = builder.material()
        for door in range(doors):
            x = (door + 0.5) / doors * width - width / 2
            half = (width / doors / 2 - 0.012, 0.01, height / 2 - 0.03)
            builder.box(place, (x, depth / 2 + 0.008, height / 2), half, front)
    if height < 1.2:
        _clutter(builder, place, width, depth, height, int(rng.integers(0, 4)))


def _seat(builder: _Builder, place: _Place, width: float, depth: float, ceiling: float) -> None:
    rng = builder.rng
    height, cloth, legs = rng.uniform(0.42, 0.5), builder.material(), builder.material()
    builder.box(place, (0, 0, height - 0.03), (width / 2, depth / 2, 0.03), cloth)
    back = rng.uniform(0.15, 0.28)
    lean = _turn_x(rng.uniform(0.05, 0.3))
    builder.box(place, (0, -depth / 2, height + back + 0.08), (width / 2, 0.02, back), cloth, lean)
    if rng.random() < 0.5:
        builder.cylinder(place, (0, 0, height / 2), (0.03, 0.03, height / 2), legs)
        builder.box(place, (0, 0, 0.03), (width * 0.5, 0.03, 0.02), legs)
        builder.box(place, (0, 0, 0.03), (0.03, depth * 0.5, 0.02), legs)
    else:
        for sx in (-1, 1):
            for sy in (-1, 1):
                offset = (sx * (width / 2 - 0.02), sy * (depth / 2 - 0.02), height / 2)
                builder.box(place, offset, (0.015, 0.015, height / 2), legs)


def _sofa(builder: _Builder, place: _Place, width: float, depth: float, ceiling: float) -> None:
    width, cloth = max(width, 1.2), builder.material()
    depth = max(depth, 0.6)
    builder.box(place, (0, 0, 0.21), (width / 2, depth / 2, 0.21), cloth)
    builder.box(place, (0, -depth / 2 + 0.1, 0.55), (width / 2, 0.1, 0.25), cloth, _turn_x(0.15))
    for sx in (-1, 1):
        builder.box(place, (sx * (width / 2 - 0.08), 0, 0.31), (0.08, depth / 2, 0.31), cloth)
    if builder.rng.random() < 0.7:
        builder.ellipsoid(place, (width * 0.25, -0.1, 0.55), (0.22, 0.1, 0.18), builder.material())


def _heap(builder: _Builder, place: _Place, width: float, depth: float, ceiling: float) -> None:
    """Boxes, balls and drums standing on the floor, some of them stacked."""
    rng = builder.rng
    top = 0.0
    for _ in range(int(rng.integers(1, 4))):
        half = rng.uniform(0.1, 0.35, 3)
        tilt = _turn_z(rng.normal(0, 0.5))
        shape = rng.choice(["box", "drum", "ball"], p=[0.7, 0.18, 0.12])
        if shape == "box":
            builder.box(
                place, (rng.normal(0, 0.05), rng.normal(0, 0.05), top + half[2]), tuple(half), builder.material(), tilt
            )
            top += 2 * half[2]
        elif shape == "drum":
            radius = rng.uniform(0.1, 0.25)
            builder.cylinder(place, (width / 2, 0.1, half[2]), (radius, radius, half[2]), builder.material())
        else:
            builder.ellipsoid(place, (-width / 2, 0.1, half[2]), tuple(half), builder.material())
        if top > 1.3:
            break


def _leaning_board(builder: _Builder, place: _Place, width: float, depth: float, ceiling: float) -> None:
    """A panel tilted towards the wall behind it, or a ramp."""
    rng = builder.rng
    angle = rng.choice([rng.uniform(0.1, 0.45), rng.uniform(0.9, 1.3)])
    length = min(rng.uniform(0.4, 1.0), 0.5 * ceiling)
    half = (width / 2, 0.015, length)
    builder.box(place, (0, 0, length * np.cos(angle) + 0.01), half, builder.material(), _turn_x(angle))


def _column(builder: _Builder, place: _Place, width: float, depth: float, ceiling: float) -> None:
    rng = builder.rng
    radius = rng.uniform(0.05, 0.25)
    if rng.random() < 0.5:
        builder.cylinder(place, (0, 0, ceiling / 2), (radius, radius, ceiling / 2), builder.material())
    else:
        builder.box(place, (0, 0, ceiling / 2), (radius, radius, ceiling / 2), builder.material())


def _lamp(builder: _Builder, place: _Place, width: float, depth: float, ceiling: float) -> None:
    height, metal = builder.rng.uniform(1.2, 1.8), builder.material()
    builder.cylinder(place, (0, 0, 0.015), (0.14, 0.14, 0.015), metal)
    builder.cylinder(place, (0, 0, height / 2), (0.014, 0.014, height / 2), metal)
    builder.ellipsoid(place, (0, 0, height), (0.16, 0.16, 0.13), builder.material())


def _plinth(builder: _Builder, place: _Place, width: float, depth: float, ceiling: float) -> None:
    """A broad low step, or a free-standing partition wall."""
    rng = builder.rng
    if rng.random() < 0.5:
        half = (width * 0.8, depth * 0.8, rng.uniform(0.05, 0.15))
    else:
        half = (width * 0.7, 0.05, min(rng.uniform(0.5, 1.1), ceiling / 2 - 0.02))
    builder.box(place, (0, 0, half[2]), half, builder.material())


def _wall_panel(builder: _Builder, low: np.ndarray, high: np.ndarray) -> None:
    """A picture, whiteboard, door leaf, radiator or wall cupboard."""
    rng = builder.rng
    if not builder.room_for(1):
        return
    axis, side = int(rng.integers(2)), int(rng.integers(2))
    kind = rng.choice(["picture", "board", "door", "box"], p=[0.4, 0.2, 0.2, 0.2])
    width, tall, thick = {
        "picture": (rng.uniform(0.15, 0.5), rng.uniform(0.15, 0.45), 0.012),
        "board": (rng.uniform(0.5, 1.0), rng.uniform(0.35, 0.6), 0.012),
        "door": (0.45, 1.02, 0.025),
        "box": (rng.uniform(0.2, 0.6), rng.uniform(0.15, 0.4), rng.uniform(0.05, 0.18)),
    }[str(kind)]
    z = tall if kind == "door" else rng.uniform(max(tall, 0.9), max(high[2] - tall - 0.1, 1.0))
    spot = np.zeros(2)
    spot[axis] = low[axis] + thick if side == 0 else high[axis] - thick
    margin = min(width + 0.1, (high[1 - axis] - low[1 - axis]) / 2)
    spot[1 - axis] = rng.uniform(low[1 - axis] + margin, high[1 - axis] - margin)
    place = _Place(float(spot[0]), float(spot[1]), np.pi / 2 if axis == 0 else 0.0)
    builder.box(place, (0, 0, z), (width, thick, tall), builder.material())


def _ceiling_beam(builder: _Builder, low: np.ndarray, high: np.ndarray) -> None:
    rng = builder.rng
    if not builder.room_for(1):
        return
    axis = int(rng.integers(2))
    half = [0.0, 0.0, rng.uniform(0.06, 0.18)]
    half[axis] = float(high[axis] - low[axis]) / 2
    half[1 - axis] = rng.uniform(0.08, 0.2)
    spot = 0.5 * (low[:2] + high[:2])
    spot[1 - axis] += rng.uniform(-0.35, 0.35) * (high[1 - axis] - low[1 - axis])
    place = _Place(float(spot[0]), float(spot[1]), 0.0)
    builder.box(place, (0, 0, high[2] - half[2]), tuple(half), builder.material())


def _finish(builder: _Builder, low: np.ndarray, high: np.ndarray, textures: int, plain_textures: int) -> WorldTensors:
    """Pad to fixed shapes, paint and light."""
    rng = builder.rng
    buried = _Solid(np.array(_BURIED), np.full(3, 0.1), np.eye(3), 0)
    solids: list[_Solid] = []
    for found, number in ((builder.boxes, BOXES), (builder.ellipsoids, ELLIPSOIDS), (builder.cylinders, CYLINDERS)):
        solids += found + [buried] * (number - len(found))

    # Materials: one for each assembly part, then walls, floor, ceiling; rooms beyond differ at times.
    surface_material = np.array([solid.material for solid in solids])
    count = builder.materials + 1
    room_material = np.zeros((ROOMS, 6), dtype=int)
    for room in range(ROOMS):
        if room == 0 or rng.random() < 0.35:
            walls, floor, ceiling = count, count + 1, count + 2
            count += 3
            accent = count if rng.random() < 0.35 else walls
            count += 1
        room_material[room] = [walls, walls, walls, walls, floor, ceiling]
        room_material[room, int(rng.integers(4))] = accent
    material = np.concatenate([surface_material, room_material.ravel()])
    is_room_surface = np.zeros(count, dtype=bool)
    is_room_surface[np.unique(room_material[:, [0, 1, 2, 3, 5]])] = True

    plain = rng.random(count) < np.where(is_room_surface, 0.62, 0.25)
    texture = np.where(plain, rng.integers(0, plain_textures, count), rng.integers(plain_textures, textures, count))
    strength = np.where(plain, rng.uniform(0.3, 1.5, count), rng.uniform(0.35, 1.1, count))
    tint = 1.0 + rng.normal(0.0, 0.12, (count, 3))
    gain = strength[:, None] * tint
    # Displayed brightness: a third of things is dark, walls are mostly bright. A paint replaces the texture's own tone.
    dark = rng.random(count) < np.where(is_room_surface, 0.12, 0.38)
    tone = np.where(dark, rng.uniform(0.04, 0.3, count), rng.uniform(0.35, 0.97, count))
    tone = np.where(is_room_surface & ~dark, np.maximum(tone, rng.uniform(0.45, 0.97, count)), tone)
    vivid = np.where(rng.random(count) < 0.25, 0.45, 0.07)
    paint = tone[:, None] * (1.0 - vivid[:, None] * rng.random((count, 3)))
    gain = np.where(plain[:, None], gain * (0.4 + 0.6 * tone[:, None]), gain * np.where(dark, 0.5, 1.0)[:, None])
    bias = np.where(plain[:, None], paint - 0.7 * gain, paint * (1.0 - strength[:, None]).clip(0.0, 1.0))
    side = np.exp(rng.uniform(np.log(0.28), np.log(1.9), count))
    side = np.where(is_room_surface, 1.6 * side, side)
    angle = rng.choice([0.0, np.pi / 2, 1.0], count, p=[0.45, 0.35, 0.2]) * np.where(rng.random(count) < 0.5, 1, -1)
    stretch = np.exp(rng.normal(0.0, 0.15, count))
    mapping = np.stack(
        [
            np.cos(angle) / side,
            -np.sin(angle) / side * stretch,
            rng.random(count),
            np.sin(angle) / side,
            np.cos(angle) / side * stretch,
            rng.random(count),
        ],
        axis=1,
    )
    gloss = np.where(rng.random(count) < 0.35, rng.uniform(0.05, 0.8, count), 0.0)

    light = rng.uniform(low[0] + 0.2, high[0] - 0.2, (LIGHTS, 3))
    light[:, 2] = high[0][2] - rng.uniform(0.02, 0.4, LIGHTS)
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
        texture=torch.from_numpy(texture[material].astype(np.int64)),
        mapping=tensor(mapping[material]),
        gain=tensor(gain[material]),
        bias=tensor(bias[material]),
        gloss=tensor(gloss[material]),
        light=tensor(light),
        power=tensor(power),
        ambient=tensor(ambient),
    )
