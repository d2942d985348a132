# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Figures of depth images one by one: their mean so far, and how they are told in messages."""

from __future__ import annotations

import dataclasses

import numpy as np

from dvmvs_core.evaluation.scoring.metrics import NAMES, DepthMetrics


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
