# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Sure depth reaches along a surface to where depth is unsure, as a plane, and stops where the image has an edge."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from dvmvs_core.plane_propagation import COLOURED, FARTHEST, LIMIT, PLACED, _Planes, compiled_planes, propagate_planes

SIZE = 64, 96
GREY = torch.full((*SIZE, 3), 128.0)
UNSURE, SURE = 0.02, 0.95


@pytest.fixture(params=[propagate_planes, compiled_planes])
def propagate(request):
    """Both ways to compute it."""
    return request.param


def plane(nearest: float = 1.0, farthest: float = 2.0) -> torch.Tensor:
    """Depth (1, H, W) of a floor, nearest at the bottom."""
    inverse = torch.linspace(1 / farthest, 1 / nearest, SIZE[0])
    return (1 / inverse)[None, :, None].expand(1, *SIZE).contiguous()


def noisy(depth: torch.Tensor, size: float = 0.3, seed: int = 0) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    return depth * (size * torch.randn(depth.shape, generator=random)).exp()


def sure_where(sure: torch.Tensor) -> torch.Tensor:
    return torch.where(sure, SURE, UNSURE)[None]


def strip(first: int, last: int, axis: int = 1) -> torch.Tensor:
    """Whether a pixel (H, W) lies in these columns, or rows."""
    inside = torch.zeros(SIZE, dtype=torch.bool)
    inside.movedim(axis, 0)[first:last] = True
    return inside


