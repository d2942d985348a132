# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

from __future__ import annotations

import numpy as np
import pytest

from dvmvs_core.config import preset
from dvmvs_core.evaluation.scoring.classical_plane_sweep import PlaneSweep
from dvmvs_core.types import Frame

SIZE = (64, 96)
K = np.array(((80.0, 0.0, 47.5), (0.0, 80.0, 31.5), (0.0, 0.0, 1.0)))


@pytest.fixture(scope="module")
def wall() -> np.ndarray:
    """A smooth random texture, wider than any view."""
    import cv2

    noise = np.random.default_rng(0).uniform(0, 255, (SIZE[0], 4 * SIZE[1], 3)).astype(np.float32)
    blurred = cv2.GaussianBlur(noise, (0, 0), 1.5)
    return np.clip((blurred - 127) * 4 + 127, 0, 255).astype(np.uint8)


def view(wall: np.ndarray, x: float, depth_m: float, index: int) -> Frame:
    """What a camera at x sees of a wall at that depth: the texture moved by whole pixels."""
    shift = round(K[0, 0] * x / depth_m)
    world_T_cam = np.eye(4)
    world_T_cam[0, 3] = shift * depth_m / K[0, 0]
    left = SIZE[1] + shift
    return Frame(wall[:, left : left + SIZE[1]].copy(), K, world_T_cam, stamp_ns=index + 1, index=index)


@pytest.mark.parametrize("depth_m", (1.0, 2.0))
def test_a_textured_wall_is_found_at_its_depth(wall, depth_m):
    sweep = PlaneSweep(preset("small", network="pairnet", height=SIZE[0], width=SIZE[1]))
    prediction = sweep.predict(
        view(wall, 0.0, depth_m, 2), [view(wall, -0.2, depth_m, 0), view(wall, 0.15, depth_m, 1)]
    )
    assert prediction.depth.shape == SIZE
    middle = prediction.depth[8:-8, 12:-12]
    assert np.median(middle) == pytest.approx(depth_m, rel=0.1)  # planes lie 6 % and 12 % apart there
    assert (np.abs(middle / depth_m - 1) < 0.15).mean() > 0.9
    assert (prediction.frame_index, prediction.measurement_index) == (2, (0, 1))
    assert prediction.image.shape == (*SIZE, 3)


def test_it_holds_nothing_from_call_to_call(wall):
    sweep = PlaneSweep(preset("small", network="pairnet", height=SIZE[0], width=SIZE[1]))
    pair = view(wall, 0.0, 2.0, 1), [view(wall, 0.2, 2.0, 0)]
    first = sweep.predict(*pair).depth
    sweep.predict(view(wall, 0.3, 1.0, 3), [view(wall, 0.0, 1.0, 2)])
    assert np.array_equal(sweep.predict(*pair).depth, first)
