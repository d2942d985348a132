# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Where a keyframe is blind, and the depth that is best there."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from dvmvs_core.matching.blindness import LOG_DEPTH_DEVIATION, POSE_ERRORS, blindness, least_relative_error
from dvmvs_core.model.regulariser import ANCHOR, EVIDENCE, NO_ANCHOR

SCALE_PX = 2.0
EXACT = 1e-4
"""Deviation of poses in pixels that allows everything to be measured."""


def evidence_of(clear: float) -> torch.Tensor:
    evidence = torch.rand(EVIDENCE, 6, 8, generator=torch.Generator().manual_seed(0))
    evidence[0] += clear - evidence[0].mean()
    return evidence


def test_it_falls_with_parallax_where_images_say_nothing():
    parallax = torch.tensor((0.0, SCALE_PX, 100.0)).expand(6, 3)
    found = blindness(parallax, torch.zeros(6, 3), evidence_of(NO_ANCHOR - 0.02), SCALE_PX, EXACT)
    torch.testing.assert_close(found, torch.tensor((1.0, np.exp(-1), 0.0), dtype=torch.float32).expand(6, 3))


def test_what_the_past_agrees_on_is_not_blind():
    agreement = torch.tensor((0.0, 0.6, 1.0)).expand(6, 3)
    found = blindness(torch.zeros(6, 3), agreement, evidence_of(NO_ANCHOR - 0.02), SCALE_PX, EXACT)
    torch.testing.assert_close(found, 1 - agreement)


def test_parallax_counts_by_what_poses_are_off():
    parallax, agreement = torch.full((6, 3), 4.0), torch.zeros(6, 3)
    fine, rough = (
        blindness(parallax, agreement, evidence_of(NO_ANCHOR - 0.02), SCALE_PX, error_px) for error_px in (0.5, 4.0)
    )
    torch.testing.assert_close(fine, torch.full_like(fine, np.exp(-4.0 / SCALE_PX)))
    torch.testing.assert_close(rough, torch.full_like(rough, np.exp(-4.0 / (POSE_ERRORS * 4.0))))


def test_a_past_that_poses_did_not_allow_to_measure_counts_little():
    parallax, agreement = torch.full((6, 3), 1.0), torch.ones(6, 3)
    fine, rough = (
        blindness(parallax, agreement, evidence_of(NO_ANCHOR - 0.02), SCALE_PX, error_px) for error_px in (EXACT, 4.0)
    )
    assert not fine.any()
    allowed = math.erf(math.log(1.1) / math.log(1.25) / 4.0 / math.sqrt(2))
    torch.testing.assert_close(rough, torch.full_like(rough, math.exp(-1 / (POSE_ERRORS * 4.0)) * (1 - allowed)))


def test_a_clear_keyframe_is_blind_nowhere():
    parallax = torch.zeros(6, 8)
    half, clear = (
        blindness(parallax, torch.zeros(6, 8), evidence_of(clear), SCALE_PX, EXACT)
        for clear in ((NO_ANCHOR + ANCHOR) / 2, ANCHOR + 0.01)
    )
    torch.testing.assert_close(half, torch.full_like(half, 0.5))
    assert not clear.any()


def test_blind_depth_has_the_least_expected_relative_error():
    truths = np.exp(LOG_DEPTH_DEVIATION * np.random.default_rng(0).normal(size=200_000)) * 2.0  # the median is 2 m

    def error(depth):
        return np.mean(np.abs(depth / truths - 1))

    depth = least_relative_error(torch.full((1, 8, 8), 2.0), torch.ones(2, 2))[0, 0, 0].item()
    least = min(np.linspace(1, 3, 401), key=error)
    assert depth == pytest.approx(least, rel=0.02)
    assert error(depth) < 0.98 * error(2.0)
    assert depth == pytest.approx(1.828, abs=1e-3)


def test_depth_that_was_measured_stays_as_it_is_and_the_change_is_smooth():
    depth = 1 + torch.rand(1, 16, 32)
    blind = torch.zeros(4, 8)
    blind[:, 4:] = 1
    factors = (least_relative_error(depth, blind) / depth)[0]
    torch.testing.assert_close(factors[:, :14], torch.ones(16, 14))
    torch.testing.assert_close(
        factors[:, 18:], torch.full((16, 14), np.exp(-(LOG_DEPTH_DEVIATION**2)), dtype=torch.float32)
    )
    assert (factors.diff(dim=1).abs() < 0.06).all(), "no edges where there are none"
