# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Ramps between two surfaces become steps at the image's edge; surfaces, flat or slanted, stay as they are."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from dvmvs_core import edge_sharpening
from dvmvs_core.edge_sharpening import REACHES, sharpen_edges

GREY = torch.full((40, 60, 3), 128.0)
MARGIN = 2 * max(REACHES)


def pole(first_column: int) -> torch.Tensor:
    """Depth (1, 40, 60) of a pole 1 m away before a wall at 2 m."""
    depth = torch.full((1, 40, 60), 2.0)
    depth[:, 10:, first_column : first_column + 12] = 1.0
    return depth


def blurred(depth: torch.Tensor, reach: int = 1) -> torch.Tensor:
    padded = functional.pad(depth.log()[None], (reach,) * 4, "replicate")
    return functional.avg_pool2d(padded, 2 * reach + 1, stride=1)[0].exp()


def textured(generator: int = 0) -> torch.Tensor:
    """Colours (40, 60, 3) that say nothing."""
    return 255 * torch.rand(40, 60, 3, generator=torch.Generator().manual_seed(generator))


def painted(depth: torch.Tensor) -> torch.Tensor:
    """An image (40, 60, 3) of surfaces that differ in colour, with some texture."""
    return 40 * (depth[0, ..., None] * torch.tensor((1.0, 2.0, 2.5))) + 0.1 * textured()


def error(depth: torch.Tensor, truth: torch.Tensor) -> float:
    return float((depth / truth).log().abs().mean())


def steepest(depth: torch.Tensor) -> float:
    return float(depth.log().diff(dim=2).abs().max())


def test_a_ramp_between_two_surfaces_becomes_a_step():
    truth = pole(20)
    ramps = blurred(truth)
    sharp = sharpen_edges(ramps, painted(truth))
    assert steepest(ramps) < 0.24 and steepest(sharp) > 0.6
    assert error(sharp, truth) < 0.2 * error(ramps, truth)
    assert sharp.min() >= 1 - 1e-5 and sharp.max() <= 2 + 1e-5


def test_a_step_goes_where_the_image_has_it():
    """Depth is two pixels off."""
    truth = pole(20)
    shifted = blurred(pole(22))
    sharp = sharpen_edges(shifted, painted(truth))
    assert error(sharp, truth) < 0.3 * error(shifted, truth)


def test_colours_that_say_nothing_do_no_harm():
    truth = pole(20)
    ramps = blurred(truth)
    for image in (GREY, textured()):
        assert error(sharpen_edges(ramps, image), truth) < 1.1 * error(ramps, truth)


def test_a_slanted_surface_stays():
    """A floor seen from above, whose depth changes by a third within the reach, whatever is painted on it."""
    rows = torch.linspace(0.3, 2.3, 40)
    floor = rows.exp()[None, :, None].expand(1, 40, 60).contiguous()
    reach = max(REACHES)
    assert float(floor.log()[0, 2 * reach, 0] - floor.log()[0, 0, 0]) > 0.2
    inner = slice(MARGIN, -MARGIN)
    tiles = 255.0 * (torch.arange(40)[:, None, None] // 7 % 2).expand(40, 60, 3)
    torch.testing.assert_close(sharpen_edges(floor, tiles)[:, inner], floor[:, inner], rtol=1e-4, atol=0)


def test_noise_on_a_wall_is_left_alone():
    noise = torch.rand(1, 40, 60, generator=torch.Generator().manual_seed(0))
    wall = 2 * (0.065 * noise).exp()
    torch.testing.assert_close(sharpen_edges(wall, textured()), wall)


def test_neighbourhoods_are_the_same_on_every_device():
    """OpenCV's on the CPU, torch's on a GPU."""
    values = torch.rand(1, 20, 30, generator=torch.Generator().manual_seed(1)) + 0.5
    largest = functional.max_pool2d(values, 9, stride=1, padding=4)
    np.testing.assert_array_equal(edge_sharpening._largest(values, 4), largest)
    padded = functional.pad(values[None], (5,) * 4, "replicate")
    means = functional.avg_pool2d(padded, 11, stride=1)[0]
    torch.testing.assert_close(edge_sharpening._means(values, 5), means, rtol=1e-5, atol=0)
