"""Confidence of a wall two metres away, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from dvmvs_core.confidence import AGREEMENT_SCALE, AGREEMENT_SHARE, estimate_confidence

HEIGHT, WIDTH = 32, 48
K = torch.tensor([[[40.0, 0, 24], [0, 40.0, 16], [0, 0, 1]]])
WALL = torch.full((1, HEIGHT, WIDTH), 2.0)
FLAT = torch.ones(1, 3, HEIGHT // 2, WIDTH // 2)
"""A matching map that looks alike everywhere."""


def pose_at(x: float) -> torch.Tensor:
    pose = torch.eye(4)[None]
    pose[0, 0, 3] = x
    return pose


def confidence(measurements, predictions, depth=WALL, matching=FLAT):
    return estimate_confidence(depth, K, pose_at(0.0), matching, measurements, predictions)[0]


def test_a_wall_that_everything_confirms_is_certain():
    result = confidence([(FLAT, pose_at(0.1))], [(WALL[:, None], pose_at(0.1))])
    assert result.shape == (HEIGHT, WIDTH)
    torch.testing.assert_close(result[4:-4, 8:-8], torch.ones(HEIGHT - 8, WIDTH - 16))


def test_a_contradiction_of_one_scale_takes_agreement_to_1_over_e():
    farther = WALL[:, None] * (1 + AGREEMENT_SCALE)
    result = confidence([(FLAT, pose_at(0.0))], [(farther, pose_at(0.0))])
    expected = (1 - AGREEMENT_SHARE) + AGREEMENT_SHARE / math.e
    torch.testing.assert_close(result, torch.full_like(result, expected), atol=1e-4, rtol=0)


def test_views_are_averaged():
    wrong = WALL[:, None] * 10
    both = confidence([(FLAT, pose_at(0.0))], [(wrong, pose_at(0.0)), (WALL[:, None], pose_at(0.0))])
    expected = (1 - AGREEMENT_SHARE) + AGREEMENT_SHARE / 2
    torch.testing.assert_close(both, torch.full_like(both, expected), atol=1e-4, rtol=0)


def test_without_earlier_predictions_only_matching_counts():
    result = confidence([(FLAT, pose_at(0.0))], [])
    torch.testing.assert_close(result, torch.full_like(result, 1 - AGREEMENT_SHARE))


def test_opposite_looks_do_not_match():
    assert confidence([(-FLAT, pose_at(0.0))], []).max() == 0.0


@pytest.mark.parametrize("far_away", [100.0, -100.0])
def test_what_nobody_sees_has_no_confidence(far_away):
    result = confidence([(FLAT, pose_at(far_away))], [(WALL[:, None], pose_at(far_away))])
    assert result.max() == 0.0


def test_points_behind_a_camera_are_not_in_its_view():
    ahead = pose_at(0.0)
    ahead[0, 2, 3] = 5.0
    assert confidence([(FLAT, ahead)], [(WALL[:, None], ahead)]).max() == 0.0


def test_a_shift_moves_the_border_of_the_view():
    """A camera 1 m to the right sees the wall from pixel 20 on (40 px / m · 1 m / 2 m)."""
    result = confidence([(FLAT, pose_at(1.0))], [(WALL[:, None], pose_at(1.0))])
    assert result[:, :17].max() == 0.0
    assert result[:, 23:].min() > 0.99
