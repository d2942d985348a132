# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Small worlds whose geometry is known by heart."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from dvmvs_core.synthetic.textures import TextureBank, build_texture_bank
from dvmvs_core.synthetic.world_tensors import (
    BOXES,
    ELLIPSOIDS,
    LIGHTS,
    ROOMS,
    SOLIDS,
    SURFACES,
    WorldTensors,
)

FIRST_ELLIPSOID, FIRST_CYLINDER = BOXES, BOXES + ELLIPSOIDS


@pytest.fixture(scope="session")
def bank() -> TextureBank:
    return build_texture_bank(seed=3, count=24, size=64)


@pytest.fixture
def make_world() -> Callable[..., WorldTensors]:
    """A function that makes a room from low to high corner, with solids {number: (centre, half)}; frame axis 1."""

    def make(
        low: tuple[float, float, float] = (-3.0, -3.0, 0.0),
        high: tuple[float, float, float] = (3.0, 3.0, 3.0),
        solids: dict[int, tuple[tuple[float, float, float], tuple[float, float, float]]] | None = None,
    ) -> WorldTensors:
        centre = torch.tensor([0.0, 0.0, -500.0]).repeat(SOLIDS, 1)
        half = torch.full((SOLIDS, 3), 0.1)
        for number, (where, size) in (solids or {}).items():
            centre[number], half[number] = torch.tensor(where), torch.tensor(size)
        world = WorldTensors(
            world_R_solid=torch.eye(3).repeat(SOLIDS, 1, 1),
            centre=centre,
            half=half,
            room_low=torch.tensor(low).repeat(ROOMS, 1),
            room_high=torch.tensor(high).repeat(ROOMS, 1),
            texture=torch.arange(SURFACES) % 24,
            mapping=torch.tensor([0.7, 0.1, 0.2, -0.1, 0.7, 0.4]).repeat(SURFACES, 1),
            gain=torch.ones(SURFACES, 3),
            bias=torch.zeros(SURFACES, 3),
            gloss=torch.zeros(SURFACES),
            glow=torch.zeros(SURFACES),
            light=torch.tensor([[0.0, 0.0, 2.8]]).repeat(LIGHTS, 1),
            power=torch.ones(LIGHTS, 3),
            ambient=torch.full((3,), 0.5),
        )
        return WorldTensors(*(part[None] for part in world))

    return make


LOOKING_ALONG_X = np.array(
    # camera x (right) is world -y, camera y (down) is world -z, camera z (forward) is world x
    [[0.0, 0.0, 1.0, 0.0], [-1.0, 0.0, 0.0, 0.0], [0.0, -1.0, 0.0, 1.5], [0.0, 0.0, 0.0, 1.0]]
)
K = np.array([[40.0, 0.0, 20.0], [0.0, 50.0, 15.0], [0.0, 0.0, 1.0]])


@pytest.fixture
def camera() -> tuple[torch.Tensor, torch.Tensor]:
    """A level camera at (0, 0, 1.5) that looks along world x, and its K for 40x30 pixels."""
    return torch.from_numpy(LOOKING_ALONG_X).float()[None], torch.from_numpy(K).float()[None]
