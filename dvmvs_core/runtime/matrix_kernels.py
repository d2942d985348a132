# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Products of small matrices within compiled loops, whose sums stay in registers.

A call of a library would cost more than many of these products take.
"""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from dvmvs_core.runtime.compiled import compiled
from dvmvs_core.runtime.vectors import (
    LANES,
    REGISTERS,
    VECTOR,
    add_product,
    address,
    constant,
    fetch,
    load,
    spread,
    store,
)

QUANTUM = 4
"""Rows are multiplied in groups of at least this many."""

_ROWS = 4 if REGISTERS == 16 else 12
"""Rows of a group at two vectors of columns, whose sums fill the registers; twice as many at one."""

_AHEAD = 16
"""Rows of the second matrix that are fetched ahead of their use."""

_AT = types.intp


def _multiply(rows: int, vectors: int) -> Callable:
    """Product of a (rows, K) and b (K, vectors · LANES), both in flat arrays; the rows of b are contiguous."""

    @intrinsic
    def multiply(typing, a, a_at, a_step, b, b_at, c, c_at, c_step, depth):
        def generate(context, builder, signature, arguments):
            _, a_at, a_step, _, b_at, _, c_at, c_step, depth = arguments
            starts = [address(context, builder, signature, arguments, 0, a_at)]
            for _ in range(1, rows):
                starts.append(builder.gep(starts[-1], [a_step]))
            first_factors = address(context, builder, signature, arguments, 3, b_at)
            result = address(context, builder, signature, arguments, 5, c_at)
            before = builder.block
            loop, after = builder.append_basic_block("depth"), builder.append_basic_block("multiplied")
            builder.branch(loop)
            builder.position_at_end(loop)
            k = builder.phi(depth.type)
            sums = [[builder.phi(VECTOR) for _ in range(vectors)] for _ in range(rows)]
            at = builder.gep(first_factors, [builder.mul(k, ir.Constant(depth.type, vectors * LANES))])
            factors = []
            for v in range(vectors):
                factors.append(load(builder, builder.gep(at, [ir.Constant(depth.type, v * LANES)])))
                fetch(builder, builder.gep(at, [ir.Constant(depth.type, (_AHEAD * vectors + v) * LANES)]))
            totals = []
            for start, line in zip(starts, sums, strict=True):
                value = spread(builder, builder.load(builder.gep(start, [k])))
                totals.append([add_product(builder, s, value, f) for s, f in zip(line, factors, strict=True)])
            following = builder.add(k, ir.Constant(depth.type, 1))
            k.add_incoming(ir.Constant(depth.type, 0), before)
            k.add_incoming(following, loop)
            for line, total in zip(sums, totals, strict=True):
                for old, new in zip(line, total, strict=True):
                    old.add_incoming(constant(0), before)
                    old.add_incoming(new, loop)
            builder.cbranch(builder.icmp_signed("<", following, depth), loop, after)
            builder.position_at_end(after)
            for line in totals:
                for v, total in enumerate(line):
                    store(builder, total, builder.gep(result, [ir.Constant(depth.type, v * LANES)]))
                result = builder.gep(result, [c_step])
            return context.get_dummy_value()

        return types.void(a, _AT, _AT, b, _AT, c, _AT, _AT, _AT), generate

    return multiply


_many_wide, _few_wide = _multiply(_ROWS, 2), _multiply(QUANTUM, 2)
_many, _few = _multiply(2 * _ROWS, 1), _multiply(QUANTUM, 1)


@compiled
def matrix_product(rows, depth, width, a, a_at, a_step, b, b_at, c, c_at):
    """Product of a (rows, depth) and b (depth, width) into c (rows, width), parts of flat arrays.

    Args:
        rows: a multiple of QUANTUM.
        depth: columns of a.
        width: LANES or 2 LANES.
        a: holds the first matrix.
        a_at: its first element.
        a_step: elements from one of its rows to the next.
        b: holds the second matrix, contiguous.
        b_at: its first element.
        c: receives the product, contiguous.
        c_at: its first element.
    """
    row = 0
    if width == 2 * LANES:
        while row + _ROWS <= rows:
            _many_wide(a, a_at + row * a_step, a_step, b, b_at, c, c_at + row * width, width, depth)
            row += _ROWS
        while row < rows:
            _few_wide(a, a_at + row * a_step, a_step, b, b_at, c, c_at + row * width, width, depth)
            row += QUANTUM
    else:
        while row + 2 * _ROWS <= rows:
            _many(a, a_at + row * a_step, a_step, b, b_at, c, c_at + row * width, width, depth)
            row += 2 * _ROWS
        while row < rows:
            _few(a, a_at + row * a_step, a_step, b, b_at, c, c_at + row * width, width, depth)
            row += QUANTUM
