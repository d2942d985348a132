# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The convolution of a depth head: 3×3 to one channel, for which a general one would compute sixteen.

Every pixel is multiplied with the nine weights at once; an output is then a sum of nine products of its neighbours.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from dvmvs_core.runtime.bands import in_bands
from dvmvs_core.runtime.compiled import compiled
from dvmvs_core.runtime.matrix_kernels import QUANTUM, matrix_product
from dvmvs_core.runtime.vectors import LANES

_PANEL = min(2 * LANES, 16)
"""Products that are worked out at once: a row of nine weights takes one panel, or two where registers are short."""


class DepthHead:
    """`DepthHead` of the plain decoder.

    Args:
        convolution: 3×3 with same padding, to one channel.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        weights = convolution.weight.detach()[0].flatten(1)  # (C, 9)
        panels = -(-9 // _PANEL)
        padded = functional.pad(weights, (0, panels * _PANEL - 9)).unflatten(1, (panels, _PANEL))
        self._weights = padded.transpose(0, 1).contiguous().numpy()  # (panels, C, _PANEL)
        self._bias = np.float32(convolution.bias.detach().item())

    def __call__(self, x: Tensor) -> Tensor:
        """(B, C, h, w), channels-last -> (B, 1, h, w) in 0..1."""
        batch, _, height, width = x.shape
        if width < QUANTUM:
            return self(functional.pad(x, (0, QUANTUM - width)))[..., :width]
        result = torch.empty(batch, 1, height, width)
        for source, target in zip(x.permute(0, 2, 3, 1).contiguous(), result, strict=True):
            in_bands(head_rows, height, source.numpy(), self._weights, self._bias, target[0].numpy())
        return torch.sigmoid_(result)


@compiled
def head_rows(first, last, source, weights, bias, target):
    """Convolution of rows first…last.

    Args:
        first: first row.
        last: row after the last.
        source: (h, w, C), w at least QUANTUM.
        weights: (panels, C, panel width), the nine weights of each channel shared out among the panels.
        bias: of the output.
        target: (h, w) receives the output.
    """
    height, width, channels = source.shape
    panels, _, panel = weights.shape
    whole = width // QUANTUM * QUANTUM
    row_size, panel_size = panels * width * panel, width * panel
    products = np.empty(3 * row_size, np.float32)  # of the last three rows
    pixels, factors = source.reshape(-1), weights.reshape(-1)
    for row in range(max(first - 1, 0), min(last + 1, height)):
        for p in range(panels):
            at, to, of = row * width * channels, row % 3 * row_size + p * panel_size, p * channels * panel
            matrix_product(whole, channels, panel, pixels, at, channels, factors, of, products, to)
            if whole < width:  # the last few, some of them once more
                at, to = at + (width - QUANTUM) * channels, to + (width - QUANTUM) * panel
                matrix_product(QUANTUM, channels, panel, pixels, at, channels, factors, of, products, to)
        # The row before is complete now, and with the last row of the image that one too.
        for y in range(max(row - 1, first), min(last, height if row == height - 1 else row)):
            target[y] = bias
            for i in range(max(y - 1, 0), min(y + 2, height)):
                for j in range(3):
                    weight = (i - y + 1) * 3 + j
                    at = i % 3 * row_size + weight // panel * panel_size + weight % panel
                    for x in range(max(1 - j, 0), min(width, width + 1 - j)):
                        target[y, x] += products[at + (x + j - 1) * panel]
