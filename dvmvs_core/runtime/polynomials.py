# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Convolution by way of polynomials: Toom and Cook's method, on which Winograd's convolution of tiles rests.

Pixels and weights of one line are the coefficients of polynomials. Their product is worked out at a few points, where
it is one multiplication each; the transposed method, used here, gives `step` outputs of a kernel of `size` weights
from `step + size - 1` inputs and as many multiplications, instead of `step · size`.

Points are 0, pairs ±p, and infinity. The two of a pair share half of the work: what is even in x is the same for
both, what is odd differs in sign. So each transform is two matrices, applied one after the other, with many zeros.

Source: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016; Barabasz et al., "Error
Analysis and Improving the Accuracy of Winograd Convolution for Deep Neural Networks", ACM TOMS 2020.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Tiling:
    """One way to convolve lines of pixels tile by tile.

    Attributes:
        size: weights of the kernel.
        step: outputs of a tile.
        pairs: the positive point of each pair ±p.
    """

    size: int
    step: int
    pairs: tuple[float, ...]

    @property
    def side(self) -> int:
        """Inputs of a tile, and points."""
        return self.size + self.step - 1

    def to_points(self) -> tuple[np.ndarray, np.ndarray]:
        """Two matrices (side, side) that take the pixels of a tile to the points."""
        even_odd, butterflies = np.zeros((self.side, self.side)), np.eye(self.side)
        _fill(even_odd[0], _vanishing(self.pairs))
        for i, p in enumerate(self.pairs):
            row = 1 + 2 * i
            others = np.polymul((1, 0), _vanishing(self.pairs[:i] + self.pairs[i + 1 :]))
            _fill(even_odd[row], np.polymul((1, 0), others))
            _fill(even_odd[row + 1], others)
            butterflies[row : row + 2, row : row + 2] = ((1, p), (1, -p))
        _fill(even_odd[-1], np.polymul((1, 0), _vanishing(self.pairs)))
        return even_odd, butterflies

    def from_points(self) -> tuple[np.ndarray, np.ndarray]:
        """Two matrices, (side, side) and (step, side), that take products at the points to the outputs of a tile."""
        butterflies, powers = np.eye(self.side), np.zeros((self.step, self.side))
        powers[0, 0] = powers[-1, -1] = 1
        for i, p in enumerate(self.pairs):
            row = 1 + 2 * i
            butterflies[row : row + 2, row : row + 2] = ((1, 1), (1, -1))
            for output in range(self.step):
                powers[output, row + output % 2] = p**output
        return butterflies, powers

    def of_weights(self) -> np.ndarray:
        """Matrix (side, size) that takes the weights of a line to the points."""
        finite = [0.0] + [point for p in self.pairs for point in (p, -p)]
        rows = [
            np.power(p, np.arange(self.size)) / np.prod([p - q for q in finite if q != p], initial=1.0) for p in finite
        ]
        return np.array([*rows, np.eye(self.size)[-1]])


def _vanishing(pairs: tuple[float, ...]) -> np.ndarray:
    """Coefficients, the highest first, of the polynomial that is 0 at each ±p."""
    polynomial = np.ones(1)
    for p in pairs:
        polynomial = np.polymul(polynomial, (1, 0, -p * p))
    return polynomial


def _fill(row: np.ndarray, polynomial: np.ndarray) -> None:
    row[: len(polynomial)] = polynomial[::-1]
