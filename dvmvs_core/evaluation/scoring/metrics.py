# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""How far predicted depth is from measured depth: the published eight figures, and the share within 5 %."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class DepthMetrics:
    """Errors of one depth map, or their mean over several. All are NaN where no pixel could be compared.

    Attributes:
        abs_error: mean |truth − prediction|, metres.
        abs_relative_error: mean |truth − prediction| / truth.
        abs_inverse_error: mean |1 / truth − 1 / prediction|, 1 / metres.
        squared_relative_error: mean (truth − prediction)² / truth, metres.
        rmse: square root of the mean (truth − prediction)², metres.
        ratio_125: share of pixels where the larger depth is less than 1.25 times the smaller.
        ratio_125_2: the same for 1.25².
        ratio_125_3: the same for 1.25³.
        ratio_105: the same for 1.05.
    """

    abs_error: float
    abs_relative_error: float
    abs_inverse_error: float
    squared_relative_error: float
    rmse: float
    ratio_125: float
    ratio_125_2: float
    ratio_125_3: float
    ratio_105: float

    def to_dict(self) -> dict[str, float | None]:
        """Return the figures by name, with None for NaN, which JSON lacks."""
        return {name: None if np.isnan(value) else value for name, value in dataclasses.asdict(self).items()}


NAMES = tuple(field.name for field in dataclasses.fields(DepthMetrics))


def valid_truth(truth: np.ndarray, min_depth_m: float = 0.5, max_depth_m: float = np.inf) -> np.ndarray:
    """Return which pixels of the truth count: those between the two depths, both included; 0 is invalid."""
    return (truth > 0) & (truth >= min_depth_m) & (truth <= max_depth_m)


def evaluate_depth(
    prediction: np.ndarray, truth: np.ndarray, min_depth_m: float = 0.5, max_depth_m: float = np.inf
) -> DepthMetrics:
    """Compare one depth map with the truth. The prediction is neither clipped nor scaled.

    Args:
        prediction: (h, w) metres, positive.
        truth: (h, w) metres.
        min_depth_m: pixels whose truth is nearer are left out.
        max_depth_m: pixels whose truth is farther are left out.

    Source: Düzçeker et al. 2021, section 4.1, and the public implementation for range and order.
    """
    valid = valid_truth(truth, min_depth_m, max_depth_m)
    if not valid.any():
        return DepthMetrics(*[float("nan")] * len(NAMES))
    g = truth[valid].astype(np.float64)
    p = prediction[valid].astype(np.float64)
    difference = np.abs(g - p)
    ratio = np.maximum(g / p, p / g)
    return DepthMetrics(
        abs_error=float(difference.mean()),
        abs_relative_error=float((difference / g).mean()),
        abs_inverse_error=float(np.abs(1 / g - 1 / p).mean()),
        squared_relative_error=float((difference**2 / g).mean()),
        rmse=float(np.sqrt((difference**2).mean())),
        ratio_125=float((ratio < 1.25).mean()),
        ratio_125_2=float((ratio < 1.25**2).mean()),
        ratio_125_3=float((ratio < 1.25**3).mean()),
        ratio_105=float((ratio < 1.05).mean()),
    )


def mean_metrics(metrics: Iterable[DepthMetrics]) -> DepthMetrics:
    """Return the mean of each figure over depth maps, leaving out those where it is NaN; NaN if none is left."""
    mean = RunningMean()
    for one in metrics:
        mean.add(one)
    return mean.mean


class RunningMean:
    """The mean of each figure over depth maps, leaving out those where it is NaN, as `mean_metrics` has it.

    Attributes:
        count: how many depth maps were added.
    """

    def __init__(self) -> None:
        self.count = 0
        self._sums = np.zeros(len(NAMES))
        self._counts = np.zeros(len(NAMES), np.int64)

    def add(self, metrics: DepthMetrics) -> None:
        """Add the figures of one depth map."""
        figures = np.array(dataclasses.astuple(metrics))
        known = np.isfinite(figures)
        self._sums += np.where(known, figures, 0.0)
        self._counts += known
        self.count += 1

    @property
    def mean(self) -> DepthMetrics:
        """The mean; NaN where nothing is known."""
        with np.errstate(invalid="ignore"):
            return DepthMetrics(*(self._sums / self._counts).tolist())

    def statuses(self, newest: DepthMetrics) -> dict[str, tuple[str, dict[str, str]]]:
        """Return what a DiagnosticArray says: name of a status → words and values, for plots."""
        values = {**_values(self.mean), "images": str(self.count)}
        return {"depth: this image": (words(newest), _values(newest)), "depth: mean": (words(self.mean), values)}


def words(metrics: DepthMetrics) -> str:
    """Return figures as half a sentence."""
    if np.isnan(metrics.abs_error):
        return "no truth in range"
    return f"{metrics.abs_relative_error:.1%} off, {metrics.ratio_125:.0%} within a factor of 1.25"


def _values(metrics: DepthMetrics) -> dict[str, str]:
    return {name: f"{value:.6g}" for name, value in dataclasses.asdict(metrics).items()}
