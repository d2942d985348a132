# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The score volume of `base`: against hand-made scenes, and its two implementations against one another."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from dvmvs_core.config import preset
from dvmvs_core.matching.volume import fastest_score_volume
from dvmvs_core.model.base import BaseNet
from dvmvs_core.model.score_volume import log_planes, parallax, score_volume

HEIGHT, WIDTH, FX = 64, 96, 80.0


def intrinsics(batch: int = 1) -> torch.Tensor:
    return torch.tensor([[FX, 0.0, 46.0], [0.0, 1.1 * FX, 30.0], [0.0, 0.0, 1.0]]).repeat(batch, 1, 1)


def moved(x: float = 0.0, y: float = 0.0, z: float = 0.0, turn: float = 0.0) -> torch.Tensor:
    """meas_T_ref (1, 4, 4) of a shift in metres and a turn about the vertical axis."""
    transform = torch.eye(4)
    transform[:3, 3] = torch.tensor([x, y, z])
    transform[0, 0] = transform[2, 2] = math.cos(turn)
    transform[0, 2], transform[2, 0] = math.sin(turn), -math.sin(turn)
    return transform[None]


@pytest.fixture(scope="module")
def network() -> BaseNet:
    torch.manual_seed(0)
    return BaseNet(preset("base", height=HEIGHT, width=WIDTH, widths=(8, 8, 8, 8))).eval()


def textured_images(shift: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Two normalised images of a textured wall: the second is the first, moved to the left by some pixels."""
    generator = torch.Generator().manual_seed(1)
    wide = torch.rand(1, 3, HEIGHT, WIDTH + shift, generator=generator)
    wide = 3 * torch.nn.functional.avg_pool2d(wide, 5, 1, 2) - 1.5
    return wide[..., :WIDTH], wide[..., shift:]


@torch.no_grad()
def test_a_wall_scores_best_at_its_depth(network) -> None:
    """A camera that moves right by 0.2 m sees a wall at 2 m move left by fx · 0.2 / 2 = 8 pixels."""
    reference, measurement = (network.extract(image) for image in textured_images(shift=8))
    volume = score_volume(reference, [measurement], [moved(x=-0.2)], intrinsics(), network.planes)
    expected = int((network.planes - math.log(2.0)).abs().argmin())
    inside = (slice(None), slice(3, -3), slice(5, -3))
    for name in ("patch", "maps"):
        best = getattr(volume, name).argmax(dim=1)[inside]
        assert ((best - expected).abs() <= 1).float().mean() > 0.9, name
    assert volume.patch.shape == volume.maps.shape == (1, 64, HEIGHT // 4, WIDTH // 4)


@torch.no_grad()
def test_the_compiled_sweep_gives_the_same_volume(network) -> None:
    torch.manual_seed(3)
    images = [torch.randn(2, 3, HEIGHT, WIDTH) for _ in range(3)]
    reference, *measurements = [network.extract(image) for image in images]
    to_measured = [
        torch.cat([moved(0.1, 0.02, -0.05, 0.1), moved(-0.2, 0.0, 0.1, -0.05)]),
        torch.cat([moved(0.0, 0.1, 0.3, 0.2), moved(0.05, 0.0, 0.0, 0.6)]),
    ]
    arguments = (reference, measurements, to_measured, intrinsics(2), network.planes)
    expected, actual = score_volume(*arguments), fastest_score_volume(*arguments)
    for name in ("patch", "maps"):
        difference = (getattr(actual, name) - getattr(expected, name)).abs()
        # A sample on the very border of the view may count in one and not in the other.
        assert difference.quantile(0.99) < 1e-4, name
    torch.testing.assert_close(actual.visible, expected.visible, atol=0.02, rtol=0)
    torch.testing.assert_close(actual.parallax, expected.parallax)


@torch.no_grad()
def test_samples_out_of_view_do_not_count(network) -> None:
    """A frame that looks the other way adds nothing to the mean; alone it leaves scores of 0."""
    reference, measurement = (network.extract(image) for image in textured_images(shift=8))
    away = moved(turn=math.pi)
    planes, K = network.planes, intrinsics()
    alone = score_volume(reference, [measurement], [moved(x=-0.2)], K, planes)
    both = score_volume(reference, [measurement, measurement], [moved(x=-0.2), away], K, planes)
    torch.testing.assert_close(both.maps, alone.maps)
    torch.testing.assert_close(both.visible, alone.visible / 2)
    nothing = score_volume(reference, [measurement], [away], K, planes)
    assert not nothing.patch.any() and not nothing.maps.any() and not nothing.visible.any()


def test_parallax_of_a_step_of_a_quarter_at_two_metres() -> None:
    """Sideways by 0.2 m: fx · 0.2 · (1/2 − 1/2.5) = 1.6 px; without motion 0; the largest of the frames counts."""
    still, sideways = moved(), moved(x=-0.2)
    assert parallax([still], intrinsics(), (16, 24)).abs().max() < 1e-4
    largest = parallax([still, sideways], intrinsics(), (16, 24))
    torch.testing.assert_close(largest[0, 0, :, 8:], torch.full((16, 16), 1.6), atol=1e-4, rtol=0)


def test_planes_are_even_in_log_depth() -> None:
    planes = log_planes(0.25, 20.0, 64)
    assert planes[0].exp().item() == pytest.approx(0.25) and planes[-1].exp().item() == pytest.approx(20.0)
    np.testing.assert_allclose(planes.diff().numpy(), math.log(80) / 63, rtol=1e-5)


def test_no_measurement_frame_is_refused(network) -> None:
    with pytest.raises(ValueError, match="at least one"):
        score_volume(network.extract(torch.zeros(1, 3, HEIGHT, WIDTH)), [], [], intrinsics(), network.planes)