def error(found: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    return (found / truth).log().abs()


@pytest.mark.parametrize("sure", [strip(0, 24), strip(40, 50), strip(40, 64, axis=0)])
def test_a_blank_floor_is_the_plane_of_the_part_that_is_sure(propagate, sure):
    truth = plane()
    given = torch.where(sure, truth, noisy(truth * 1.3))
    found = propagate(given, sure_where(sure), GREY)
    assert error(given, truth)[:, ~sure].mean() > 0.25
    assert error(found, truth)[:, ~sure].mean() < 0.03
    assert error(found, truth)[:, sure].max() < 0.01


def test_depth_is_not_carried_across_an_edge_of_the_image(propagate):
    """A dark box before a bright wall; of each a part is sure, the wall's on one side of the box only."""
    box = strip(40, 64) & strip(16, 64, axis=0)
    truth = torch.where(box, 1.0, 2.5)[None]
    image = torch.where(box, 30.0, 220.0)[..., None].expand(*SIZE, 3)
    sure = strip(0, 20) | (box & strip(40, 48))
    given = torch.where(sure, truth, torch.full_like(truth, 1.7))
    found = propagate(given, sure_where(sure), image)
    assert error(found, truth).median() < 0.01
    assert error(found, truth)[:, box].mean() < 0.05
    assert error(found, truth)[:, ~box].mean() < 0.05


@pytest.mark.parametrize("column", [40, 41, 42, 43])
def test_depth_steps_where_the_image_has_its_edge_also_within_a_cell(propagate, column):
    """The colours change at that column; depth is sure far from it only, and the unsure step is three pixels off."""
    near = strip(0, column)
    truth, given = (torch.where(strip(0, side), 1.0, 2.0)[None] for side in (column, column + 3))
    image = torch.where(near, 30.0, 220.0)[..., None].expand(*SIZE, 3)
    found = propagate(given, sure_where(strip(0, 20) | strip(70, 96)), image)
    assert error(found, truth)[:, :, : column - 1].max() < 0.03
    assert error(found, truth)[:, :, column + 2 :].max() < 0.03


def test_colours_that_no_cell_has_do_no_harm(propagate):
    """Single pixels of any colour on a grey floor: all cells are as unlike, and the plane is the nearest ones'."""
    lone = torch.rand(SIZE, generator=torch.Generator().manual_seed(5)) < 0.02
    colours = 255 * (torch.rand(*SIZE, 3, generator=torch.Generator().manual_seed(6)) > 0.5)
    truth, sure = plane(), strip(0, 24)
    given = torch.where(sure, truth, truth * 1.3)
    found = propagate(given, sure_where(sure), torch.where(lone[..., None], colours, GREY))
    assert error(found, truth)[:, ~sure].median() < 0.03
    assert error(found, truth).max() < 0.3


@pytest.mark.parametrize("contrast", [0.2, 1.0])
def test_a_pixel_weighs_the_cells_around_it_by_colour_and_place(contrast):
    """Each weight on its own, of level planes, one a cell; at a contrast of 1.0 some pixels are unlike all cells."""
    random = torch.Generator().manual_seed(7)
    cells = (SIZE[0] // 4, SIZE[1] // 4)
    inverse = 1 + 0.5 * torch.rand(cells, generator=random)
    # Blocks of two pixels, as smooth as halves of an image are.
    blocks = 255 * (torch.rand(1, 3, SIZE[0] // 2, SIZE[1] // 2, generator=random) > 0.5)
    image = 128 + contrast * (functional.interpolate(blocks.float(), scale_factor=2.0)[0].permute(1, 2, 0) - 128)
    level = torch.zeros_like(inverse)
    halves = functional.avg_pool2d(image.permute(2, 0, 1)[None], 2)
    found = _Planes(inverse, level, level, inverse).by_colour(halves)[0]

    colours = functional.interpolate(halves, scale_factor=2.0, mode="bilinear")[0]
    means = functional.avg_pool2d(halves, 2)[0]
    for y, x in ((20, 33), (21, 34), (42, 71), (31, 8)):
        total = weights = 0.0
        for row in range(y // 4 - 1, y // 4 + 2):
            for column in range(x // 4 - 1, x // 4 + 2):
                unlike = float((colours[:, y, x] - means[:, row, column]).square().sum()) / (2 * COLOURED**2)
                away = (((y + 0.5) / 4 - row - 0.5) ** 2 + ((x + 0.5) / 4 - column - 0.5) ** 2) / (2 * PLACED**2)
                weight = math.exp(-min(unlike, FARTHEST) - away)
                total, weights = total + weight * float(inverse[row, column]), weights + weight
        assert float(found[y, x]) == pytest.approx(total / weights, rel=1e-4)


def test_a_way_around_an_obstacle_is_found(propagate):
    """Behind a post that reaches from the top to two thirds of the image, floor is floor."""
    post = strip(44, 52) & strip(0, 42, axis=0)
    truth = torch.where(post, 0.8, plane()[0])[None]
    image = torch.where(post, 30.0, 200.0)[..., None].expand(*SIZE, 3)
    sure = strip(0, 36) | post
    given = torch.where(sure, truth, noisy(truth))
    behind = strip(60, 96)
    found = propagate(given, sure_where(sure), image)
    assert error(found, truth)[:, behind].mean() < 0.04


def test_sure_depth_that_is_off_the_plane_does_not_bend_it(propagate):
    truth = plane()
    sure = strip(0, 48)
    outlier = torch.rand(SIZE, generator=torch.Generator().manual_seed(1)) < 0.1
    given = torch.where(sure, truth, truth * 1.4)
    given = torch.where(sure & outlier, 0.6 * given, given)
    found = propagate(given, sure_where(sure), GREY)
    assert error(found, truth)[:, ~sure].mean() < 0.03


def test_sure_depth_keeps_its_shape(propagate):
    """A sphere on a blank wall: no plane takes more of it than confidence leaves."""
    y, x = torch.meshgrid(torch.arange(SIZE[0]) - 32.0, torch.arange(SIZE[1]) - 48.0, indexing="ij")
    bulge = (1 - (x * x + y * y) / 24**2).clamp(min=0).sqrt()
    truth = (2 - 0.5 * bulge)[None]
    found = propagate(truth, torch.ones_like(truth), GREY)
    assert error(found, truth).mean() < 0.012
    unsure = propagate(truth, torch.full_like(truth, UNSURE), GREY)
    assert error(unsure, truth).mean() > 2 * error(found, truth).mean()


@pytest.mark.parametrize("confidence", [0.0, 1.0])
def test_it_is_finite_and_in_range_whatever_comes(propagate, confidence):
    random = torch.Generator().manual_seed(2)
    depth = 0.25 + 19.75 * torch.rand(1, *SIZE, generator=random) ** 4
    for image in (GREY, 255 * torch.rand(*SIZE, 3, generator=random)):
        found = propagate(depth, torch.full_like(depth, confidence), image)
        assert torch.isfinite(found).all()
        assert depth.min() / LIMIT <= found.min() and found.max() <= depth.max() * LIMIT


def test_a_steep_plane_does_not_run_to_infinity_or_behind_the_camera(propagate):
    """Of a table that is sure in its nearest rows only, the plane's horizon is in the middle of the image."""
    inverse = torch.linspace(-2, 2, SIZE[0]).clamp(min=0.5)
    depth = (1 / inverse)[None, :, None].expand(1, *SIZE).contiguous()
    found = propagate(depth, sure_where(strip(52, 64, axis=0)), GREY)
    assert depth.min() / LIMIT <= found.min() and found.max() <= depth.max() * LIMIT


def test_the_unit_of_depth_does_not_matter(propagate):
    depth, image = noisy(plane()), 255 * torch.rand(*SIZE, 3, generator=torch.Generator().manual_seed(3))
    confidence = torch.rand(1, *SIZE, generator=torch.Generator().manual_seed(4))
    metres, feet = (propagate(unit * depth, confidence, image) / unit for unit in (1, 3.28))
    torch.testing.assert_close(metres, feet, rtol=1e-4, atol=0)


def test_compiled_it_is_the_same():
    depth, image = noisy(plane()), 255 * torch.rand(*SIZE, 3, generator=torch.Generator().manual_seed(8))
    image = functional.avg_pool2d(image.permute(2, 0, 1), 5, stride=1, padding=2).permute(1, 2, 0)
    confidence = torch.rand(1, *SIZE, generator=torch.Generator().manual_seed(9))
    expected = propagate_planes(depth, confidence, image)
    assert error(expected, depth).mean() > 0.01
    torch.testing.assert_close(compiled_planes(depth, confidence, image), expected, rtol=2e-4, atol=0)
