"""Memory for kernels begins with a line of the cache."""

from __future__ import annotations

import numpy as np

from dvmvs_core.model.fast.aligned import LINE_BYTES, aligned_zeros


def test_aligned_at_every_size():
    for size in (1, 3, 17, 1000, 2_000_000):
        zeros = aligned_zeros(size, 3)
        assert zeros.ctypes.data % LINE_BYTES == 0
        assert zeros.shape == (size, 3) and zeros.dtype == np.float32 and not zeros.any()
