"""Memory that begins with a line of the cache, so that no vector of a kernel lies across two of them."""

from __future__ import annotations

import math

import numpy as np

LINE_BYTES = 64


def aligned_zeros(*shape: int) -> np.ndarray:
    """Zeros in float32, whose first element begins a line of the cache."""
    size, item = math.prod(shape), np.dtype(np.float32).itemsize
    memory = np.zeros(size + LINE_BYTES // item, np.float32)
    start = -memory.ctypes.data % LINE_BYTES // item
    return memory[start : start + size].reshape(shape)
