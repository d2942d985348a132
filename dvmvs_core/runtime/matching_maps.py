# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Matching maps as the plane sweep's kernel reads them: channels in whole registers, and a border."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

CHANNELS_MULTIPLE = 16
"""Floats of the widest registers; channels past the real ones are zeros."""

_LINE = 64
"""Bytes of a line of the cache."""


def plain_map(matching: Tensor) -> np.ndarray:
    """(1, C, h, w) -> (h, w, C'), C' the next multiple of `CHANNELS_MULTIPLE`."""
    _, channels, height, width = matching.shape
    channels_last = matching[0].permute(1, 2, 0)
    if channels == _whole(channels):
        return channels_last.contiguous().numpy()
    padded = aligned_zeros((height, width, _whole(channels)))
    padded[..., :channels] = channels_last.numpy()
    return padded


def bordered_maps(matching: Sequence[Tensor]) -> np.ndarray:
    """M maps (1, C, h, w) -> (M, h+2, w+2, C'), with a border of zeros."""
    _, channels, height, width = matching[0].shape
    padded = aligned_zeros((len(matching), height + 2, width + 2, _whole(channels)))
    for target, one in zip(padded, matching, strict=True):
        target[1:-1, 1:-1, :channels] = one[0].permute(1, 2, 0).numpy()
    return padded


def repeat_edges(maps: np.ndarray) -> None:
    """Set the border of maps (M, h+2, w+2, C) to the cells next to it."""
    maps[:, 0], maps[:, -1] = maps[:, 1], maps[:, -2]
    maps[:, :, 0], maps[:, :, -1] = maps[:, :, 1], maps[:, :, -2]


def aligned_zeros(shape: tuple[int, ...], dtype: type = np.float32) -> np.ndarray:
    """Zeros that begin at a line of the cache, so that no register is filled from two lines."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.zeros(size + _LINE, np.uint8)
    start = -memory.ctypes.data % _LINE
    return memory[start : start + size].view(dtype).reshape(shape)


def _whole(channels: int) -> int:
    return -(-channels // CHANNELS_MULTIPLE) * CHANNELS_MULTIPLE
