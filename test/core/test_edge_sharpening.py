# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Ramps between two surfaces become steps; surfaces, flat or slanted, stay as they are."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from dvmvs_core.edge_sharpening import REACH, sharpen_edges


def test_a_ramp_between_two_surfaces_becomes_steeper():
    """A pole 1 m away before a wall at 2 m, blurred."""
    truth = torch.full((1, 40, 60), 2.0)
    truth[:, 10:, 20:32] = 1.0
    blurred = functional.avg_pool2d(functional.pad(truth.log()[None], (1, 1, 1, 1), "replicate"), 3, stride=1)[0].exp()
    sharp = sharpen_edges(blurred)

    def error(depth):
        return float((depth / truth).log().abs().mean())

    def steepest(depth):
        return float(depth.log().diff(dim=2).abs().max())

    assert steepest(blurred) < 0.24 and steepest(sharp) > 0.3
    assert error(sharp) < 0.6 * error(blurred)
    assert sharp.min() >= 1 - 1e-5 and sharp.max() <= 2 + 1e-5


def test_a_slanted_surface_stays():
    """A floor seen from above, whose depth changes by a third within the reach."""
    rows = torch.linspace(0.3, 2.3, 30)
    floor = rows.exp()[None, :, None].expand(1, 30, 50).contiguous()
    span = float(floor.log()[0, 2 * REACH, 0] - floor.log()[0, 0, 0])
    assert span > 0.2
    inner = slice(2 * REACH, -2 * REACH)
    torch.testing.assert_close(sharpen_edges(floor)[:, inner], floor[:, inner], rtol=1e-4, atol=0)


def test_noise_on_a_wall_is_left_alone():
    noise = torch.rand(1, 30, 40, generator=torch.Generator().manual_seed(0))
    wall = 2 * (0.09 * noise).exp()
    torch.testing.assert_close(sharpen_edges(wall), wall)


def test_the_neighbourhood_is_the_same_on_every_device():
    """OpenCV's on the CPU, torch's on a GPU."""
    values = torch.rand(1, 20, 30, generator=torch.Generator().manual_seed(1)) + 0.5
    side = 2 * REACH + 1
    largest = functional.max_pool2d(values, side, stride=1, padding=REACH)
    from dvmvs_core import edge_sharpening

    np.testing.assert_array_equal(edge_sharpening._largest(values), largest)
