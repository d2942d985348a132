# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Matching maps as the kernels read them: channels in whole registers, and a border of zeros."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dvmvs_core.runtime.aligned import aligned_zeros
from dvmvs_core.runtime.vectors import LANES


class Views(NamedTuple):
    """What the kernels compare in one step. C' is the next multiple of LANES; channels past the real ones are 0.

    Attributes:
        reference: (B, h, w, C') matching map of the reference frame, divided by its number of channels.
        measurements: (B, M, h+2, w+2, C') those of the measurement frames, with a border of zeros.
        homographies: (B, M, 3, 3) K R K⁻¹ to each measurement frame.
        translations: (B, M, 3) K t.
        channels: C.
    """

    reference: np.ndarray
    measurements: np.ndarray
    homographies: np.ndarray
    translations: np.ndarray
    channels: int


class MatchingMaps:
    """Buffers for the maps of one step, kept from call to call."""

    def __init__(self) -> None:
        self._reference = np.zeros((0, 0, 0, 0), np.float32)
        self._measurements = np.zeros((0, 0, 0, 0, 0), np.float32)

    def filled(self, reference: Tensor, measurements: Sequence[Tensor]) -> tuple[np.ndarray, np.ndarray]:
        """Copies the maps of a step.

        Args:
            reference: (B, C, h, w) of the reference frame.
            measurements: (B, C, h, w) of each of M measurement frames.

        Returns:
            `reference` and `measurements` of `Views`; the next call overwrites them.
        """
        batch, channels, height, width = reference.shape
        self._fit(batch, len(measurements), height, width, -(-channels // LANES) * LANES)
        target = torch.from_numpy(self._reference)[..., :channels]
        torch.mul(reference.permute(0, 2, 3, 1), 1 / channels, out=target)
        inside = torch.from_numpy(self._measurements)[:, :, 1:-1, 1:-1, :channels]
        for m, measurement in enumerate(measurements):
            inside[:, m].copy_(measurement.permute(0, 2, 3, 1))
        return self._reference, self._measurements[:, : len(measurements)]

    def _fit(self, batch: int, frames: int, height: int, width: int, channels: int) -> None:
        """Makes the buffers large enough; channels past the real ones and borders stay 0."""
        if self._reference.shape != (batch, height, width, channels):
            self._reference = aligned_zeros(batch, height, width, channels)
            self._measurements = np.zeros((batch, 0, 0, 0, 0), np.float32)
        if self._measurements.shape[1] < frames:
            self._measurements = aligned_zeros(batch, frames, height + 2, width + 2, channels)
