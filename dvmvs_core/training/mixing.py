# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Which part of a mix each batch comes from: shares that are exact at every moment, and nothing random.

With two parts of share w and 1 − w, batch i is the first part's where ⌊(i + 1) w⌋ > ⌊i w⌋, and ⌊i w⌋ batches of it came
before. More parts divide what is left over in the same way. So a run can go on at any batch without a record of those
before it, and processes that share a run agree without a word.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import floor


def mix(index: int, weights: Sequence[Fraction]) -> tuple[int, int]:
    """Return the part that batch `index` comes from, and how many batches of that part came before it.

    Args:
        index: number of the batch in the whole mix.
        weights: positive weight of each part.
    """
    left = sum(weights)
    for part, weight in enumerate(weights[:-1]):
        share = weight / left
        before = floor(index * share)
        if floor((index + 1) * share) > before:
            return part, before
        index -= before
        left -= weight
    return len(weights) - 1, index
