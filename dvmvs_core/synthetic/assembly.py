# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Putting solids together: what an assembly is made of, where it stands, and what it looks like."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeVar

import numpy as np

from dvmvs_core.synthetic.world_tensors import BOXES, CYLINDERS, ELLIPSOIDS

Triple = tuple[float, float, float]
T = TypeVar("T")


class Look(Enum):
    """What a material may look like; its paint is drawn when the world is finished."""

    ANY = "any"
    """any texture, any tone"""
    BARE = "bare"
    """hardly any texture, any tone"""
    DARK = "dark"
    """hardly any texture, nearly black, often with a sheen: kitchen fronts, appliances, screens"""
    WHITE = "white"
    """hardly any texture, bright: doors, frames, radiators"""
    LEAF = "leaf"
    """green"""
    LABEL = "label"
    """small things that one buys: print, stripes and patterns in their own size"""
    POSTER = "poster"
    """print and pictures, strong in contrast"""
    RUG = "rug"
    """woven or speckled, never plain"""
    METAL = "metal"
    """hardly any texture, grey, with a sheen"""
    GLOWING = "glowing"
    """a window in daylight, a lamp, a screen that is on"""


@dataclass
class Solid:
    """A box, ellipsoid or cylinder: centre (3,) and half sizes (3,) in metres, world_R_solid, and a material."""

    centre: np.ndarray
    half: np.ndarray
    rotation: np.ndarray
    material: int


@dataclass(frozen=True)
class Place:
    """Where an assembly stands, metres and radians; its +y side faces away from the wall behind it."""

    x: float
    y: float
    yaw: float

    def moved(self, x: float, y: float, yaw: float) -> Place:
        """Return the place at an offset along this one's axes, turned by a further angle."""
        c, s = np.cos(self.yaw), np.sin(self.yaw)
        return Place(self.x + c * x - s * y, self.y + s * x + c * y, self.yaw + yaw)


@dataclass
class Builder:
    """Collects solids up to the fixed number of each shape; what comes after that is left out."""

    rng: np.random.Generator
    boxes: list[Solid] = field(default_factory=list)
    ellipsoids: list[Solid] = field(default_factory=list)
    cylinders: list[Solid] = field(default_factory=list)
    footprints: list[tuple[float, float, float]] = field(default_factory=list)
    looks: list[Look] = field(default_factory=lambda: [Look.ANY])
    lamps: list[np.ndarray] = field(default_factory=list)

    def material(self, look: Look = Look.ANY) -> int:
        """A number that solids of one assembly share: the same number looks the same."""
        self.looks.append(look)
        return len(self.looks) - 1

    def smooth(self) -> int:
        """A material for what is mostly sold in one colour: cupboards, doors, appliances."""
        looks = {Look.ANY: 0.35, Look.BARE: 0.25, Look.DARK: 0.25, Look.WHITE: 0.15}
        return self.material(draw_weighted(self.rng, looks))

    def room_for(self, boxes: int) -> bool:
        """Whether so many more boxes fit."""
        return len(self.boxes) + boxes <= BOXES

    def box(self, place: Place, offset: Triple, half: Triple, material: int, tilt: np.ndarray | None = None) -> None:
        """Add a box; offset and half sizes in metres along the place's axes, tilt turns it about its own centre."""
        self._add(self.boxes, BOXES, place, offset, half, material, tilt)

    def ellipsoid(
        self, place: Place, offset: Triple, half: Triple, material: int, tilt: np.ndarray | None = None
    ) -> None:
        """Add an ellipsoid; arguments as of `box`."""
        self._add(self.ellipsoids, ELLIPSOIDS, place, offset, half, material, tilt)

    def cylinder(self, place: Place, offset: Triple, half: Triple, material: int) -> None:
        """Add a cylinder along z; arguments as of `box`."""
        self._add(self.cylinders, CYLINDERS, place, offset, half, material, None)

    def rod(self, place: Place, start: np.ndarray, end: np.ndarray, radius: float, material: int) -> None:
        """Add a round rod between two points (3,), metres along the place's axes; a pixel may miss one so thin."""
        way = np.asarray(end, float) - start
        length = float(np.linalg.norm(way))
        if length > 1e-3:
            middle, half = tuple(0.5 * (np.asarray(start, float) + end)), (radius, radius, length / 2)
            self._add(self.cylinders, CYLINDERS, place, middle, half, material, _towards(way / length), 0.0015)

    def _add(
        self,
        solids: list[Solid],
        most: int,
        place: Place,
        offset: Triple,
        half: Triple,
        material: int,
        tilt: np.ndarray | None,
        min_half_m: float = 0.003,
    ) -> None:
        if len(solids) < most:
            rotation = turn_z(place.yaw)
            centre = np.array([place.x, place.y, 0.0]) + rotation @ np.array(offset)
            rotation = rotation if tilt is None else rotation @ tilt
            solids.append(Solid(centre, np.maximum(half, min_half_m), rotation, material))

    def free(self, x: float, y: float, radius: float) -> bool:
        """Whether a round footprint, metres, keeps clear of those taken."""
        return all((x - a) ** 2 + (y - b) ** 2 > (0.85 * (radius + r)) ** 2 for a, b, r in self.footprints)


def draw_weighted(rng: np.random.Generator, weights: Mapping[T, float]) -> T:
    """Draw one of the keys, each as often as its weight says."""
    shares = np.array(list(weights.values()))
    return list(weights)[int(rng.choice(len(weights), p=shares / shares.sum()))]


def turn_z(angle: float) -> np.ndarray:
    """Rotation matrix about z, radians."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def turn_x(angle: float) -> np.ndarray:
    """Rotation matrix about x, radians."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]])


def _towards(way: np.ndarray) -> np.ndarray:
    """A rotation that takes z to a unit vector."""
    aside = np.array([1.0, 0.0, 0.0]) if abs(way[0]) < 0.8 else np.array([0.0, 1.0, 0.0])
    x = np.cross(aside, way)
    x /= np.linalg.norm(x)
    return np.column_stack([x, np.cross(way, x), way])
