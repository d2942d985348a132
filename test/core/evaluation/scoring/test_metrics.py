# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Metrics of one depth map, by hand: errors, bins of errors, boundaries and depth steps, and its confidence."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvmvs_core.errors import DataError
from dvmvs_core.evaluation.scoring.boundaries import CONTOUR_RATIOS, DepthSteps, boundary_f1, compare_steps
from dvmvs_core.evaluation.scoring.calibration import fit_logistic
from dvmvs_core.evaluation.scoring.confidence_scores import LEFT_OUT, ConfidenceScorer, SureAndWrong, sure_and_wrong
from dvmvs_core.evaluation.scoring.metrics import NAMES, DepthMetrics, evaluate_depth, mean_metrics

PUBLISHED = NAMES[:8]


def published(metrics: DepthMetrics) -> np.ndarray:
    return np.array([getattr(metrics, name) for name in PUBLISHED])


@pytest.mark.parametrize(("golden", "max_depth_m"), (("er_out", np.inf), ("er_out_max2", 2.0)))
def test_the_eight_figures_are_the_published_ones_in_their_order(reference, golden, max_depth_m):
    units = np.load(reference / "goldens" / "units.npz")
    metrics = evaluate_depth(units["er_pred"], units["er_gt"], max_depth_m=max_depth_m)
    assert published(metrics) == pytest.approx(units[golden], rel=1e-6)


def test_figures_by_hand():
    truth = np.array(((1.0, 2.0, 4.0, 0.0),))
    prediction = np.array(((1.5, 2.0, 3.0, 9.0),))
    metrics = evaluate_depth(prediction, truth)
    assert metrics.abs_error == pytest.approx((0.5 + 0 + 1) / 3)
    assert metrics.abs_relative_error == pytest.approx((0.5 + 0 + 0.25) / 3)
    assert metrics.abs_inverse_error == pytest.approx((1 / 3 + 0 + 1 / 12) / 3)
    assert metrics.squared_relative_error == pytest.approx((0.25 + 0 + 0.25) / 3)
    assert metrics.rmse == pytest.approx(np.sqrt(1.25 / 3))
    assert (metrics.ratio_105, metrics.ratio_125) == (pytest.approx(1 / 3), pytest.approx(1 / 3))
    assert (metrics.ratio_125_2, metrics.ratio_125_3) == (1.0, 1.0)


def test_a_ratio_of_exactly_the_bound_does_not_count():
    metrics = evaluate_depth(np.array((1.25, 1.24)), np.array((1.0, 1.0)))
    assert metrics.ratio_125 == 0.5


def test_the_range_of_the_truth_includes_its_ends():
    truth = np.array((0.49, 0.5, 2.0, 2.01))
    assert evaluate_depth(truth + 1, truth, 0.5, 2.0).abs_error == pytest.approx(1.0)
    assert np.isnan(evaluate_depth(truth, truth, 0.6, 1.9).abs_error)


def test_without_a_valid_pixel_all_is_nan_and_json_gets_null():
    metrics = evaluate_depth(np.ones((2, 2)), np.zeros((2, 2)))
    assert np.isnan(dataclasses.astuple(metrics)).all()
    assert set(json.loads(json.dumps(metrics.to_dict(), allow_nan=False)).values()) == {None}


def test_nan_in_the_truth_is_no_valid_pixel():
    assert evaluate_depth(np.ones(2), np.array((np.nan, 2.0))).abs_error == 1.0


def test_the_mean_leaves_out_frames_without_valid_pixels():
    one, three = (evaluate_depth(np.array((1.0 + e,)), np.array((1.0,))) for e in (1.0, 3.0))
    nothing = evaluate_depth(np.ones(1), np.zeros(1))
    assert mean_metrics((one, nothing, three)).abs_error == pytest.approx(2.0)
    assert np.isnan(mean_metrics((nothing,)).rmse)
    assert np.isnan(mean_metrics(()).rmse)


