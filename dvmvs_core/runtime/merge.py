# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Concatenation along the channels, written straight into one channels-last buffer that is kept from call to call."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dvmvs_core.runtime.aligned import aligned_zeros
from dvmvs_core.runtime.bands import in_bands
from dvmvs_core.runtime.kernels import copy_rows, upsample_rows
from dvmvs_core.runtime.vectors import LANES


class Merge:
    """A buffer (B, h, w, C) that maps are put into side by side.

    Its channels are a multiple of LANES, so that a convolution reads whole registers; those that nothing is put into
    stay 0.

    Attributes:
        buffer: the buffer as numpy sees it.
        tensor: the same memory as (B, C, h, w), channels-last.
    """

    def __init__(self, batch: int, height: int, width: int, channels: int) -> None:
        self.buffer = aligned_zeros(batch, height, width, -(-channels // LANES) * LANES)
        self.tensor = torch.from_numpy(self.buffer).permute(0, 3, 1, 2)

    def put(self, x: Tensor, offset: int) -> None:
        """Puts a map (B, c, h, w) at channels offset…."""
        for source, target in zip(_rows(x), self.buffer, strict=True):
            in_bands(copy_rows, len(source), source, target, offset)

    def put_upsampled(self, x: Tensor, offset: int) -> None:
        """Puts a map (B, c, h/2, w/2) at channels offset…, upsampled ×2 with aligned corners."""
        for source, target in zip(_rows(x), self.buffer, strict=True):
            in_bands(upsample_rows, len(target), source, target, offset)


def _rows(x: Tensor) -> np.ndarray:
    """(B, C, h, w) -> (B, h, w, C), contiguous; no copy where the map is channels-last already."""
    return np.ascontiguousarray(x.permute(0, 2, 3, 1).numpy())
