# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Plane propagation: depth that is sure is carried along surfaces to where it is not.

Blank walls and floors cannot be matched; their edges, and what stands on them, can. Surfaces of rooms are planes, and
the inverse depth of a plane is linear in the pixel. So a plane is fitted for each cell, by weighted least squares, to
the inverse depth of the whole image. Sure depth weighs most, and so does what is near along the image: a path that
crosses an edge is long. A second fit hardly counts what lies off the first. The less sure depth is, the more of it is
replaced by the plane's. Between cells, a pixel follows the planes of those whose colour it has, so that depth steps
where the image has its edge: joint bilateral upsampling, Kopf et al., SIGGRAPH 2007.

Paths run along rows and columns in turn, and so reach around corners. Along one row all weights are a matrix. That is
the domain transform with an exponential kernel: Gastal and Oliveira, "Domain Transform for Edge-Aware Image and Video
Processing", SIGGRAPH 2011. All constants were chosen on rendered worlds.

Symbols: H×W network resolution, h×w = H/2×W/2, cells q×r = H/4×W/4, C channels.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

REACH, PASSES = 1.0, 2
"""Path, in widths of the image, along which weights fall to 1/e; and number of passes, each of half the last reach."""

COLOUR = 0.05
"""Widths of the image by which a path is longer for each level (0…255) that red, green and blue change along it."""

SHARPNESS, MIN_WEIGHT = 3, 1e-6
"""Depth weighs its confidence to this power, and at least so much."""

RIDGE = 0.009**2
"""Added to the variance of pixels' places, in squared widths of the image, so that few of them make no steep plane."""

OFF = 0.05
"""Difference from the first plane, as a part of inverse depth, at which a pixel counts half for the second."""

LIMIT = 2.0
"""Largest factor between a plane's inverse depth and the mean of what it was fitted to."""

UNSURE, STEEPNESS = 0.45, 3
"""Confidence at which half of depth is the plane's, and the power by which that changes around it."""

COLOURED, PLACED = 25.0, 1.0
"""Standard deviations of colour (0…255) and place (cells) by which a pixel belongs to each of the cells around it."""

FARTHEST = 12.0
"""Exponent from which on no colour is less like another, so that a pixel unlike all cells is left to the nearest."""

_CELL = 4


def propagate_planes(depth: Tensor, confidence: Tensor, image: Tensor) -> Tensor:
    """Return depth (1, H, W) in metres of which what is unsure lies on planes of what is sure.

    Args:
        depth: (1, H, W) float32 metres, above 0.
        confidence: (1, H, W) float32, 0…1, on the same device.
        image: (H, W, 3) float32, 0…255, on the same device.
    """
    halves = functional.avg_pool2d(image.permute(2, 0, 1)[None], 2)
    kernels = _kernels(halves)
    inverse = 1 / depth
    sampled = inverse[:, ::2, ::2]
    sure = confidence[:, ::2, ::2] ** SHARPNESS + MIN_WEIGHT
    first = _fit(sampled, sure, kernels).between(sampled)
    off = (sampled / first - 1) / OFF
    plane = _fit(sampled, sure / (1 + off * off), kernels).by_colour(halves)
    share = 1 / (1 + (confidence / UNSURE) ** STEEPNESS)
    return depth ** (1 - share) / plane**share


