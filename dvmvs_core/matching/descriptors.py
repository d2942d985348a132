# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What pixels are compared by: normalised patches for precision, pretrained maps for robustness.

Both are compared by their cosine. Symbols: (H, w) pixels, (h, w) cells of a grid, C channels.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
import torch
from torch import Tensor

from dvmvs_core.model.lite0 import IMAGE_MEAN, IMAGE_SCALE
from dvmvs_core.model.patch_matching import PATCH_BASIS, PATCH_CHANNELS
from dvmvs_core.preprocess import rounded
from dvmvs_core.runtime.compiled import compiled
from dvmvs_core.runtime.threads import in_background, parallel_rows

MAP_CHANNELS = 64
"""24 channels of the 1/4 map and 40 of the 1/8 map."""

INT8_SCALE = 127.0
"""What 1 is in the bytes of a descriptor."""

NOISE_LEVELS = 1.0
"""Deviation of grey levels, of 255, below which a patch is noise."""

Extractor = Callable[[Tensor], tuple[Tensor, ...]]
"""From an image (1, 3, H, W) as Lite0 takes it to its maps at 1/4 (1, 24, h, w), at 1/8 (1, 40, ·, ·), and so on."""

_BINOMIAL = np.array((0.25, 0.5, 0.25))


@dataclass(frozen=True, eq=False)
class Descriptors:
    """Descriptors of one image, tensors on a GPU; of length INT8_SCALE, so that 30 keyframes take 25 MB at 320×256.

    Attributes:
        patches: (H/2, W/2, PATCH_CHANNELS) int8, of cells centred at pixels 2x.
        maps: (H/4, W/4, MAP_CHANNELS) int8, of cells centred at pixels 4x + 3.
        colours: (H/2, W/2, 3) uint8 RGB at pixels 2x, smoothed.
        image: (H, W, 3) uint8 RGB.
        grey: (H/2, W/2) uint8 grey levels at pixels 2x, smoothed; on the host, whatever the device is.
        levels: all that the extractor gave, which only the keyframe itself needs; None once it has its depth.
    """

    patches: np.ndarray
    maps: np.ndarray
    colours: np.ndarray
    image: np.ndarray
    grey: np.ndarray
    levels: tuple[Tensor, ...] | None = None


class Describer:
    """Makes descriptors.

    Args:
        extract: runs EfficientNet-Lite0.
    """

    def __init__(self, extract: Extractor) -> None:
        self._extract = extract

    def __call__(self, image: np.ndarray | Tensor) -> Descriptors:
        """Return the descriptors of an image, whose sides are multiples of 8.

        Args:
            image: (H, W, 3) uint8 RGB, or a tensor of values 0…255 on any device.
        """
        return self.begun(image)()

    def begun(self, image: np.ndarray | Tensor) -> Callable[[], Descriptors]:
        """Begin with an image in a thread beside, and return what finishes its descriptors."""
        if isinstance(image, Tensor):
            image = rounded(image).cpu().numpy()
        # Its many small layers keep one core busy, however many there are.
        return partial(self._finished, image, in_background(self._levels, image))

    def _finished(self, image: np.ndarray, levels: Future[tuple[Tensor, ...]]) -> Descriptors:
        smoothed = cv2.sepFilter2D(image, cv2.CV_32F, _BINOMIAL, _BINOMIAL, borderType=cv2.BORDER_REPLICATE)[::2, ::2]
        colours = np.ascontiguousarray(smoothed)
        grey = cv2.cvtColor(colours, cv2.COLOR_RGB2GRAY)
        patches = np.empty((*grey.shape, PATCH_CHANNELS), np.float32)
        parallel_rows(patch_rows, len(grey), grey, np.float32(NOISE_LEVELS), PATCH_BASIS, patches)
        patches = _bytes(patches)
        colours, grey = (np.rint(values).astype(np.uint8) for values in (colours, grey))
        levels = levels.result()
        return Descriptors(patches, _bytes(compiled_joined_maps(*levels[:2])), colours, image, grey, levels)

    @torch.inference_mode()
    def _levels(self, image: np.ndarray) -> tuple[Tensor, ...]:
        pixels = (torch.from_numpy(image).permute(2, 0, 1)[None].float() - IMAGE_MEAN) / IMAGE_SCALE
        return self._extract(pixels)


def _bytes(descriptors: np.ndarray) -> np.ndarray:
    return np.rint(descriptors * np.float32(INT8_SCALE)).astype(np.int8)


