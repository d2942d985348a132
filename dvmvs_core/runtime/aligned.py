# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

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
