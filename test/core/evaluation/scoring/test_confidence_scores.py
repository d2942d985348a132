# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.


from __future__ import annotations

import json

import numpy as np
import pytest

from dvmvs_core.errors import DataError
from dvmvs_core.evaluation.scoring.calibration import fit_logistic
from dvmvs_core.evaluation.scoring.sparsification import LEFT_OUT, ConfidenceScorer
from dvmvs_core.evaluation.scoring.sure_and_wrong import SureAndWrong, sure_and_wrong

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
