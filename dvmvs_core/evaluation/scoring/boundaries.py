# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Whether depth steps where the truth does: boundary F1, the size of the steps, and the windows that show one.

Mean errors hardly notice blurred edges, since few pixels are at edges. These measures look at nothing else, and none
of them depends on the scale of the depth. Pixels without a valid truth take part in no pair of neighbours.

Boundary F1 (Bochkovskii et al., "Depth Pro: Sharp Monocular Metric Depth in Less Than a Second", arXiv:2410.02073,
2024, section 3.2): an occluding contour is between a pixel i and its neighbour j (left, right, above, below) where

    d(j) / d(i) > 1 + t

A predicted contour is right if the truth has one between the same two pixels in the same direction. F1 is the harmonic
mean of precision and recall over all pairs, averaged over ten thresholds t from 5 to 25 % with weights 1 + t, as in the
authors' published code. As there, the comparison with a depth map has no non-maximum suppression: the paper needs it
where only the recall of an object mask can be had; here blur lowers the precision. Two cases are left open by both:
contours are counted over the four directions together (equation 3 of the paper; the code averages the directions), and
a threshold at which the truth has no contour is left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

CONTOUR_RATIOS = np.linspace(1.05, 1.25, 10)
"""Depth ratios 1 + t of neighbours from which on there is an occluding contour between them."""

MIN_STEP = 0.15
"""Difference of log depth between neighbours from which on the one is a step from the other."""

WINDOW_PX = 9

MIN_WINDOW_RANGE = 0.2
"""Range of the true log depth in a window from which on the window holds a true step. A range and not a step between
neighbours: sensors often see nothing for a few pixels next to an edge."""


def boundary_f1(prediction: np.ndarray, truth: np.ndarray) -> float:
    """Return the boundary F1, 0 to 1; NaN where the truth has no contour at all.

    Args:
        prediction: (h, w) metres, positive wherever the truth is valid.
        truth: (h, w) metres, 0 = invalid.
    """
    true, predicted = neighbour_steps(truth, truth > 0), neighbour_steps(prediction, truth > 0)
    contours = _counts(np.abs(true))
    found = _counts(np.where(true * predicted > 0, np.minimum(np.abs(true), np.abs(predicted)), 0.0))
    # F1 = 2 P R / (P + R) with P = found / predicted contours and R = found / true contours.
    f1 = 2 * found / np.maximum(contours + _counts(np.abs(predicted)), 1)
    there = contours > 0
    return float(np.average(f1[there], weights=CONTOUR_RATIOS[there])) if there.any() else float("nan")


@dataclass(frozen=True)
class DepthSteps:
    """How large the true steps are in the prediction. Sums, so that those of several keyframes can be added.

    Attributes:
        pairs: pairs of neighbours with a true step, |Δ log depth| > 0.15.
        true_sum: sum of |Δ log depth| of the truth over them.
        predicted_sum: the same of the prediction; a step in the other direction counts negative.
        windows: 9×9 windows in which the true log depth has a range of more than 0.2, round pixels with a valid truth.
        windows_shown: those of them in which the prediction has a step of 0.15 or more between two neighbours.
    """

    pairs: int = 0
    true_sum: float = 0.0
    predicted_sum: float = 0.0
    windows: int = 0
    windows_shown: int = 0

    def __add__(self, other: DepthSteps) -> DepthSteps:
        """Return the steps of both."""
        return DepthSteps(*(a + b for a, b in zip(self.__dict__.values(), other.__dict__.values(), strict=True)))

    @property
    def size_ratio(self) -> float:
        """Mean predicted step over mean true step, at the pixels of the true steps; NaN if there are none."""
        return self.predicted_sum / self.true_sum if self.pairs else float("nan")

    @property
    def shown(self) -> float:
        """Share of the windows with a true step in which the prediction has one; NaN if there are none."""
        return self.windows_shown / self.windows if self.windows else float("nan")

    def to_dict(self) -> dict[str, float | int | None]:
        """Return the figures as JSON holds them."""
        return {
            "pairs": self.pairs,
            "true_step": self.true_sum / self.pairs if self.pairs else None,
            "predicted_step": self.predicted_sum / self.pairs if self.pairs else None,
            "size_ratio": self.size_ratio if self.pairs else None,
            "windows": self.windows,
            "shown": self.shown if self.windows else None,
        }


def compare_steps(prediction: np.ndarray, truth: np.ndarray) -> DepthSteps:
    """Compare the steps of a prediction with those of the truth.

    Args:
        prediction: (h, w) metres; 0 = unknown, only where the truth is invalid.
        truth: (h, w) metres, 0 = invalid.
    """
    valid = truth > 0
    true, predicted = neighbour_steps(truth, valid), neighbour_steps(prediction, valid)
    stepping = np.abs(true) > MIN_STEP
    holds_step = (_window_range(truth) > MIN_WINDOW_RANGE) & valid
    return DepthSteps(
        pairs=int(np.count_nonzero(stepping)),
        true_sum=float(np.abs(true[stepping]).sum()),
        predicted_sum=float((predicted[stepping] * np.sign(true[stepping])).sum()),
        windows=int(np.count_nonzero(holds_step)),
        windows_shown=int(np.count_nonzero(holds_step & _windows_with_step(prediction))),
    )


def neighbour_steps(depth: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Return the log-depth steps (N,) to the right and downwards between all neighbours that are both valid.

    Args:
        depth: (h, w) metres, positive where valid.
        valid: (h, w) bool.
    """
    log_depth = np.log(np.where(valid, depth, 1.0), dtype=np.float64)
    right = np.diff(log_depth, axis=1)[valid[:, 1:] & valid[:, :-1]]
    down = np.diff(log_depth, axis=0)[valid[1:] & valid[:-1]]
    return np.concatenate((right, down))


def _counts(sizes: np.ndarray) -> np.ndarray:
    """How many steps (N,) are larger than each of the contour ratios."""
    borders = np.log(CONTOUR_RATIOS)
    large = np.sort(sizes[sizes > borders[0]])
    return len(large) - np.searchsorted(large, borders, side="right")


def _window_range(depth: np.ndarray) -> np.ndarray:
    """The range (h, w) of log depth in the window round each pixel; negative in windows without a valid pixel."""
    window = np.ones((WINDOW_PX, WINDOW_PX), np.uint8)
    log_depth = np.log(np.where(depth > 0, depth, 1.0)).astype(np.float32)
    beyond = np.float32(100.0)
    highest = cv2.dilate(np.where(depth > 0, log_depth, -beyond), window)
    lowest = cv2.erode(np.where(depth > 0, log_depth, beyond), window)
    return highest - lowest


def _windows_with_step(depth: np.ndarray) -> np.ndarray:
    """Whether two neighbours in the window round each pixel (h, w) differ by a step; unknown pixels step nowhere."""
    known = depth > 0
    log_depth = np.log(np.where(known, depth, 1.0))
    found = np.zeros(depth.shape, np.uint8)
    for axis in (0, 1):
        here, before = (slice(1, None), slice(None, -1)) if axis == 0 else (np.s_[:, 1:], np.s_[:, :-1])
        step = np.zeros(depth.shape, np.uint8)
        step[here] = (np.abs(np.diff(log_depth, axis=axis)) >= MIN_STEP) & known[here] & known[before]
        # A step stands at the second of its two pixels, so the first one in the window cannot have it.
        window = np.ones((WINDOW_PX - (axis == 0), WINDOW_PX - (axis == 1)), np.uint8)
        half = WINDOW_PX // 2
        found |= cv2.dilate(step, window, anchor=(half - (axis == 1), half - (axis == 0)))
    return found > 0
