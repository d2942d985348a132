# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The layout of a world as tensors of fixed shapes, which is what the ray caster reads.

Every solid is a unit shape (box, ellipsoid or cylinder) scaled by `half` and placed by `world_R_solid` and `centre`;
the rooms are a union of axis-aligned empty boxes, seen from inside. Unused solids are buried below the floor, so that
frames of different worlds stack.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

BOXES = 320
ELLIPSOIDS = 64
CYLINDERS = 64
SOLIDS = BOXES + ELLIPSOIDS + CYLINDERS
GLOWING_BOXES = 12
"""The first boxes, among which are all that glow: what glossy surfaces reflect."""
ROOMS = 4
LIGHTS = 3
SURFACES = SOLIDS + 6 * ROOMS
"""A surface is one solid, or one of the six faces of one room."""
BOX_PART = slice(0, BOXES)
ELLIPSOID_PART = slice(BOXES, BOXES + ELLIPSOIDS)
CYLINDER_PART = slice(BOXES + ELLIPSOIDS, SOLIDS)


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
        gloss: (..., SURFACES) strength of the specular lobe, which narrows with it, and of the mirror image.
        glow: (..., SURFACES) light that the surface gives off, by its albedo.
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
    glow: Tensor
    light: Tensor
    power: Tensor
    ambient: Tensor


class SolidFrames(NamedTuple):
    """Tables that take world coordinates to each solid's own axes, worked out once a call.

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
    return SolidFrames(rows.contiguous(), (rows * world.centre[..., None, :]).sum(-1))
