# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.


"""Bootstrap over the stretches of a recording: pairs of images of one stretch share their errors."""

from __future__ import annotations

import numpy as np

RESAMPLINGS = 200


def resampled(stretch: np.ndarray) -> np.ndarray:
    """Return how often each pair counts in random choices, with replacement, of as many stretches as there are.

    Args:
        stretch: (P,) which stretch each pair is from.

    Returns:
        (B, P) whole numbers; the same at every call.
    """
    names, group = np.unique(stretch, return_inverse=True)
    chosen = np.random.default_rng(0).integers(0, len(names), (RESAMPLINGS, len(names)))
    return np.array([np.bincount(row, minlength=len(names)) for row in chosen])[:, group]


def refined_minimum(values: np.ndarray, costs: np.ndarray) -> float:
    """Return where the parabola through the least of evenly spaced costs (N,) and those beside it is lowest."""
    at = int(np.argmin(costs))
    if not 0 < at < len(values) - 1:
        return float(values[at])
    before, here, after = costs[at - 1 : at + 2]
    bend = before - 2 * here + after
    return float(values[at] + (0.5 * (before - after) / bend if bend > 0 else 0.0) * (values[at + 1] - values[at]))
