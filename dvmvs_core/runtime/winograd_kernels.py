# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Convolution with a fraction of the multiplications, as one compiled loop over tiles of an image.

Pixels of a tile are taken to points, where convolution is a product of matrices, and the products are taken back to
outputs. A block of tiles goes through all three while it lies in the cache of one core.

Symbols: K channels in, N channels out, P points of a tile (side²), h×w pixels.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from dvmvs_core.runtime.compiled import compiled
from dvmvs_core.runtime.matrix_kernels import QUANTUM, matrix_product
from dvmvs_core.runtime.polynomials import Tiling
from dvmvs_core.runtime.vectors import LANES, address, fetch, load, spread, store, transform_grid

SMALL_3, LARGE_3, LARGE_5 = Tiling(3, 2, (1.0,)), Tiling(3, 4, (0.75, 1.5)), Tiling(5, 4, (1.0, 2.0, 0.5))
"""Points are chosen for little rounding: 2 to 20 times that of the direct sum, some 1e-6 of a typical output."""

PADDING = LANES
"""Floats between the blocks of two points: without them all would fall on the same lines of the cache."""

_AT, _FLOAT = types.intp, types.float32


def _to_points(tiling: Tiling) -> Callable:
    matrices = tiling.to_points()

    @intrinsic
    def to_points(typing, source, patch, direct, at, row_step, step, points, to, point_step):
        """Takes LANES channels of a tile to points[to + p · point_step].

        Its first pixel is source[at], or patch[at] unless direct: to choose between arrays outside would count
        references.
        """

        def generate(context, builder, signature, arguments):
            _, _, direct, at, row_step, step, _, to, point_step = arguments
            choices = [address(context, builder, signature, arguments, which, at) for which in (0, 1)]
            row = builder.select(direct, *choices)
            grid = []
            for _ in range(tiling.side):
                grid.append(_loaded(builder, row, step, tiling.side))
                # What the next tile will need beyond this one.
                ahead = builder.gep(row, [builder.mul(step, ir.Constant(step.type, tiling.side))])
                for _ in range(tiling.step):
                    fetch(builder, ahead)
                    ahead = builder.gep(ahead, [step])
                row = builder.gep(row, [row_step])
            pointer = address(context, builder, signature, arguments, 6, to)
            for line in transform_grid(builder, matrices, grid):
                for vector in line:
                    store(builder, vector, pointer)
                    pointer = builder.gep(pointer, [point_step])
            return context.get_dummy_value()

        return types.void(source, patch, types.boolean, _AT, _AT, _AT, points, _AT, _AT), generate

    return to_points


def _from_points(tiling: Tiling) -> Callable:
    matrices = tiling.from_points()

    @intrinsic
    def from_points(typing, points, at, point_step, bias, channel, floor, target, patch, direct, to, row_step, step):
        """Takes LANES channels of products back to outputs, adds the bias, and lifts what is below the floor to it.

        The first output is target[to], or patch[to] unless direct.
        """

        def generate(context, builder, signature, arguments):
            _, at, point_step, _, channel, floor, _, _, direct, to, row_step, step = arguments
            pointer = address(context, builder, signature, arguments, 0, at)
            line_step = builder.mul(point_step, ir.Constant(point_step.type, tiling.side))
            grid = []
            for _ in range(tiling.side):
                grid.append(_loaded(builder, pointer, point_step, tiling.side))
                pointer = builder.gep(pointer, [line_step])
            added = load(builder, address(context, builder, signature, arguments, 3, channel))
            lowest = spread(builder, floor)
            choices = [address(context, builder, signature, arguments, which, to) for which in (6, 7)]
            row = builder.select(direct, *choices)
            for line in transform_grid(builder, matrices, grid):
                pixel = row
                for vector in line:
                    value = builder.fadd(vector, added)
                    value = builder.select(builder.fcmp_ordered("<", value, lowest), lowest, value)  # keeps NaN
                    store(builder, value, pixel)
                    pixel = builder.gep(pixel, [step])
                row = builder.gep(row, [row_step])
            return context.get_dummy_value()

        return types.void(points, _AT, _AT, bias, _AT, _FLOAT, target, patch, types.boolean, _AT, _AT, _AT), generate

    return from_points


def _loaded(builder: ir.IRBuilder, pointer: ir.Value, step: ir.Value, count: int) -> list[ir.Value]:
    vectors = []
    for _ in range(count):
        vectors.append(load(builder, pointer))
        pointer = builder.gep(pointer, [step])
    return vectors


_small_3_to_points, _small_3_from_points = _to_points(SMALL_3), _from_points(SMALL_3)
_large_3_to_points, _large_3_from_points = _to_points(LARGE_3), _from_points(LARGE_3)
_large_5_to_points, _large_5_from_points = _to_points(LARGE_5), _from_points(LARGE_5)


