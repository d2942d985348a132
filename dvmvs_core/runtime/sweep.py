# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Plane sweeps of one step on a CPU: those of the network, and those at depths around a prediction."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dvmvs_core.model.ray_matching import MIN_NORM
from dvmvs_core.runtime.sweep_kernels import FIRST_PLANE, ONE_METRE, sweep_rows
from dvmvs_core.runtime.threads import parallel_rows

CHANNELS_MULTIPLE = 8
"""Floats of a register of AVX; channels past the real ones are zeros."""

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


_NO_COUNTS = np.zeros((0, 0, 0), np.uint8)


class CompiledSweep:
    """What one step compares: a reference frame with its measurement frames.

    Args:
        reference: (1, C, h, w) matching map of the reference frame.
        measurements: (1, C, h, w) of each measurement frame.
        homographies: (M, 1, 3, 3) K R K⁻¹ of each, at half resolution.
        translations: (M, 1, 3) K t of each.
    """

    def __init__(
        self, reference: Tensor, measurements: Sequence[Tensor], homographies: Tensor, translations: Tensor
    ) -> None:
        self._channels, self._height, self._width = reference.shape[1:]
        self._views = (
            plain_map(reference),
            bordered_maps(measurements),
            np.ascontiguousarray(homographies[:, 0].numpy()),
            np.ascontiguousarray(translations[:, 0].numpy()),
        )

    def costs(self, inverse_depths: np.ndarray, mask_out_of_view: bool) -> Tensor:
        """Cost volume (1, D, h, w), channels-last, as `model.cost_volume.plane_sweep`."""
        means = np.empty((self._height, self._width, len(inverse_depths)), np.float32)
        scales = np.full((1, 1), 1 / self._channels, np.float32)
        # Samples out of view are zeros, to which the border's cells lead over.
        margin = np.float32(0 if mask_out_of_view else 1)
        planes = (ONE_METRE, inverse_depths, FIRST_PLANE, len(inverse_depths))
        bounds = (margin, mask_out_of_view)
        parallel_rows(
            sweep_rows, self._height, 0, 1, *self._views, *planes, *bounds, scales, np.float32(0), means, _NO_COUNTS
        )
        return _channels_first(means)

    def cosines(self, depth: np.ndarray, factors: np.ndarray, start: int = 0, step: int = 1) -> tuple[Tensor, Tensor]:
        """Compare points around a prediction, as `model.ray_matching.match_at_pixels`.

        Args:
            depth: (H, W) metres.
            factors: (P,) inverse depths as factors of the predicted one.
            start: first row and column of the half-resolution pixels that are compared.
            step: pixels from one to the next.

        Returns:
            Mean cosine over the measurement frames that have a point in view, and how many do, (1, P, h', w') each.
        """
        compared = (slice(start, self._height, step), slice(start, self._width, step))
        own = self._views[0][compared]
        scales = 1 / np.maximum(np.sqrt(np.einsum("yxc,yxc->yx", own, own)), np.float32(MIN_NORM))
        means = np.empty((*scales.shape, len(factors)), np.float32)
        counts = np.empty(means.shape, np.uint8)
        planes = (1 / depth[::2, ::2][compared], factors, FIRST_PLANE, len(factors))
        bounds = (np.float32(0), True)
        parallel_rows(
            sweep_rows, len(means), start, step, *self._views, *planes, *bounds, scales, np.float32(MIN_NORM), means,
            counts,
        )  # fmt: skip
        return _channels_first(means), _channels_first(counts.astype(np.float32))


def _channels_first(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array).permute(2, 0, 1)[None]