def joined_maps(quarter: Tensor, eighth: Tensor) -> Tensor:
    """Return (h, w, 64) of unit length from maps (1, 24, h, w) and (1, 40, h/2, w/2), each with half of the weight.

    The mean of each map is taken off first, since what all pixels share tells none apart.
    """
    quarter, eighth = (unit(x - x.mean(dim=(2, 3), keepdim=True)) for x in (quarter, eighth))
    # Cells of the 1/8 map are centred at pixels 8x + 7, those of the 1/4 map at 4x + 3: at x/2 - 1/2 of the former.
    eighth = unit(_doubled(_doubled(eighth).mT).mT)
    joined = torch.cat((quarter, eighth), dim=1) * 0.5**0.5
    return joined[0].permute(1, 2, 0).contiguous()


def compiled_joined_maps(quarter: Tensor, eighth: Tensor) -> np.ndarray:
    """As `joined_maps`, on a CPU with numba: in a fraction of the time."""
    quarter, eighth = (x[0].permute(1, 2, 0).contiguous().numpy() for x in (quarter, eighth))
    means = [x.mean(axis=(0, 1)) for x in (quarter, eighth)]
    units = np.empty_like(eighth)
    parallel_rows(unit_rows, len(eighth), eighth, means[1], units)
    joined = np.empty((*quarter.shape[:2], quarter.shape[2] + eighth.shape[2]), np.float32)
    parallel_rows(joined_rows, len(quarter), quarter, means[0], units, np.float32(0.5**0.5), joined)
    return joined


def unit(x: Tensor) -> Tensor:
    """Return (B, C, h, w) with vectors of unit length."""
    return x / x.norm(dim=1, keepdim=True).clamp(min=1e-6)


def _doubled(x: Tensor) -> Tensor:
    """Twice as many columns: the odd ones are those of x, the even ones are half-way from the one before."""
    before = torch.cat((x[..., :1], x[..., :-1]), dim=-1)
    return torch.stack(((before + x) / 2, x), dim=-1).flatten(-2)


_TINY = np.float32(1e-6)


@compiled
def unit_rows(first, last, maps, mean, units):
    """Vectors of unit length in rows first…last, of maps (h, w, C) less their mean (C,)."""
    channels = maps.shape[2]
    for y in range(first, last):
        for x in range(maps.shape[1]):
            square = np.float32(0)
            for c in range(channels):
                value = maps[y, x, c] - mean[c]
                units[y, x, c] = value
                square += value * value
            scale = np.float32(1) / max(np.sqrt(square), _TINY)
            for c in range(channels):
                units[y, x, c] *= scale


@compiled
def joined_rows(first, last, quarter, mean, eighth, length, joined):
    """Both maps together in rows first…last, each of that length.

    Args:
        first: first row.
        last: row after the last.
        quarter: (h, w, C) float32.
        mean: (C,) of it.
        eighth: (h/2, w/2, D) float32 of `unit_rows`; cell x of it is at 2x + 1.
        length: of the vectors of either map.
        joined: (h, w, C + D) float32 for the result.
    """
    channels, others = quarter.shape[2], eighth.shape[2]
    for y in range(first, last):
        below = y // 2
        above = max(below - 1, 0) if y % 2 == 0 else below
        for x in range(quarter.shape[1]):
            right = x // 2
            left = max(right - 1, 0) if x % 2 == 0 else right
            own = joined[y, x]
            square = np.float32(0)
            for c in range(channels):
                value = quarter[y, x, c] - mean[c]
                own[c] = value
                square += value * value
            scale = length / max(np.sqrt(square), _TINY)
            for c in range(channels):
                own[c] *= scale
            other = own[channels:]
            top_left, top_right = eighth[above, left], eighth[above, right]
            bottom_left, bottom_right = eighth[below, left], eighth[below, right]
            square = np.float32(0)
            for c in range(others):
                value = (top_left[c] + top_right[c]) + (bottom_left[c] + bottom_right[c])
                other[c] = value
                square += value * value
            scale = length / max(np.sqrt(square), _TINY)
            for c in range(others):
                other[c] *= scale


@compiled
def patch_rows(first, last, grey, noise, basis, patches):
    """3×3 patches without their mean, of unit length, in rows first…last; those below the noise are shorter.

    Args:
        first: first row.
        last: row after the last.
        grey: (h, w) float32 grey levels.
        noise: deviation that counts as noise.
        basis: (C, 9) float32 `PATCH_BASIS`.
        patches: (h, w, C) float32 for the result.
    """
    height, width = grey.shape
    channels = patches.shape[2]
    floor = np.float32(9) * noise * noise
    around, found = np.empty(9, np.float32), np.empty(channels, np.float32)
    for y in range(first, last):
        for x in range(width):
            for j in range(3):
                row = min(max(y + j - 1, 0), height - 1)
                for i in range(3):
                    around[3 * j + i] = grey[row, min(max(x + i - 1, 0), width - 1)]
            square = floor
            for c in range(channels):
                value = np.float32(0)
                for k in range(9):
                    value += basis[c, k] * around[k]
                found[c] = value
                square += value * value
            scale = np.float32(1) / np.sqrt(square)
            for c in range(channels):
                patches[y, x, c] = found[c] * scale
