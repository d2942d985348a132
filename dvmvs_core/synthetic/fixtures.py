# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What hangs on the walls and under the ceiling of a room."""

from __future__ import annotations

import numpy as np

from dvmvs_core.synthetic.assembly import Builder, Look, Place, draw_weighted, turn_x
from dvmvs_core.synthetic.clutter import fill_board

FACING_ROOM = {(0, 0): -np.pi / 2, (0, 1): np.pi / 2, (1, 0): 0.0, (1, 1): np.pi}
"""Yaw at which +y points into the room, for the wall at the low (0) or high (1) end of axis 0 or 1."""
_KINDS = {
    "poster": 0.26,
    "notices": 0.1,
    "picture": 0.12,
    "board": 0.06,
    "door": 0.14,
    "wall shelf": 0.1,
    "box": 0.04,
    "window": 0.1,
    "radiator": 0.06,
    "socket": 0.02,
}
_BOXES_NEEDED = {"window": 16, "radiator": 10, "wall shelf": 12, "notices": 8}


def wall_fixture(builder: Builder, low: np.ndarray, high: np.ndarray) -> None:
    """Hang a poster, notices, whiteboard, door, shelf, cupboard, window or radiator on a wall of the first room.

    Args:
        builder: Takes the solids.
        low: (ROOMS, 3) corners, metres; nothing is hung across the openings of the other rooms.
        high: (ROOMS, 3).
    """
    rng = builder.rng
    kind = draw_weighted(rng, _KINDS)
    if not builder.room_for(_BOXES_NEEDED.get(kind, 5)):
        return
    ceiling = high[0, 2]
    width, tall = {
        "poster": (rng.uniform(0.2, 0.55), rng.uniform(0.25, 0.6)),
        "notices": (rng.uniform(0.3, 0.7), rng.uniform(0.2, 0.45)),
        "wall shelf": (rng.uniform(0.3, 0.8), 0.2),
        "socket": (0.045, 0.045),
        "picture": (rng.uniform(0.15, 0.5), rng.uniform(0.15, 0.45)),
        "board": (rng.uniform(0.5, 1.0), rng.uniform(0.35, 0.6)),
        "door": (rng.uniform(0.4, 0.5), 1.02),
        "box": (rng.uniform(0.2, 0.6), rng.uniform(0.15, 0.4)),
        "window": (rng.uniform(0.35, 1.0), rng.uniform(0.4, 0.8)),
        "radiator": (rng.uniform(0.3, 0.8), rng.uniform(0.2, 0.35)),
    }[kind]
    middle = {
        "door": tall,
        "radiator": tall + rng.uniform(0.08, 0.2),
        "socket": rng.choice([0.3, 1.1]),
        "window": rng.uniform(0.7, 1.1) + tall,
    }.get(kind, rng.uniform(max(tall, 0.9), max(ceiling - tall - 0.1, 1.0)))
    tall = min(tall, ceiling - 0.08 - middle)
    if tall < 0.04:
        return
    place = _spot_on_wall(rng, low, high, width, middle - tall, middle + tall)
    if place is None:
        return
    if kind in _MAKERS:
        _MAKERS[kind](builder, place, middle, width, tall)
        return
    thick = rng.uniform(0.05, 0.18) if kind == "box" else 0.012
    looks = {"poster": Look.POSTER, "board": Look.WHITE, "socket": Look.WHITE}
    material = builder.material(looks[kind]) if kind in looks else builder.smooth()
    builder.box(place, (0, thick, middle), (width, thick, tall), material)


def _spot_on_wall(
    rng: np.random.Generator, low: np.ndarray, high: np.ndarray, width: float, bottom: float, top: float
) -> Place | None:
    for _ in range(4):
        axis, side = int(rng.integers(2)), int(rng.integers(2))
        across = 1 - axis
        wall = high[0, axis] if side else low[0, axis]
        margin = min(width + 0.1, (high[0, across] - low[0, across]) / 2)
        spot = rng.uniform(low[0, across] + margin, high[0, across] - margin)
        box_low, box_high = np.empty(3), np.empty(3)
        box_low[axis], box_high[axis] = wall - 0.05, wall + 0.05
        box_low[across], box_high[across] = spot - width, spot + width
        box_low[2], box_high[2] = bottom, top
        opening = ((low[1:] < box_high) & (high[1:] > box_low)).all(1)
        # Unused rooms are copies of the first, which every wall touches.
        opening &= (low[1:] != low[0]).any(1) | (high[1:] != high[0]).any(1)
        if not opening.any():
            x, y = (wall, spot) if axis == 0 else (spot, wall)
            return Place(float(x), float(y), FACING_ROOM[(axis, side)])
    return None


