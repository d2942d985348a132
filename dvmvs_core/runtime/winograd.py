# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""A convolution of 3×3 or 5×5 with 44 to 16 % of the multiplications, for inference on a CPU in float32.

oneDNN's direct convolution is near the peak of the processor already. On one core with AVX-512 this takes a third of
its time for 5×5 kernels, half for 3×3 ones, and two thirds where a small image meets many weights.
"""

from __future__ import annotations

import threading

import numpy as np
import torch
from torch import Tensor, nn

from dvmvs_core.runtime.aligned import aligned_zeros
from dvmvs_core.runtime.bands import in_bands
from dvmvs_core.runtime.matrix_kernels import QUANTUM
from dvmvs_core.runtime.polynomials import Tiling
from dvmvs_core.runtime.vectors import LANES
from dvmvs_core.runtime.winograd_kernels import LARGE_3, LARGE_5, PADDING, SMALL_3, winograd

LEAST_CHANNELS = 16
"""In and out; with fewer, part of each register would do nothing."""

LEAST_LARGE_TILES = 16
"""Tiles of 4×4 outputs in an image; with fewer, reading weights at 36 points takes longer than multiplying at 16."""

LEAST_BLOCK = 24
"""Tiles that share one reading of the weights, where the image has as many."""

BLOCK_BYTES = 300_000
"""Of tiles at the points: what the cache of one core holds beside their weights."""

_kept = threading.local()


def suits(convolution: nn.Conv2d) -> bool:
    """Whether a convolution can be done this way and gains by it."""
    size = convolution.kernel_size[0]
    return (
        convolution.kernel_size in ((3, 3), (5, 5))
        and convolution.stride == convolution.dilation == (1, 1)
        and convolution.groups == 1
        and convolution.padding == (size // 2, size // 2)
        and convolution.padding_mode == "zeros"
        and min(convolution.in_channels, convolution.out_channels) >= LEAST_CHANNELS
    )


class Winograd:
    """One convolution with bias and ReLU; channels-last in and out.

    Args:
        convolution: its weights, with a batch norm folded in; `suits` says for which.
        relu: whether a ReLU follows.
    """

    def __init__(self, convolution: nn.Conv2d, relu: bool) -> None:
        self._weight: Tensor | None = convolution.weight.detach().clone()
        self._outputs = convolution.out_channels
        self._floor = np.float32(0 if relu else -np.inf)
        self._panel = LANES * (2 if self._outputs > LANES else 1)
        self._bias = np.zeros(-(-self._outputs // self._panel) * self._panel, np.float32)
        if convolution.bias is not None:
            self._bias[: self._outputs] = convolution.bias.detach().numpy()
        self._tiling: Tiling | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """(B, at least in, h, w) -> (B, out, h, w); channels of the input past the weights' are left out."""
        batch, _, height, width = x.shape
        if self._tiling is None:
            self._choose(height, width)
        tiling = self._tiling
        panels, points, channels, panel = self._weights.shape
        tiles = -(-height // tiling.step) * -(-width // tiling.step)
        padded = -(-channels // LANES) * LANES
        block = max(LEAST_BLOCK, BLOCK_BYTES // (4 * points * (padded + panel)))
        block = -(-min(block, tiles) // QUANTUM) * QUANTUM
        floats = points * (block * (padded + panel) + 2 * PADDING + LANES)
        # Few tiles: all threads take them all to the points, but each reads weights of its own.
        by_outputs = tiles < LEAST_BLOCK * torch.get_num_threads()
        target = torch.empty(batch, height, width, self._outputs)
        source = np.ascontiguousarray(x.permute(0, 2, 3, 1).numpy())
        for b in range(batch):
            in_bands(
                _with_scratch,
                panels if by_outputs else tiles,
                floats,
                (by_outputs, tiling.size, tiling.step, source[b], self._weights, self._bias, self._floor),
                target[b].numpy(),
                block,
            )
        return target.permute(0, 3, 1, 2)

    def _choose(self, height: int, width: int) -> None:
        """Takes the weights to the points of the tiling that suits the size; the weights themselves are let go."""
        self._tiling = tiling = _tiling(self._weight.shape[-1], height, width)
        matrix = torch.from_numpy(tiling.of_weights())
        panels, channels = len(self._bias) // self._panel, self._weight.shape[1]
        self._weights = np.zeros((panels, tiling.side**2, channels, self._panel), np.float32)
        # A panel at a time: all weights at once would take several times the memory of the result.
        for panel, weight in zip(self._weights, self._weight.split(self._panel), strict=True):
            at_points = torch.einsum("py,qx,nkyx->pqkn", matrix, matrix, weight.double())
            panel[..., : len(weight)] = at_points.flatten(0, 1).numpy()
        self._weight = None


def _tiling(size: int, height: int, width: int) -> Tiling:
    if size == 5:
        return LARGE_5
    return LARGE_3 if -(-height // LARGE_3.step) * -(-width // LARGE_3.step) >= LEAST_LARGE_TILES else SMALL_3


def _with_scratch(first: int, last: int, floats: int, arguments: tuple, target: np.ndarray, block: int) -> None:
    """Runs the kernel with this thread's scratch memory, which all convolutions share."""
    winograd(first, last, *arguments, target, block, _scratch(floats))


def _scratch(floats: int) -> np.ndarray:
    """Zeros at first, later what the last call left."""
    kept = getattr(_kept, "scratch", None)
    if kept is None or len(kept) < floats:
        _kept.scratch = kept = aligned_zeros(floats)
    return kept
