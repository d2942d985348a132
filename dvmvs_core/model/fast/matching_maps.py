# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Matching maps as the kernels read them: channels in whole registers, and a border of zeros."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dvmvs_core.model.fast.aligned import aligned_zeros
from dvmvs_core.model.fast.vectors import LANES


class MatchingMaps:
    """Buffers for the maps of one step, kept from call to call."""

    def __init__(self) -> None:
        self._reference = np.zeros((0, 0, 0), np.float32)
        self._measurements = np.zeros((0, 0, 0, 0), np.float32)

    def filled(
        self, reference: Tensor, measurements: Sequence[Tensor], scale: float = 1.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Copies the maps of a step.

        Args:
            reference: (C, h, w) of the reference frame.
            measurements: (C, h, w) of each of M measurement frames.
            scale: the map of the reference frame is multiplied by it.

        Returns:
            (h, w, C') of the reference frame and (M, h+2, w+2, C') of the others, C' the next multiple of LANES;
            the next call overwrites them.
        """
        channels, height, width = reference.shape
        self._fit(len(measurements), height, width, -(-channels // LANES) * LANES)
        torch.mul(reference.permute(1, 2, 0), scale, out=torch.from_numpy(self._reference)[..., :channels])
        inside = torch.from_numpy(self._measurements)[:, 1:-1, 1:-1, :channels]
        for target, measurement in zip(inside, measurements, strict=False):
            target.copy_(measurement.permute(1, 2, 0))
        return self._reference, self._measurements[: len(measurements)]

    def _fit(self, frames: int, height: int, width: int, channels: int) -> None:
        """Makes the buffers large enough; channels past the real ones and borders stay 0."""
        if self._reference.shape != (height, width, channels):
            self._reference = aligned_zeros(height, width, channels)
            self._measurements = np.zeros((0, 0, 0, 0), np.float32)
        if len(self._measurements) < frames:
            self._measurements = aligned_zeros(frames, height + 2, width + 2, channels)