@settings(deadline=None)  # a busy machine is no failure
@given(st.lists(st.tuples(st.floats(0.5, 20), st.floats(0.25, 20)), min_size=1, max_size=20))
def test_figures_are_consistent_with_each_other(pairs):
    truth, prediction = np.array(pairs).T
    m = evaluate_depth(prediction, truth)
    assert m.rmse >= m.abs_error - 1e-12
    assert m.ratio_105 <= m.ratio_125 <= m.ratio_125_2 <= m.ratio_125_3 <= 1.0
    perfect = evaluate_depth(truth, truth)
    assert (perfect.abs_error, perfect.rmse, perfect.ratio_105) == (0.0, 0.0, 1.0)


def halves(left: float, right: float, border: int = 10, size: tuple[int, int] = (20, 20)) -> np.ndarray:
    """Two surfaces side by side, the right one from column `border` on."""
    depth = np.full(size, left)
    depth[:, border:] = right
    return depth


def test_boundary_f1_of_the_truth_is_one_at_any_scale():
    truth = np.random.default_rng(0).uniform(1, 5, (12, 15))
    assert boundary_f1(truth, truth) == 1.0
    assert boundary_f1(3.7 * truth, truth) == pytest.approx(1.0)


def test_boundary_f1_by_hand():
    # Two true contours of 4 pixels, one of which the prediction has; it has another of 4 where there is none.
    truth, prediction = np.ones((4, 12)), np.ones((4, 12))
    truth[:, 3:] = 2.0
    truth[:, 6:] = 4.0
    prediction[:, 3:] = 2.0
    prediction[:, 9:] = 4.0
    assert boundary_f1(prediction, truth) == pytest.approx(0.5)  # precision and recall are 1/2
    prediction[:, 9:] = 2.0
    assert boundary_f1(prediction, truth) == pytest.approx(2 / 3)  # precision 1, recall 1/2
    assert boundary_f1(np.ones((4, 12)), truth) == 0.0


def test_high_thresholds_weigh_more():
    # The predicted step of 13 % is a contour for the first four of the ten thresholds.
    assert (CONTOUR_RATIOS < 1.13).tolist() == [True] * 4 + [False] * 6
    expected = CONTOUR_RATIOS[:4].sum() / CONTOUR_RATIOS.sum()
    assert boundary_f1(halves(1.0, 1.13), halves(1.0, 2.0)) == pytest.approx(expected)
    assert expected < 0.4


def test_a_threshold_without_a_true_contour_is_left_out():
    assert boundary_f1(halves(1.0, 1.13), halves(1.0, 1.13)) == 1.0
    assert np.isnan(boundary_f1(halves(1.0, 2.0), halves(1.0, 1.04)))


def test_a_contour_counts_in_its_own_direction_only():
    truth = halves(1.0, 2.0)
    assert boundary_f1(halves(2.0, 1.0), truth) == 0.0
    assert boundary_f1(halves(1.0, 2.0, border=11), truth) == 0.0
    assert boundary_f1(truth.T, truth.T) == 1.0
    assert boundary_f1(truth.T, truth) == 0.0


def test_blur_lowers_precision_and_recall():
    truth, blurred = halves(1.0, 2.0), halves(1.0, 2.0)
    blurred[:, 8:12] = (2**0.2, 2**0.4, 2**0.6, 2**0.8)  # five steps of 15 %, one of them at the true place
    # Precision 1/5 and recall 1 below 15 %, nothing above.
    there = CONTOUR_RATIOS < 2**0.2
    expected = CONTOUR_RATIOS[there].sum() / CONTOUR_RATIOS.sum() * 2 * 0.2 / 1.2
    assert boundary_f1(blurred, truth) == pytest.approx(expected)


def test_pixels_without_truth_take_part_in_no_pair():
    truth, prediction = halves(1.0, 2.0), halves(1.0, 2.0)
    truth[:, 4] = 0.0  # invalid: no contour to either side
    prediction[:, 4] = 9.0  # nor one of the prediction
    assert boundary_f1(prediction, truth) == 1.0
    truth[:, 9] = 0.0
    assert np.isnan(boundary_f1(prediction, truth))
    assert np.isnan(boundary_f1(prediction, np.zeros_like(truth)))


