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

from dvmvs_core.evaluation.scoring.bins import BinnedErrors


def test_errors_by_hand_fall_into_their_bins():
    errors = BinnedErrors((0.0, 1.0, 2.0, np.inf))
    truth = np.array((0.5, 1.0, 1.5, 9.0))
    errors.add(truth, np.array((1.0, 1.0, 3.0, 9.9)), truth)
    near, middle, far = errors.bins()
    assert (near.pixels, near.abs_error, near.abs_relative_error, near.ratio_125) == (1, 0.5, 1.0, 0.0)
    assert (middle.pixels, middle.abs_error, middle.abs_relative_error, middle.ratio_125) == (2, 0.75, 0.5, 0.5)
    assert (far.low, far.high, far.ratio_125) == (2.0, np.inf, 1.0)
    assert (near.share, middle.share, far.share) == (0.25, 0.5, 0.25)
    assert far.abs_relative_error == pytest.approx(0.1)
    assert json.loads(json.dumps(far.to_dict(), allow_nan=False))["high"] is None


def test_bins_without_pixels_and_pixels_without_a_bin_are_left_out():
    errors = BinnedErrors((1.0, 2.0, 3.0))
    errors.add(np.array((0.5, 2.5, 3.0)), np.ones(3), np.ones(3))
    (only,) = errors.bins()
    assert (only.low, only.pixels) == (2.0, 1)


def test_adding_in_parts_is_adding_at_once():
    generator = np.random.default_rng(0)
    truth, prediction = generator.uniform(0.5, 5, (2, 200))
    whole, left, right = (BinnedErrors((0.0, 1.0, 3.0, 6.0)) for _ in range(3))
    whole.add(truth, prediction, truth)
    left.add(truth[:50], prediction[:50], truth[:50])
    right.add(truth[50:], prediction[50:], truth[50:])
    left.include(right)
    for a, b in zip(left.bins(), whole.bins(), strict=True):
        assert list(a.__dict__.values()) == pytest.approx(list(b.__dict__.values()))