def _frame(builder: Builder, place: Place, middle: float, width: float, tall: float, bar: float, material: int) -> None:
    for side in (-1, 1):
        builder.box(place, (side * width, 0.02, middle), (bar, 0.025, tall + bar), material)
    builder.box(place, (0, 0.02, middle + tall), (width, 0.025, bar), material)


def _window(builder: Builder, place: Place, middle: float, width: float, tall: float) -> None:
    """An opaque bright pane: blinds, or daylight that leaves nothing to see through it."""
    rng = builder.rng
    frame = builder.material(Look.WHITE if rng.random() < 0.7 else Look.BARE)
    builder.box(place, (0, 0, middle), (width, 0.008, tall), builder.material(Look.GLOWING))
    _frame(builder, place, middle, width, tall, rng.uniform(0.02, 0.04), frame)
    builder.box(place, (0, 0.06, middle - tall), (width + 0.06, rng.uniform(0.04, 0.12), 0.015), frame)
    if rng.random() < 0.6:
        builder.box(place, (0, 0.02, middle), (0.02, 0.02, tall), frame)
    if rng.random() < 0.35:
        _slats(builder, place, middle, width, tall)
    elif rng.random() < 0.3:
        builder.box(place, (0, 0.02, middle + rng.uniform(-0.3, 0.5) * tall), (width, 0.018, 0.015), frame)


def _slats(builder: Builder, place: Place, middle: float, width: float, tall: float) -> None:
    """Blinds in front of a window, let down part of the way."""
    rng = builder.rng
    paint, pitch, lean = builder.material(Look.BARE), rng.uniform(0.05, 0.09), turn_x(rng.uniform(-0.9, 0.9))
    for slat in range(min(int(2 * tall * rng.uniform(0.3, 1.0) / pitch), 16)):
        builder.box(place, (0, 0.05, middle + tall - (slat + 0.5) * pitch), (width, 0.4 * pitch, 0.003), paint, lean)


def _notices(builder: Builder, place: Place, middle: float, width: float, tall: float) -> None:
    """Sheets pinned to the wall, or to a board on it."""
    rng = builder.rng
    if rng.random() < 0.4:
        builder.box(place, (0, 0.008, middle), (width, 0.008, tall), builder.material(Look.RUG))
    for _ in range(int(rng.integers(3, 8))):
        half = (rng.uniform(0.05, 0.15), 0.004, rng.uniform(0.05, 0.15))
        offset = (rng.uniform(-0.85, 0.85) * width, 0.018, middle + rng.uniform(-0.85, 0.85) * tall)
        builder.box(place, offset, half, builder.material(Look.POSTER))


def _picture(builder: Builder, place: Place, middle: float, width: float, tall: float) -> None:
    """A picture in its frame."""
    frame = builder.smooth()
    builder.box(place, (0, 0.008, middle), (width, 0.008, tall), builder.material(Look.POSTER))
    for side in (-1, 1):
        builder.box(place, (side * width, 0.012, middle), (0.015, 0.014, tall + 0.015), frame)
        builder.box(place, (0, 0.012, middle + side * tall), (width, 0.014, 0.015), frame)


def _wall_shelf(builder: Builder, place: Place, middle: float, width: float, tall: float) -> None:
    """A board on brackets, with things on it."""
    rng = builder.rng
    depth = rng.uniform(0.16, 0.28)
    builder.box(place, (0, depth / 2, middle), (width, depth / 2, 0.012), builder.smooth())
    fill_board(builder, place.moved(0.0, depth / 2, 0.0), 2 * width, depth, middle + 0.012, rng.uniform(0.22, 0.35))


def run_along_walls(builder: Builder, low: np.ndarray, high: np.ndarray) -> None:
    """Put skirting boards, pipes and cables along the walls of a room with corners (3,), metres."""
    rng = builder.rng
    skirting = builder.smooth() if rng.random() < 0.65 else None
    wire = builder.material(Look.WHITE if rng.random() < 0.5 else Look.DARK)
    middle, half = 0.5 * (low + high), 0.5 * (high - low)
    for (axis, side), yaw in FACING_ROOM.items():
        spot = middle[:2].copy()
        spot[axis] = high[axis] if side else low[axis]
        wall, reach = Place(float(spot[0]), float(spot[1]), yaw), float(half[1 - axis])
        if skirting is not None:
            builder.box(wall, (0, 0, 0.04), (reach, 0.012, 0.04), skirting)
        if rng.random() < 0.3:
            z, radius = rng.choice([0.12, rng.uniform(0.9, 1.2), high[2] - 0.15]), rng.choice([0.006, 0.02])
            builder.rod(wall, np.array([-reach, radius, z]), np.array([reach, radius, z]), radius, wire)
        if rng.random() < 0.35:
            x = rng.uniform(-0.8, 0.8) * reach
            radius = rng.choice([0.005, 0.01, 0.03])
            builder.rod(wall, np.array([x, radius, 0.0]), np.array([x, radius, high[2]]), radius, wire)
        if rng.random() < 0.2:
            x, z = rng.uniform(-0.7, 0.7) * reach, rng.uniform(1.0, 1.8)
            points = [np.array([x + 0.12 * k, 0.03, z - 0.35 * np.sin(np.pi * k / 5)]) for k in range(6)]
            for start, end in zip(points, points[1:], strict=False):
                builder.rod(wall, start, end, 0.006, wire)


