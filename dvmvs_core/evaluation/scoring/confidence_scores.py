# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Whether confidence knows where depth is wrong: sparsification, calibration, and confident pixels that are wrong.

Sparsification leaves out the least confident pixels, a twentieth more at each step, and asks for the mean relative
error of the rest. If confidence is any good the error falls; the oracle, which leaves out the largest errors, shows
how far it could. The area between the two curves (AUSE, area under the sparsification error) is 0 for perfect order.

Sure and wrong: what a consumer of depth meets that keeps only the confident pixels.

Source: Ilg et al., "Uncertainty Estimates and Multi-Hypotheses Networks for Optical Flow", ECCV 2018, section 5; here
the error is the relative one, curves are means over keyframes, and they are not normalised by their first value.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LEFT_OUT = np.arange(20) / 20
"""Shares of pixels left out, 0 to 0.95."""

CONFIDENCE_BINS = 10

SURE = 0.7
"""Confidence from which on a pixel counts as sure."""

WRONG = 0.1
"""Relative error |prediction − truth| / truth above which it is wrong."""


@dataclass(frozen=True)
class CalibrationBin:
    """Pixels of similar confidence.

    Attributes:
        confidence: their mean confidence.
        pixels: how many there are.
        abs_relative_error: their mean relative error.
        ratio_125: share of them where the larger depth is less than 1.25 times the smaller.
        ratio_110: the same for 1.1, which is what confidence is the probability of.
    """

    confidence: float
    pixels: int
    abs_relative_error: float
    ratio_125: float
    ratio_110: float


@dataclass(frozen=True)
class ConfidenceScore:
    """How well confidence ranks errors.

    Attributes:
        left_out: shares of pixels left out.
        error: mean relative error of the rest, the least confident pixels left out first.
        oracle: the same with the largest errors left out first.
        ause: area between the two curves, in relative error.
        calibration: errors by confidence.
    """

    left_out: tuple[float, ...]
    error: tuple[float, ...]
    oracle: tuple[float, ...]
    ause: float
    calibration: tuple[CalibrationBin, ...]

    def to_dict(self) -> dict:
        """Return the figures as JSON holds them."""
        return {**self.__dict__, "calibration": [dict(part.__dict__) for part in self.calibration]}


class ConfidenceScorer:
    """Gathers keyframe after keyframe."""

    def __init__(self) -> None:
        self._error = np.zeros(len(LEFT_OUT))
        self._oracle = np.zeros(len(LEFT_OUT))
        self._keyframes = 0
        # Pixels, confidence, relative error, within 1.25, within 1.1.
        self._calibration = np.zeros((5, CONFIDENCE_BINS))

    def add(self, confidence: np.ndarray, prediction: np.ndarray, truth: np.ndarray) -> None:
        """Add the pixels of one keyframe.

        Args:
            confidence: (N,) in 0…1.
            prediction: (N,) metres.
            truth: (N,) metres, valid; at least one.
        """
        p, t = prediction.astype(np.float64), truth.astype(np.float64)
        error = np.abs(p - t) / t
        self._error += _means_of_rest(error[np.argsort(-confidence, kind="stable")])
        self._oracle += _means_of_rest(np.sort(error))
        self._keyframes += 1
        which = np.clip((confidence * CONFIDENCE_BINS).astype(int), 0, CONFIDENCE_BINS - 1)
        ratio = np.maximum(t / p, p / t)
        values = (np.ones_like(t), confidence, error, (ratio < 1.25).astype(float), (ratio < 1.1).astype(float))
        for sums, value in zip(self._calibration, values, strict=True):
            sums += np.bincount(which, weights=value, minlength=CONFIDENCE_BINS)

    def include(self, other: ConfidenceScorer) -> None:
        """Add all that another has gathered."""
        self._error += other._error
        self._oracle += other._oracle
        self._keyframes += other._keyframes
        self._calibration += other._calibration

    def score(self) -> ConfidenceScore | None:
        """Return the figures; None if nothing was added."""
        if not self._keyframes:
            return None
        error, oracle = self._error / self._keyframes, self._oracle / self._keyframes
        gap = error - oracle
        return ConfidenceScore(
            left_out=tuple(LEFT_OUT.tolist()),
            error=tuple(error.tolist()),
            oracle=tuple(oracle.tolist()),
            ause=float(((gap[1:] + gap[:-1]) / 2 * np.diff(LEFT_OUT)).sum()),
            calibration=tuple(
                CalibrationBin(float(sums[0] / n), int(n), *(float(part / n) for part in sums[1:]))
                for n, *sums in self._calibration.T
                if n
            ),
        )


def _means_of_rest(ordered: np.ndarray) -> np.ndarray:
    """The mean of the first values, without the shares `LEFT_OUT` at the end; at least one value is kept."""
    kept = np.maximum(1, len(ordered) - len(ordered) * np.arange(len(LEFT_OUT)) // len(LEFT_OUT))
    return np.cumsum(ordered)[kept - 1] / kept


@dataclass(frozen=True)
class SureAndWrong:
    """Counts of pixels, so that those of several keyframes can be added.

    Attributes:
        pixels: pixels with a valid truth.
        sure: those with a confidence of 0.7 or more.
        wrong: those of the sure ones that are off by more than 10 %.
    """

    pixels: int = 0
    sure: int = 0
    wrong: int = 0

    def __add__(self, other: SureAndWrong) -> SureAndWrong:
        """Return the counts of both."""
        return SureAndWrong(self.pixels + other.pixels, self.sure + other.sure, self.wrong + other.wrong)

    @property
    def wrong_share(self) -> float:
        """Share of the sure pixels that are wrong; NaN if none is sure."""
        return self.wrong / self.sure if self.sure else float("nan")

    @property
    def coverage(self) -> float:
        """Share of the pixels that are sure; NaN if there is no pixel."""
        return self.sure / self.pixels if self.pixels else float("nan")

    def to_dict(self) -> dict[str, float | int | None]:
        """Return the figures as JSON holds them."""
        return {
            "pixels": self.pixels,
            "coverage": self.coverage if self.pixels else None,
            "wrong": self.wrong_share if self.sure else None,
        }


def sure_and_wrong(confidence: np.ndarray, prediction: np.ndarray, truth: np.ndarray) -> SureAndWrong:
    """Count the pixels of one keyframe.

    Args:
        confidence: (N,) in 0…1.
        prediction: (N,) metres.
        truth: (N,) metres, valid.
    """
    sure = confidence >= SURE
    wrong = np.abs(prediction[sure] - truth[sure]) > WRONG * truth[sure]
    return SureAndWrong(truth.size, int(np.count_nonzero(sure)), int(np.count_nonzero(wrong)))