def test_steps_by_hand():
    truth, prediction = halves(1.0, np.e**0.5), halves(2.0, 2 * np.e**0.1)
    steps = compare_steps(prediction, truth)
    assert (steps.pairs, steps.true_sum, steps.predicted_sum) == (20, pytest.approx(10.0), pytest.approx(2.0))
    assert steps.size_ratio == pytest.approx(0.2)
    # Windows of 9 pixels whose centre is in columns 6 to 13 contain both sides; the step of 0.1 is too small to show.
    assert (steps.windows, steps.windows_shown) == (20 * 8, 0)
    assert compare_steps(truth, truth).shown == 1.0


def test_a_step_the_wrong_way_counts_negative():
    assert compare_steps(halves(2.0, 1.0), halves(1.0, 2.0)).size_ratio == pytest.approx(-1.0)


def test_a_slope_has_no_true_step():
    slope = np.exp(np.tile(np.arange(20) * 0.14, (20, 1)))
    steps = compare_steps(slope, slope)
    assert steps.pairs == 0 and np.isnan(steps.size_ratio)


@pytest.mark.parametrize("axis", (0, 1))
@pytest.mark.parametrize("place", range(5, 16))
def test_a_window_shows_a_step_only_between_two_of_its_own_pixels(axis, place):
    # The true step makes windows with centres 6 to 13 count; the prediction's, at `place`, is inside a window from
    # centre − 4 to centre + 4 if both of its pixels, place − 1 and place, are.
    truth, prediction = halves(1.0, 2.0), halves(1.0, 1.5, border=place)
    if axis == 0:
        truth, prediction = truth.T, prediction.T
    steps = compare_steps(prediction, truth)
    expected = sum(centre - 4 <= place - 1 and place <= centre + 4 for centre in range(6, 14))
    assert (steps.windows, steps.windows_shown) == (160, 20 * expected)


def test_a_window_holds_a_step_across_pixels_without_truth():
    truth = halves(1.0, 2.0)
    truth[:, 9:11] = 0.0
    steps = compare_steps(halves(1.0, 2.0), truth)
    assert steps.pairs == 0
    assert (steps.windows, steps.windows_shown) == (20 * 4, 20 * 4)  # centres 7, 8, 11 and 12 see both sides
    assert compare_steps(truth, np.zeros_like(truth)) == DepthSteps()


def test_unknown_prediction_shows_nothing():
    truth = halves(1.0, 2.0)
    truth[:, 9:11] = 0.0
    prediction = np.where(truth > 0, 1.5, 0.0)
    assert compare_steps(prediction, truth).windows_shown == 0


def test_steps_add_up_and_go_into_json():
    a, b = DepthSteps(2, 1.0, 0.5, 10, 4), DepthSteps(1, 0.5, 0.1, 5, 1)
    assert a + b == DepthSteps(3, 1.5, 0.6, 15, 5)
    assert (a + b).to_dict()["shown"] == pytest.approx(1 / 3)
    nothing = json.loads(json.dumps(DepthSteps().to_dict(), allow_nan=False))
    assert nothing["shown"] is None and nothing["size_ratio"] is None


TRUTH = np.full(100, 2.0)
PREDICTION = TRUTH * (1 + np.arange(100) / 100)  # relative errors 0, 0.01, … 0.99


def scored(confidence: np.ndarray):
    scorer = ConfidenceScorer()
    scorer.add(confidence, PREDICTION, TRUTH)
    return scorer.score()


def test_perfect_order_has_no_area_and_leaves_the_mean_of_the_smallest_errors():
    score = scored(1 - np.arange(100) / 100)
    assert score.ause == pytest.approx(0.0, abs=1e-12)
    assert score.error[0] == pytest.approx(0.495)
    assert score.error[10] == score.oracle[10] == pytest.approx(np.arange(50).mean() / 100)  # half is left out


