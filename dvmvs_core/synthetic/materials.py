# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What surfaces look like: textures, paints, sheen and glow, drawn for a world's materials."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dvmvs_core.synthetic.assembly import Look
from dvmvs_core.synthetic.textures import PRINTS, WOVEN, of_kinds


class Materials(NamedTuple):
    """Tables of M materials as in `WorldTensors`: texture, gloss, glow (M,), mapping (M, 6), gain and bias (M, 3)."""

    texture: np.ndarray
    mapping: np.ndarray
    gain: np.ndarray
    bias: np.ndarray
    gloss: np.ndarray
    glow: np.ndarray


def draw_materials(
    rng: np.random.Generator, looks: Sequence[Look], role: np.ndarray, textures: int, plain_textures: int
) -> Materials:
    """Paint the materials of a world.

    Args:
        rng: Source of randomness.
        looks: What each material may look like.
        role: (M,) "solid", "wall" or "floor".
        textures: Number of textures in the bank.
        plain_textures: How many of them, the first ones, are plain.
    """
    count = len(looks)
    is_wall = role == "wall"
    dark_look, white, leaf, glowing, bare, label, poster, rug, metal = (
        np.array([look is wanted for look in looks])
        for wanted in (
            Look.DARK,
            Look.WHITE,
            Look.LEAF,
            Look.GLOWING,
            Look.BARE,
            Look.LABEL,
            Look.POSTER,
            Look.RUG,
            Look.METAL,
        )
    )
    patterned = label | poster | rug
    plain = rng.random(count) < np.select([is_wall, role == "floor"], [0.3, 0.2], 0.1)
    plain = (plain & ~patterned) | bare | dark_look | white | leaf | metal | (glowing & (rng.random(count) < 0.6))
    texture = np.where(plain, rng.integers(0, plain_textures, count), rng.integers(plain_textures, textures, count))
    for look, kinds in ((label | poster, PRINTS), (rug, WOVEN)):
        fitting = of_kinds(kinds, plain_textures, textures)
        if len(fitting):
            texture = np.where(look, rng.choice(fitting, count), texture)
    strength = np.where(plain, rng.uniform(0.3, 1.8, count), rng.uniform(0.35, 1.1, count))
    strength = np.where(is_wall & ~plain, rng.uniform(0.15, 0.8, count), strength)
    strength = np.where(label | poster, rng.uniform(0.7, 1.15, count), strength)
    strength = np.where(dark_look | white, 0.6 * strength, strength)
    tint = 1.0 + rng.normal(0.0, 0.12, (count, 3))
    gain = strength[:, None] * tint

    # Displayed brightness: a third of things is dark, walls are mostly bright. A paint replaces the texture's own tone.
    dark = (rng.random(count) < np.where(is_wall, 0.12, 0.38)) & ~white & ~poster & ~metal | dark_look
    tone = np.where(dark, rng.uniform(0.04, 0.3, count), rng.uniform(0.35, 0.97, count))
    tone = np.where(dark_look, rng.uniform(0.02, 0.2, count), tone)
    tone = np.where((is_wall | white) & ~dark, np.maximum(tone, rng.uniform(0.45, 0.97, count)), tone)
    vivid = np.where((rng.random(count) < 0.25) & ~dark_look & ~white & ~glowing & ~metal, 0.45, 0.07)
    paint = tone[:, None] * (1.0 - vivid[:, None] * rng.random((count, 3)))
    paint = np.where(leaf[:, None], paint * np.array([0.55, 0.8, 0.4]), paint)
    gain = np.where(plain[:, None], gain * (0.4 + 0.6 * tone[:, None]), gain * np.where(dark, 0.5, 1.0)[:, None])
    bias = np.where(plain[:, None], paint - 0.7 * gain, paint * (1.0 - strength[:, None]).clip(0.0, 1.0))

    side = np.exp(rng.uniform(np.log(0.22), np.log(1.5), count))
    side = np.where(is_wall, 1.4 * side, side)
    side = np.where(label, np.exp(rng.uniform(np.log(0.1), np.log(0.4), count)), side)
    side = np.where(poster, np.exp(rng.uniform(np.log(0.3), np.log(1.1), count)), side)
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
    shiny = (rng.random(count) < np.where(dark_look, 0.6, np.where(is_wall, 0.15, 0.4))) | metal
    gloss = np.where(shiny, rng.uniform(0.05, 0.9, count), 0.0)
    glow = np.where(glowing, np.exp(rng.uniform(np.log(0.8), np.log(12.0), count)), 0.0)
    return Materials(texture, mapping, gain, bias, gloss, glow)
