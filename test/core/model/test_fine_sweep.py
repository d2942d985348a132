# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Matching about a prediction finds what is wrong with it, and corrections come to full resolution unblurred."""

from __future__ import annotations

import math

import pytest
import torch
from camera_poses import pose_tensor as pose_at

from dvmvs_core.config import preset
from dvmvs_core.model.cost_volume import sweep_geometry
from dvmvs_core.model.dvmvs import build_network, ending_at_quarter
from dvmvs_core.model.fine_sweep import LOG_SHIFTS, PREDICTED, FineSweep, upsampled
from dvmvs_core.model.patch_matching import patch_descriptors
from dvmvs_core.runtime.step_geometry import step_geometry

HEIGHT, WIDTH = 64, 96
K = torch.tensor([[[80.0, 0, 48], [0, 80.0, 32], [0, 0, 1]]])
WALL_M, BASELINE_M = 2.0, 0.4


def wall_seen_from(x: float) -> torch.Tensor:
    """An image (1, 3, H, W) of a wall at 2 m whose texture is a sum of waves."""
    generator = torch.Generator().manual_seed(3)
    columns = (torch.arange(WIDTH) - 48) / 80 * WALL_M + x
    rows = (torch.arange(HEIGHT) - 32) / 80 * WALL_M
    image = torch.zeros(HEIGHT, WIDTH)
    for fx, fy, phase in (torch.rand(12, 3, generator=generator) * torch.tensor((14.0, 14.0, 6.3))).tolist():
        image += torch.sin(fx * columns[None] + fy * rows[:, None] + phase)
    return image.expand(1, 3, HEIGHT, WIDTH) / 4


@pytest.fixture
def fine_sweep() -> FineSweep:
    torch.manual_seed(0)
    return FineSweep(4, 4, channels=8, min_depth_m=0.25, max_depth_m=20.0).eval()


def matched_at(fine_sweep: FineSweep, depth_m: float) -> torch.Tensor:
    maps = [patch_descriptors(wall_seen_from(x)) for x in (0.0, BASELINE_M)]
    geometry = sweep_geometry(pose_at(0.0), [pose_at(BASELINE_M)], K)
    return fine_sweep.match(torch.full((1, HEIGHT, WIDTH), depth_m), maps[0], maps[1:], *geometry)


@pytest.mark.parametrize("shift", (-0.28, -0.14, 0.0, 0.14, 0.28))
def test_matching_peaks_where_the_prediction_is_off(fine_sweep, shift) -> None:
    """The wall is at exp(shift) times the predicted depth."""
    matched = matched_at(fine_sweep, WALL_M * math.exp(-shift))
    similarity = matched[0, : len(LOG_SHIFTS), 4:-4, 24:-4].mean(dim=(1, 2))
    assert similarity.argmax() == LOG_SHIFTS.index(shift)
    assert similarity.max() > 0.97
    assert similarity.median() < 0.7


