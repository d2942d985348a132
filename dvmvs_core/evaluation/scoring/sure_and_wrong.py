# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Sure and wrong: what a consumer of depth meets that keeps only the confident pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SURE = 0.7
"""Confidence from which on a pixel counts as sure."""

WRONG = 0.1
"""Relative error |prediction − truth| / truth above which it is wrong."""


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
