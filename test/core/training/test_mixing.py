# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Shares of a mix are exact at every moment, and every batch of a part is taken once, in order."""

from __future__ import annotations

from fractions import Fraction

import pytest

from dvmvs_core.training.mixing import mix


@pytest.mark.parametrize("weights", [(1,), (7, 3), (1, 1, 1), (5, 1, 4), ("0.7", "0.3")])
def test_parts_have_their_shares_and_their_own_numbers(weights) -> None:
    weights = [Fraction(weight) for weight in weights]
    seen: list[list[int]] = [[] for _ in weights]
    for index in range(1000):
        part, before = mix(index, weights)
        seen[part].append(before)
        for weight, own in zip(weights, seen, strict=True):
            assert abs(len(own) - (index + 1) * weight / sum(weights)) < 2
    assert all(own == list(range(len(own))) for own in seen)
