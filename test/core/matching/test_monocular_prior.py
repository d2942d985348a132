# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Network depth is brought to what one image says, as far as parallax cannot tell."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from dvmvs_core.matching.descriptors import Descriptors
from dvmvs_core.matching.gpu.checked_prior import CheckedMonocularPrior
from dvmvs_core.matching.keyframe import MatchingView
from dvmvs_core.matching.monocular_prior import (
    BLIND_DEVIATION,
    LEAST_DEVIATION,
    MEASURED_DEVIATION,
    REACH_PX,
    MonocularPrior,
)
from dvmvs_core.matching.self_calibration import SelfCalibration
from dvmvs_core.model.lite0 import LEVEL_CHANNELS
from dvmvs_core.model.monocular import MonocularDepth

HEIGHT, WIDTH = 64, 96
SHAPE = HEIGHT // 16, WIDTH // 16
K = np.array(((90, 0, 47), (0, 90, 31), (0, 0, 1)), np.float32)
NETWORK_M, MONOCULAR_M = 3.0, 1.0
EXACT = SelfCalibration(turn_squares=0.0, information=(1e12, 0.0, 1e12))


def view(x: float = 0.0, turned_deg: float = 0.0) -> MatchingView:
    levels = tuple(
        torch.zeros(1, channels, HEIGHT // side, WIDTH // side)
        for channels, side in zip(LEVEL_CHANNELS, (4, 8, 16, 32), strict=True)
    )
    nothing = np.zeros(0)
    world_T_cam, angle = np.eye(4), math.radians(turned_deg)
    world_T_cam[0, 3] = x
    world_T_cam[:3, :3] = ((math.cos(angle), 0, math.sin(angle)), (0, 1, 0), (-math.sin(angle), 0, math.cos(angle)))
    return MatchingView(Descriptors(nothing, nothing, nothing, nothing, nothing, levels), K, world_T_cam)


def prior(deviation: float = 0.05) -> MonocularPrior:
    def answer(*_inputs: torch.Tensor) -> MonocularDepth:
        return MonocularDepth(
            torch.full((1, *SHAPE), math.log(MONOCULAR_M)), torch.full((1, *SHAPE), math.log(deviation))
        )

    return MonocularPrior(answer)


def informed(
    measurements: list[MatchingView],
    deviation: float = 0.05,
    calibration: SelfCalibration = EXACT,
    by: MonocularPrior | CheckedMonocularPrior | None = None,
) -> np.ndarray:
    network = torch.full((1, HEIGHT, WIDTH), NETWORK_M)
    return (by or prior(deviation)).informed(network, view(), measurements, calibration)[0].numpy()


def expected(variance: float, monocular_variance: float) -> float:
    share = variance / (variance + monocular_variance)
    return NETWORK_M * (MONOCULAR_M / NETWORK_M) ** share


def test_without_parallax_both_count_by_their_variances():
    np.testing.assert_allclose(informed([view()]), expected(BLIND_DEVIATION**2, LEAST_DEVIATION**2), rtol=1e-5)
    unsure = informed([view()], deviation=2.0)
    np.testing.assert_allclose(unsure, expected(BLIND_DEVIATION**2, 2 * 2.0**2), rtol=1e-5)


def test_much_parallax_leaves_the_network_alone():
    # 6 m to the side is out of view, so that nothing is measured; 1 m is 6 px for a step of 25 %.
    measured = informed([view(1.0)])
    blind = math.exp(-90 * 1.0 / NETWORK_M * 0.2 / REACH_PX)
    variance = MEASURED_DEVIATION**2 + blind * (BLIND_DEVIATION**2 - MEASURED_DEVIATION**2)
    np.testing.assert_allclose(measured[:, -40:], expected(variance, LEAST_DEVIATION**2), rtol=1e-4)
    np.testing.assert_allclose(informed([view(6.0)]), informed([view()]), rtol=1e-5)
    np.testing.assert_allclose(informed([view(6.0), view(1.0)]), measured, rtol=1e-5)


def test_what_is_out_of_view_of_one_keyframe_is_blind():
    changed = informed([view(1.0)])
    # A point at 3 m and pixel x is at x - 30 there.
    assert changed[:, :16].max() < 0.8 * changed[:, -16:].min()


def test_parallax_counts_by_what_poses_are_off():
    rough = SelfCalibration(turn_squares=2 * math.radians(12) ** 2, information=(1e12, 0.0, 1e12))
    assert informed([view(1.0)], calibration=rough)[:, -16:].max() < 0.8 * informed([view(1.0)])[:, -16:].min()


def test_a_camera_that_turns_is_as_blind_as_one_that_stands():
    np.testing.assert_allclose(informed([view(turned_deg=5.0)]), informed([view()]), rtol=1e-5)


def test_edges_stay_the_networks():
    def answer(*_inputs: torch.Tensor) -> MonocularDepth:
        return MonocularDepth(torch.zeros(1, *SHAPE), torch.full((1, *SHAPE), math.log(0.1)))

    network = torch.full((1, HEIGHT, WIDTH), 2.0)
    network[:, :, 41:] = 2.8
    depth = MonocularPrior(answer).informed(network, view(), [view()], EXACT)
    assert (depth[0, 8:-8, 41] / depth[0, 8:-8, 40]).min() > 1.35
    assert depth.median() < 1.7


def test_a_pixel_that_the_network_gave_no_depth_spoils_no_other():
    def answer(*_inputs: torch.Tensor) -> MonocularDepth:
        return MonocularDepth(torch.zeros(1, *SHAPE), torch.full((1, *SHAPE), math.log(0.1)))

    network = torch.full((1, HEIGHT, WIDTH), 2.0)
    network[0, 20, 30] = np.nan
    depth = MonocularPrior(answer).informed(network, view(), [view()], EXACT)
    assert depth.isnan().sum() == 1


def test_what_fails_on_the_gpu_goes_on_on_the_cpu(caplog: pytest.LogCaptureFixture):
    asked = []

    def fails(*_inputs: torch.Tensor) -> MonocularDepth:
        asked.append("the GPU")
        raise RuntimeError("CUDA error: an illegal instruction\nmore of it")

    by = CheckedMonocularPrior(MonocularPrior(fails), prior)
    for _ in range(3):
        np.testing.assert_array_equal(informed([view()], by=by), informed([view()]))
    assert asked == ["the GPU"]
    assert [record.getMessage() for record in caplog.records] == [
        "cpu cannot tell depth from one image (RuntimeError: CUDA error: an illegal instruction); the CPU does"
    ]


def test_a_gpu_that_works_needs_no_cpu():
    def refuses() -> MonocularPrior:
        raise AssertionError("the CPU was asked")

    by = CheckedMonocularPrior(prior(), refuses)
    np.testing.assert_array_equal(informed([view()], by=by), informed([view()]))
