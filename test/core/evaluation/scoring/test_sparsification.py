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

from dvmvs_core.evaluation.scoring.sparsification import LEFT_OUT, ConfidenceScorer

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