def test_what_is_out_of_view_matches_nothing(fine_sweep) -> None:
    """80 px · 0.4 m / 2 m = 16 px of the left are seen by the reference frame alone, 8 at half resolution."""
    matched = matched_at(fine_sweep, WALL_M)
    seen = matched[0, len(LOG_SHIFTS)]
    assert torch.equal(seen, (torch.arange(WIDTH // 2) >= 8).float().expand(HEIGHT // 2, -1))
    assert matched[0, PREDICTED, :, :8].abs().max() == 0.0


def test_texture_tells_a_pattern_from_one_colour(fine_sweep) -> None:
    flat, waves = patch_descriptors(torch.zeros(1, 3, HEIGHT, WIDTH)), patch_descriptors(wall_seen_from(0.0))
    geometry = sweep_geometry(pose_at(0.0), [pose_at(0.0)], K)
    depth = torch.full((1, HEIGHT, WIDTH), WALL_M)
    assert fine_sweep.match(depth, flat, [flat], *geometry)[:, -1].max() < 1e-3
    assert fine_sweep.match(depth, waves, [waves], *geometry)[:, -1].median() == pytest.approx(1.0, abs=0.01)


def test_geometry_is_that_of_the_fast_plane_sweep() -> None:
    world_T_ref, world_T_meas = pose_at(0.1), [pose_at(0.3), pose_at(-0.2, z=0.5)]
    expected = step_geometry(world_T_ref, world_T_meas, K, None, (HEIGHT // 2, WIDTH // 2), exact_sampling=True)
    homographies, translations = sweep_geometry(world_T_ref, world_T_meas, K)
    torch.testing.assert_close(torch.stack(homographies), expected.homographies)
    torch.testing.assert_close(torch.stack(translations), expected.translations)


def test_before_training_it_changes_nothing(fine_sweep) -> None:
    depth = torch.rand(1, HEIGHT, WIDTH) + 1.0
    maps = torch.randn(1, 4, HEIGHT // 2, WIDTH // 2)
    matched = matched_at(fine_sweep, WALL_M)
    assert torch.equal(fine_sweep(depth, matched, maps, maps), depth)
    torch.nn.init.constant_(fine_sweep.correction.bias, math.log(1.25))
    torch.testing.assert_close(fine_sweep(depth, matched, maps, maps), 1.25 * depth)


def test_depth_stays_within_the_range_of_the_network(fine_sweep) -> None:
    depth = torch.full((1, HEIGHT, WIDTH), WALL_M)
    maps = torch.randn(1, 4, HEIGHT // 2, WIDTH // 2)
    for correction, limit in ((3.0, 20.0), (-3.0, 0.25)):
        torch.nn.init.constant_(fine_sweep.correction.bias, correction)
        assert (fine_sweep(depth, matched_at(fine_sweep, WALL_M), maps, maps) == limit).all()


def test_a_pixel_takes_the_correction_of_any_neighbour_or_a_mean_of_them() -> None:
    correction = torch.arange(12.0).view(1, 1, 3, 4)
    shares = torch.full((1, 9, 4, 3, 4), -100.0)
    shares[:, 4, 0] = 100.0  # top left of a cell: its own
    shares[:, 5, 1] = 100.0  # top right: the one to the right
    shares[:, (4, 7), 2] = 100.0  # bottom left: half its own, half the one below
    shares[:, 0, 3] = 100.0  # bottom right: the one above and to the left
    fine = upsampled(correction, shares.flatten(1, 2))
    own = torch.arange(12.0).view(3, 4)
    assert torch.equal(fine[0, ::2, ::2], own)
    assert fine[0, ::2, 1::2].tolist() == [[1, 2, 3, 3], [5, 6, 7, 7], [9, 10, 11, 11]]  # borders repeat
    assert fine[0, 1::2, ::2].tolist() == [[2, 3, 4, 5], [6, 7, 8, 9], [8, 9, 10, 11]]
    assert fine[0, 1::2, 1::2].tolist() == [[0, 0, 1, 2], [0, 0, 1, 2], [4, 4, 5, 6]]


def test_gradient_reaches_all_of_it_and_the_prediction(fine_sweep) -> None:
    torch.nn.init.normal_(fine_sweep.correction.weight)
    depth = torch.full((1, HEIGHT, WIDTH), 1.6, requires_grad=True)
    maps = torch.randn(1, 4, HEIGHT // 2, WIDTH // 2)
    fine_sweep(depth, matched_at(fine_sweep, 1.6), maps, maps).mean().backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in fine_sweep.parameters())
    assert depth.grad.abs().max() > 0


def test_fusionnet_differs_by_the_fine_sweep_at_full_resolution_alone(view_of_noise) -> None:
    torch.manual_seed(0)
    config = preset("small", height=HEIGHT, width=WIDTH, depth_hypotheses=4, hyper_channels=2, refinement_channels=4)
    network = build_network(config).eval()
    torch.nn.init.constant_(network.fine_sweep.correction.bias, 0.1)
    plain = build_network(config.replace(refinement_channels=0)).eval()
    plain.load_state_dict({k: v for k, v in network.state_dict().items() if not k.startswith("refinement.")})
    (fine, state), (plain_pyramid, plain_state) = view_of_noise(network), view_of_noise(plain)
    torch.testing.assert_close(fine.full, plain_pyramid.full * math.exp(0.1))
    assert all(torch.equal(a, b) for a, b in zip(fine[1:], plain_pyramid[1:], strict=True))
    assert all(torch.equal(a, b) for a, b in zip(state, plain_state, strict=True))


def test_a_network_that_ends_at_quarter_resolution_says_the_same_there(view_of_noise) -> None:
    torch.manual_seed(0)
    config = preset("small", height=HEIGHT, width=WIDTH, depth_hypotheses=4, hyper_channels=2, refinement_channels=4)
    network = build_network(config).eval()
    stored = network.state_dict().keys()
    (whole, state), (found, found_state) = view_of_noise(network), view_of_noise(ending_at_quarter(network))
    assert all(torch.equal(a, b) for a, b in zip((*whole[2:], *state), (*found[2:], *found_state), strict=True))
    for finer in (found.half, found.full):
        corners = [depth[:, :: depth.shape[1] - 1, :: depth.shape[2] - 1] for depth in (finer, whole.quarter)]
        torch.testing.assert_close(*corners)
        assert 0.999 * whole.quarter.min() < finer.min() < finer.max() < 1.001 * whole.quarter.max()
    assert found.half.shape == whole.half.shape and found.full.shape == whole.full.shape
    assert network.state_dict().keys() == stored, "the network itself stays whole"
    pair = build_network(config.replace(network="pairnet", refinement_channels=0)).eval()
    image = torch.randn(1, 3, HEIGHT, WIDTH)
    costs = torch.rand(1, 4, HEIGHT // 2, WIDTH // 2)
    quarter = ending_at_quarter(pair).decode(None, pair.extract(image), costs).quarter
    assert torch.equal(quarter, pair.decode(image, pair.extract(image), costs).quarter)


def test_geometry_stays_exact_where_convolutions_are_in_half_precision(view_of_noise) -> None:
    torch.manual_seed(0)
    config = preset("small", height=HEIGHT, width=WIDTH, depth_hypotheses=4, hyper_channels=2, refinement_channels=4)
    network = build_network(config).eval()
    torch.nn.init.normal_(network.fine_sweep.correction.weight, 0, 0.1)
    expected, _ = view_of_noise(network)
    with torch.autocast("cpu", torch.bfloat16):
        found, _ = view_of_noise(network)
    assert found.full.dtype == torch.float32
    assert 0 < ((found.full - expected.full).abs() / expected.full).mean() < 0.02


@pytest.fixture
def view_of_noise():
    """Function of a network: what it makes of two images of noise."""
    images = torch.randn(2, 1, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))

    @torch.no_grad()
    def predict(network):
        reference, measurement = (network.extract(image) for image in images)
        poses = (pose_at(0.0), [pose_at(0.1)])
        return network(images[0], reference, [measurement.matching], *poses, K, None, None, None)

    return predict