@compiled
def winograd(first, last, by_outputs, size, step, source, weights, bias, floor, target, block, scratch):
    """Convolution with same padding, bias and floor, of tiles first…last of the image, or to outputs first…last.

    Args:
        first: first tile, counted row by row; or first panel of outputs.
        last: tile or panel after the last.
        by_outputs: whether panels are counted.
        size: 3 or 5, pixels of the kernel.
        step: pixels of a tile of outputs, 2 (size 3 only) or 4.
        source: (h, w, at least K).
        weights: (panels, P, K, panel width); the width is LANES or 2 LANES.
        bias: (panels · width,).
        floor: outputs are at least this; 0 is a ReLU.
        target: (h, w, N).
        block: tiles to work on at once, a multiple of QUANTUM.
        scratch: at least P · (block · (K rounded up to LANES + panel width) + 2 PADDING + LANES) floats, finite.
    """
    height, width, row = source.shape
    outputs = target.shape[2]
    panels, points_count, channels, panel = weights.shape
    side, padding = size + step - 1, size // 2
    across, down = -(-width // step), -(-height // step)
    first_tile, last_tile, first_panel, last_panel = first, last, 0, panels
    if by_outputs:
        first_tile, last_tile, first_panel, last_panel = 0, across * down, first, last
    padded = -(-channels // LANES) * LANES
    readable = padded if padded <= row else channels // LANES * LANES  # channels past K meet no weights
    point_step, product_step = block * padded + PADDING, block * panel + PADDING
    points, rest = scratch[: points_count * point_step], scratch[points_count * point_step :]
    products, patch = rest[: points_count * product_step], rest[points_count * product_step :]
    pixels, written, factors = source.reshape(-1), target.reshape(-1), weights.reshape(-1)
    for start in range(first_tile, last_tile, block):
        tiles = min(block, last_tile - start)
        for t in range(tiles):
            y, x = (start + t) // across * step - padding, (start + t) % across * step - padding
            inside = y >= 0 and x >= 0 and y + side <= height and x + side <= width
            for c in range(0, padded, LANES):
                at, row_step, pixel_step = (y * width + x) * row + c, width * row, row
                direct = inside and c < readable
                if not direct:
                    at, row_step, pixel_step = 0, side * LANES, LANES
                    patch[: points_count * LANES] = np.float32(0)
                    for i in range(max(0, -y), min(side, height - y)):
                        for j in range(max(0, -x), min(side, width - x)):
                            of, to = ((y + i) * width + x + j) * row + c, (i * side + j) * LANES
                            for lane in range(min(LANES, channels - c)):
                                patch[to + lane] = pixels[of + lane]
                to = t * padded + c
                # One call for each kind and no function between: the compiler would copy all of it for each.
                if size == 5:
                    _large_5_to_points(pixels, patch, direct, at, row_step, pixel_step, points, to, point_step)
                elif step == 4:
                    _large_3_to_points(pixels, patch, direct, at, row_step, pixel_step, points, to, point_step)
                else:
                    _small_3_to_points(pixels, patch, direct, at, row_step, pixel_step, points, to, point_step)
        groups = -(-tiles // QUANTUM) * QUANTUM
        for one in range(first_panel, last_panel):
            for p in range(points_count):
                at = (one * points_count + p) * channels * panel
                matrix_product(
                    groups, channels, panel, points, p * point_step, padded, factors, at, products, p * product_step
                )
            for t in range(tiles):
                y, x = (start + t) // across * step, (start + t) % across * step
                for c in range(one * panel, min((one + 1) * panel, outputs), LANES):
                    whole = y + step <= height and x + step <= width and c + LANES <= outputs
                    to, row_step, pixel_step = (y * width + x) * outputs + c, width * outputs, outputs
                    if not whole:
                        to, row_step, pixel_step = 0, step * LANES, LANES
                    at = t * panel + c - one * panel
                    if size == 5:
                        _large_5_from_points(
                            products, at, product_step, bias, c, floor, written, patch, whole, to, row_step, pixel_step
                        )
                    elif step == 4:
                        _large_3_from_points(
                            products, at, product_step, bias, c, floor, written, patch, whole, to, row_step, pixel_step
                        )
                    else:
                        _small_3_from_points(
                            products, at, product_step, bias, c, floor, written, patch, whole, to, row_step, pixel_step
                        )
                    if not whole:
                        for i in range(min(step, height - y)):
                            for j in range(min(step, width - x)):
                                of, to = (i * step + j) * LANES, ((y + i) * width + x + j) * outputs + c
                                for lane in range(min(LANES, outputs - c)):
                                    written[to + lane] = patch[of + lane]
