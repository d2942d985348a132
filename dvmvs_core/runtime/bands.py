# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Rows of an image shared out among as many threads as torch uses.

The kernels hold no lock, so plain threads do: they sleep between calls, where the pools of OpenMP and of numba would
spin or wait for one another's cores.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch

_pool: ThreadPoolExecutor | None = None
_pool_threads = 0


def in_bands(kernel: Callable, rows: int, *arguments) -> None:
    """Calls ``kernel(first, last, *arguments)`` for bands that cover 0…rows, one a thread, and waits for all."""
    threads = max(1, min(torch.get_num_threads(), rows))
    edges = [rows * i // threads for i in range(threads + 1)]
    others = [_workers(threads).submit(kernel, *band, *arguments) for band in zip(edges[1:-1], edges[2:], strict=True)]
    kernel(0, edges[1], *arguments)
    for other in others:
        other.result()


def _workers(threads: int) -> ThreadPoolExecutor:
    global _pool, _pool_threads
    if _pool is None or _pool_threads < threads:
        _pool, _pool_threads = ThreadPoolExecutor(threads, thread_name_prefix="dvmvs-kernel"), threads
    return _pool
