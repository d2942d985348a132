# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
