# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Errors gathered by something that varies from pixel to pixel: how far away it is, or how much parallax it has."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

DISTANCE_EDGES_M = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 7.0, 10.0, 20.0, np.inf)
"""Borders of the bins of sensor depth, metres."""

PARALLAX_EDGES_PX = (0.0, 1.0, 2.0, 4.0, 8.0, np.inf)
"""Borders of the bins of parallax, pixels at the network's resolution; see `parallax`."""


@dataclass(frozen=True)
class ErrorBin:
    """The errors of the pixels between two borders, every pixel of every keyframe counting the same.

    Attributes:
        low: lower border, included.
        high: upper border, not included.
        pixels: how many there are.
        share: their share of the pixels of all bins.
        abs_error: mean |truth − prediction|, metres.
        abs_relative_error: mean |truth − prediction| / truth.
        ratio_125: share of pixels where the larger depth is less than 1.25 times the smaller.
    """

    low: float
    high: float
    pixels: int
    share: float
    abs_error: float
    abs_relative_error: float
    ratio_125: float

    def to_dict(self) -> dict[str, float | int | None]:
        """Return the figures by name, with None for an open end, which JSON lacks."""
        return {**self.__dict__, "high": self.high if np.isfinite(self.high) else None}


class BinnedErrors:
    """Sums of errors between borders, to which depth map after depth map is added.

    Args:
        edges: borders of the bins, ascending.
    """

    def __init__(self, edges: tuple[float, ...]) -> None:
        self.edges = edges
        self._sums = np.zeros((4, len(edges) - 1))  # pixels, |difference|, relative, within 1.25

    def add(self, position: np.ndarray, prediction: np.ndarray, truth: np.ndarray) -> None:
        """Add pixels.

        Args:
            position: (N,) what decides on the bin of each pixel.
            prediction: (N,) metres.
            truth: (N,) metres, valid.
        """
        which = np.digitize(position, self.edges) - 1
        inside = (which >= 0) & (which < len(self.edges) - 1)
        p, t, which = prediction[inside].astype(np.float64), truth[inside].astype(np.float64), which[inside]
        difference = np.abs(t - p)
        values = (np.ones_like(t), difference, difference / t, (np.maximum(t / p, p / t) < 1.25).astype(np.float64))
        for sums, value in zip(self._sums, values, strict=True):
            sums += np.bincount(which, weights=value, minlength=len(sums))

    def include(self, other: BinnedErrors) -> None:
        """Add all that another with the same borders has gathered."""
        self._sums += other._sums

    def bins(self) -> list[ErrorBin]:
        """Return the bins that hold pixels."""
        total = self._sums[0].sum()
        return [
            ErrorBin(low, high, int(pixels), float(pixels / total), *(float(s / pixels) for s in sums))
            for low, high, pixels, *sums in zip(self.edges[:-1], self.edges[1:], *self._sums, strict=True)
            if pixels
        ]
