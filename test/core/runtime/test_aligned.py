# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Memory for kernels begins with a line of the cache."""

from __future__ import annotations

import numpy as np

from dvmvs_core.runtime.aligned import LINE_BYTES, aligned_zeros


def test_aligned_at_every_size():
    for size in (1, 3, 17, 1000, 2_000_000):
        zeros = aligned_zeros(size, 3)
        assert zeros.ctypes.data % LINE_BYTES == 0
        assert zeros.shape == (size, 3) and zeros.dtype == np.float32 and not zeros.any()