def _door(builder: Builder, place: Place, middle: float, width: float, tall: float) -> None:
    rng = builder.rng
    builder.box(place, (0, 0.01, tall), (width, 0.02, tall), builder.smooth())
    if rng.random() < 0.7 and builder.room_for(4):
        frame = builder.material(Look.WHITE if rng.random() < 0.6 else Look.BARE)
        _frame(builder, place, tall, width, tall, 0.035, frame)
        builder.box(place, (0.8 * width, 0.05, tall), (0.05, 0.02, 0.012), builder.material(Look.BARE))


def _radiator(builder: Builder, place: Place, middle: float, width: float, tall: float) -> None:
    """A panel with upright fins: a repeated pattern with depth of its own."""
    rng = builder.rng
    paint = builder.material(Look.WHITE if rng.random() < 0.8 else Look.BARE)
    builder.box(place, (0, 0.05, middle), (width, 0.02, tall), paint)
    fins = int(rng.integers(7, 14))
    for fin in range(fins):
        x = (2 * (fin + 0.5) / fins - 1) * width
        builder.box(place, (x, 0.085, middle), (0.35 * width / fins, 0.02, tall - 0.02), paint)


_MAKERS = {
    "window": _window,
    "radiator": _radiator,
    "door": _door,
    "notices": _notices,
    "wall shelf": _wall_shelf,
    "picture": _picture,
}
"""Makers of what is more than a board on the wall."""


def ceiling_fixtures(builder: Builder, low: np.ndarray, high: np.ndarray) -> None:
    """Hang lamps, at times a beam, and at times the slope of a roof; corners (3,) of the room, metres."""
    rng = builder.rng
    for _ in range(int(rng.choice([0, 1, 2, 3], p=[0.4, 0.25, 0.2, 0.15]))):
        spot = rng.uniform(low[:2] + 0.4, np.maximum(high[:2] - 0.4, low[:2] + 0.41))
        half = (rng.uniform(0.1, 0.6), rng.uniform(0.08, 0.3), rng.uniform(0.01, 0.05))
        place = Place(float(spot[0]), float(spot[1]), float(rng.choice([0.0, np.pi / 2])))
        builder.box(place, (0, 0, high[2] - half[2]), half, builder.material(Look.GLOWING))
        builder.lamps.append(np.array([spot[0], spot[1], high[2] - 2 * half[2] - 0.1]))
    if rng.random() < 0.25:
        axis = int(rng.integers(2))
        half = [0.0, 0.0, rng.uniform(0.06, 0.18)]
        half[axis] = float(high[axis] - low[axis]) / 2
        half[1 - axis] = rng.uniform(0.08, 0.2)
        spot = 0.5 * (low[:2] + high[:2])
        spot[1 - axis] += rng.uniform(-0.35, 0.35) * (high[1 - axis] - low[1 - axis])
        place = Place(float(spot[0]), float(spot[1]), 0.0)
        builder.box(place, (0, 0, high[2] - half[2]), tuple(half), builder.material())
    if rng.random() < 0.1:
        axis, side = int(rng.integers(2)), int(rng.integers(2))
        wall = high[axis] if side else low[axis]
        spot = 0.5 * (low[:2] + high[:2])
        spot[axis] = wall
        reach, steep = rng.uniform(0.5, 0.9), rng.uniform(0.5, 1.0)
        place = Place(float(spot[0]), float(spot[1]), FACING_ROOM[(axis, side)])
        offset = (0.0, 0.9 * reach * np.cos(steep), high[2] - 0.9 * reach * np.sin(steep))
        half = (float(high[1 - axis] - low[1 - axis]) / 2, reach, 0.04)
        builder.box(place, offset, half, builder.smooth(), turn_x(steep))