def test_the_wrong_way_round_is_worse_than_none():
    random = scored(np.random.default_rng(0).uniform(size=100))
    reversed_order = scored(np.arange(100) / 100)
    assert 0 < random.ause < reversed_order.ause
    assert reversed_order.error[10] == pytest.approx(np.arange(50, 100).mean() / 100)


def test_the_area_by_hand():
    """Reversed order keeps the largest k of 100 errors, the oracle the smallest: they differ by (100 − k) / 100."""
    gap = LEFT_OUT
    expected = ((gap[1:] + gap[:-1]) / 2 * 0.05).sum()
    assert scored(np.arange(100) / 100).ause == pytest.approx(expected)


def test_keyframes_count_the_same_whatever_their_number_of_pixels():
    scorer, other = ConfidenceScorer(), ConfidenceScorer()
    scorer.add(np.ones(10), np.full(10, 1.5), np.ones(10))
    other.add(np.ones(1000), np.full(1000, 1.1), np.ones(1000))
    scorer.include(other)
    assert scorer.score().error[0] == pytest.approx(0.3)


def test_calibration_gathers_pixels_of_like_confidence():
    confidence = np.array((0.02, 0.08, 0.95, 1.0))
    scorer = ConfidenceScorer()
    scorer.add(confidence, np.array((3.0, 1.0, 1.0, 1.0)), np.ones(4))
    low, high = scorer.score().calibration
    assert (low.pixels, low.confidence, low.abs_relative_error, low.ratio_125) == (2, pytest.approx(0.05), 1.0, 0.5)
    assert (high.pixels, high.confidence, high.ratio_125) == (2, pytest.approx(0.975), 1.0)
    json.dumps(scorer.score().to_dict(), allow_nan=False)


def test_without_confidence_there_is_no_score():
    assert ConfidenceScorer().score() is None


def test_counts_by_hand():
    confidence = np.array((0.7, 0.9, 0.69, 1.0, 0.8))
    truth = np.array((2.0, 2.0, 2.0, 2.0, 2.0))
    prediction = np.array((2.21, 1.79, 9.0, 2.19, 1.81))
    counts = sure_and_wrong(confidence, prediction, truth)
    assert counts == SureAndWrong(pixels=5, sure=4, wrong=2)
    assert (counts.wrong_share, counts.coverage) == (0.5, 0.8)


def test_counts_add_up_pixel_by_pixel():
    total = SureAndWrong(100, 10, 10) + SureAndWrong(100, 90, 0)
    assert total.to_dict() == {"pixels": 200, "coverage": 0.5, "wrong": pytest.approx(0.1)}


def test_where_nothing_is_sure_there_is_no_share():
    counts = sure_and_wrong(np.array((0.1,)), np.array((1.0,)), np.array((1.0,)))
    assert counts.coverage == 0.0 and np.isnan(counts.wrong_share)
    assert counts.to_dict()["wrong"] is None
    assert SureAndWrong().to_dict() == {"pixels": 0, "coverage": None, "wrong": None}


def test_the_fit_finds_the_odds_that_data_were_drawn_with():
    generator = np.random.default_rng(0)
    cues = generator.normal((1.0, -2.0, 0.0), (1.0, 0.2, 3.0), (40_000, 3))
    weights, bias = np.array((1.5, -4.0, 0.0)), -8.0
    right = generator.random(len(cues)) < 1 / (1 + np.exp(-(cues @ weights + bias)))
    found_bias, found = fit_logistic(cues, right)
    assert found == pytest.approx(weights, abs=0.25)
    assert found_bias == pytest.approx(bias, abs=0.5)
    probability = 1 / (1 + np.exp(-(cues @ found + found_bias)))
    assert probability.mean() == pytest.approx(right.mean(), abs=1e-3)


def test_nothing_to_tell_apart_is_said():
    with pytest.raises(DataError, match="all right or all wrong"):
        fit_logistic(np.zeros((5, 2)), np.ones(5, dtype=bool))
