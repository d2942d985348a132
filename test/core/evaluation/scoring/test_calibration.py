# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

from __future__ import annotations

import numpy as np
import pytest

from dvmvs_core.errors import DataError
from dvmvs_core.evaluation.scoring.calibration import fit_logistic


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