def compiled_planes(depth: Tensor, confidence: Tensor, image: Tensor) -> Tensor:
    """As `propagate_planes`, on a CPU with numba: in a sixth of the time. H and W are multiples of 4."""
    from dvmvs_core.runtime import plane_kernels as kernels
    from dvmvs_core.runtime.threads import in_background, parallel_rows

    given, sure, image = (x.contiguous().numpy() for x in (depth[0], confidence[0], image))
    height, width = given.shape
    rows, columns = height // _CELL, width // _CELL
    halves = cv2.resize(image, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    kept = in_background(_kept, halves)
    scaled = halves * np.float32(1 / (COLOURED * math.sqrt(2)))
    colours = cv2.resize(scaled, (width, height), interpolation=cv2.INTER_LINEAR)
    cells = cv2.resize(scaled, (columns, rows), interpolation=cv2.INTER_AREA)
    colours, cells = (np.ascontiguousarray(x.transpose(0, 2, 1)) for x in (colours, cells))
    kept = kept.result()
    moments = np.empty((rows, columns, 9), np.float32)
    planes, limit = np.empty((0, 0, 4), np.float32), np.float32(LIMIT)
    for _ in range(2):
        weighing = (np.float32(MIN_WEIGHT), planes, limit, np.float32(OFF))
        parallel_rows(kernels.moment_rows, rows, given, sure, *weighing, moments)
        for to_right, down in kept:
            parallel_rows(kernels.smooth_rows, rows, moments, to_right)
            parallel_rows(kernels.smooth_columns, columns, moments, down)
        planes = np.empty((rows, columns, 4), np.float32)
        parallel_rows(kernels.fit_rows, rows, moments, np.float32(RIDGE), planes)
    propagated = np.empty_like(given)
    choosing = (planes, cells, _placed(), np.float32(FARTHEST), limit, np.float32(UNSURE))
    parallel_rows(kernels.propagate_rows, height, given, sure, colours, *choosing, propagated)
    return torch.from_numpy(propagated)[None]


def _kept(halves: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Of each pass, the share of a weight that is left at the next cell of a row (q, r - 1) and of a column (q - 1, r).

    Args:
        halves: (h, w, 3) the image at half its resolution.
    """
    sums = {"ddepth": -1, "ksize": (3, 3), "normalize": False, "borderType": cv2.BORDER_CONSTANT}
    beside = cv2.boxFilter(np.ones(halves.shape[:2], np.float32), **sums)
    for _ in range(2):  # noise would make blank surfaces long
        halves = cv2.boxFilter(halves, **sums) / beside[..., None]
    step, size = np.float32(1 / halves.shape[1]), (halves.shape[1] // 2, halves.shape[0] // 2)
    kept = []
    for axis in (1, 0):
        change = np.abs(np.diff(halves, axis=axis, prepend=halves.take([0], axis))).sum(axis=2)
        places = np.cumsum(step + np.float32(COLOUR) * change, axis=axis)
        kept.append(np.exp(np.diff(cv2.resize(places, size, interpolation=cv2.INTER_AREA), axis=axis) / -REACH))
    return [tuple(share ** (2**i) for share in kept) for i in range(PASSES)]


@functools.cache
def _placed() -> np.ndarray:
    """Weights by place (4, 3) of each pixel in a cell for the cell before, its own and the one after."""
    within = (np.arange(_CELL) + 0.5) / _CELL - 0.5
    return np.exp(-((within[:, None] + 1 - np.arange(3)) ** 2) / (2 * PLACED * PLACED)).astype(np.float32)


class _Kernels(NamedTuple):
    """Weights of one pass: of the cells of each row for each other (q, r, r), and of those of each column (r, q, q)."""

    rows: Tensor
    columns: Tensor


class _Planes(NamedTuple):
    """Inverse depth of a plane for each cell, a + b·x + c·y, and the mean that it was fitted to: all (q, r)."""

    a: Tensor
    b: Tensor
    c: Tensor
    mean: Tensor

    def between(self, like: Tensor) -> Tensor:
        """Return the inverse depth (1, h, w) of every other pixel, between the planes of the cells around it."""
        maps = functional.interpolate(torch.stack(self)[None], scale_factor=_CELL / 2, mode="bilinear")[0]
        return _limited(*maps.split(1), *_coordinates(like, 2))

    def by_colour(self, halves: Tensor) -> Tensor:
        """Return the inverse depth (1, H, W) of each pixel, by planes of cells of its colour.

        Args:
            halves: (1, 3, h, w) the image, 0…255: noise of single pixels must not choose the plane.
        """
        halves = halves / (COLOURED * math.sqrt(2))
        cells = functional.avg_pool2d(halves, _CELL // 2)
        maps = torch.cat((torch.stack(self)[None], 2 * cells, _squared(cells)), dim=1)
        maps = functional.interpolate(functional.pad(maps, (1,) * 4, "replicate"), scale_factor=float(_CELL))[0]
        colours = functional.interpolate(halves, scale_factor=2.0, mode="bilinear")
        own = _squared(colours)[0]
        height, width = own.shape[1:]
        rows, columns = (torch.arange(side, device=own.device) % _CELL for side in (height, width))
        rows, columns = ((within + 0.5) / _CELL - 0.5 for within in (rows, columns))
        planes, weights = torch.zeros_like(maps[:4, :height, :width]), torch.zeros_like(own)
        for down in range(3):
            for right in range(3):
                there = maps[:, down * _CELL : down * _CELL + height, right * _CELL : right * _CELL + width]
                likeness = (there[4:7] * colours[0]).sum(dim=0, keepdim=True) - (there[7:] + own)
                away = ((rows[:, None] + 1 - down) ** 2 + (columns + 1 - right) ** 2) / (2 * PLACED * PLACED)
                weight = (likeness.clamp(min=-FARTHEST) - away).exp()
                planes, weights = torch.addcmul(planes, weight, there[:4]), weights + weight
        return _limited(*(planes / weights).split(1), *_coordinates(own, 1))


def _limited(a: Tensor, b: Tensor, c: Tensor, mean: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Inverse depth of planes, not too far from the mean that they were fitted to."""
    return torch.minimum(torch.maximum(a + b * x + c * y, mean / LIMIT), mean * LIMIT)


def _squared(colours: Tensor) -> Tensor:
    """Squared norms (B, 1, n, m) of colours (B, 3, n, m)."""
    return colours.square().sum(dim=1, keepdim=True)


def _fit(inverse: Tensor, weight: Tensor, kernels: list[_Kernels]) -> _Planes:
    """Planes through inverse depth (1, h, w), by weights (1, h, w)."""
    x, y = _coordinates(inverse, 2)
    x, y = x.expand_as(inverse), y.expand_as(inverse)
    parts = torch.cat((torch.ones_like(x), x, y, inverse, x * x, x * y, y * y, inverse * x, inverse * y))
    sums = _smoothed(functional.avg_pool2d(weight * parts, _CELL // 2), kernels)
    mean_x, mean_y, mean, xx, xy, yy, vx, vy = sums[1:] / sums[:1]
    xx, yy, xy = xx - mean_x * mean_x + RIDGE, yy - mean_y * mean_y + RIDGE, xy - mean_x * mean_y
    vx, vy = vx - mean * mean_x, vy - mean * mean_y
    determinant = xx * yy - xy * xy
    b, c = (vx * yy - vy * xy) / determinant, (vy * xx - vx * xy) / determinant
    return _Planes(mean - b * mean_x - c * mean_y, b, c, mean)


def _coordinates(like: Tensor, step: int) -> tuple[Tensor, Tensor]:
    """X (m,) and y (n, 1) from the middle, in widths of the image, of maps (1, n, m) of every `step`th pixel."""
    _, height, width = like.shape
    columns, rows = (torch.arange(side, device=like.device, dtype=like.dtype) for side in (width, height))
    return (columns - width / 2) / width, (rows[:, None] - height / 2) / width


def _kernels(halves: Tensor) -> list[_Kernels]:
    """The kernels of each pass, by the paths in an image (1, 3, h, w) at half its resolution."""
    for _ in range(2):  # noise would make blank surfaces long
        halves = functional.avg_pool2d(halves, 3, stride=1, padding=1, count_include_pad=False)
    step = 1 / halves.shape[3]
    across = (step + COLOUR * halves.diff(dim=3, prepend=halves[..., :1]).abs().sum(dim=1)).cumsum(dim=2)
    down = (step + COLOUR * halves.diff(dim=2, prepend=halves[..., :1, :]).abs().sum(dim=1)).cumsum(dim=1)
    across, down = (functional.avg_pool2d(places, _CELL // 2)[0] for places in (across, down))
    kernels = [_Kernels(_falling(across), _falling(down.T))]
    while len(kernels) < PASSES:
        kernels.append(_Kernels(*(kernel * kernel for kernel in kernels[-1])))
    return kernels


def _falling(places: Tensor) -> Tensor:
    """Weights (n, m, m) of the cells of each line for each other, by their places (n, m) along it."""
    return torch.exp((places[:, :, None] - places[:, None]).abs() * (-1 / REACH))


def _smoothed(maps: Tensor, kernels: list[_Kernels]) -> Tensor:
    """Weighted sums (C, q, r) of maps (C, q, r)."""
    values = maps.permute(1, 2, 0)  # (q, r, C)
    for kernel in kernels:
        for weights in kernel:
            values = (weights @ values).transpose(0, 1)
    return values.permute(2, 0, 1)
