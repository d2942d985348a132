# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Vectors of floats for compiled kernels, in the words of LLVM: what a loop that numba vectorises cannot promise.

The functions emit instructions into the kernel that is being compiled; nothing is computed here. Importing this module
needs numba.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence

import numpy as np
from llvmlite import binding, ir
from numba.core.base import BaseContext
from numba.core.typing.templates import Signature

_features = binding.get_host_cpu_features()

LANES = 16 if _features.get("avx512f") else 8 if _features.get("avx") else 4
"""Floats of a register of this machine."""

REGISTERS = 32 if LANES == 16 or platform.machine() in ("aarch64", "arm64") else 16

VECTOR = ir.VectorType(ir.FloatType(), LANES)

_INDEX = ir.IntType(32)
_FUSED = ("contract",)
"""A product and the sum that it goes into may be one instruction."""


def address(
    context: BaseContext, builder: ir.IRBuilder, signature: Signature, arguments: Sequence, which: int, at: ir.Value
) -> ir.Value:
    """Pointer to element `at` of an argument that is a flat float32 array."""
    array = context.make_array(signature.args[which])(context, builder, value=arguments[which])
    return builder.gep(array.data, [at])


def load(builder: ir.IRBuilder, pointer: ir.Value) -> ir.Value:
    """LANES floats from memory of any alignment."""
    vector = builder.load(builder.bitcast(pointer, VECTOR.as_pointer()))
    vector.align = 4
    return vector


def store(builder: ir.IRBuilder, vector: ir.Value, pointer: ir.Value) -> None:
    """LANES floats to memory of any alignment."""
    builder.store(vector, builder.bitcast(pointer, VECTOR.as_pointer())).align = 4


def fetch(builder: ir.IRBuilder, pointer: ir.Value) -> None:
    """Begins to bring memory near, which need not exist."""
    byte, integer = ir.IntType(8).as_pointer(), ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [byte, integer, integer, integer])
    function = builder.module.declare_intrinsic("llvm.prefetch", [byte], kind)
    read, keep, data = (ir.Constant(integer, value) for value in (0, 3, 1))
    builder.call(function, [builder.bitcast(pointer, byte), read, keep, data])


def constant(value: float) -> ir.Constant:
    """The value in every lane."""
    return ir.Constant(VECTOR, [float(value)] * LANES)


def spread(builder: ir.IRBuilder, scalar: ir.Value) -> ir.Value:
    """The scalar in every lane."""
    undefined = ir.Constant(VECTOR, ir.Undefined)
    first = builder.insert_element(undefined, scalar, ir.Constant(_INDEX, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(_INDEX, LANES), [0] * LANES))


def add_product(builder: ir.IRBuilder, total: ir.Value, a: ir.Value, b: ir.Value) -> ir.Value:
    """A sum with one product more: total + a·b."""
    return builder.fadd(total, builder.fmul(a, b, flags=_FUSED), flags=_FUSED)


def transform(builder: ir.IRBuilder, matrices: Sequence[np.ndarray], vectors: Sequence[ir.Value]) -> list[ir.Value]:
    """Constant matrices applied one after the other to a list of vectors; zeros and ones cost nothing."""
    for matrix in matrices:
        vectors = [_weighted_sum(builder, row, vectors) for row in matrix]
    return vectors


def transform_grid(
    builder: ir.IRBuilder, matrices: Sequence[np.ndarray], grid: Sequence[Sequence[ir.Value]]
) -> list[list[ir.Value]]:
    """`transform` of every column of a grid, then of every row."""
    columns = [transform(builder, matrices, column) for column in zip(*grid, strict=True)]
    return [transform(builder, matrices, row) for row in zip(*columns, strict=True)]


def _weighted_sum(builder: ir.IRBuilder, weights: np.ndarray, vectors: Sequence[ir.Value]) -> ir.Value:
    # Weights of 1 first: the sum then starts without a product.
    terms = sorted(((w, v) for w, v in zip(weights, vectors, strict=True) if w != 0), key=lambda term: term[0] != 1)
    weight, total = terms.pop(0)
    if weight != 1:
        total = builder.fmul(constant(weight), total, flags=_FUSED)
    for weight, vector in terms:
        if weight == 1:
            total = builder.fadd(total, vector, flags=_FUSED)
        elif weight == -1:
            total = builder.fsub(total, vector, flags=_FUSED)
        else:
            total = add_product(builder, total, constant(weight), vector)
    return total
