# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""How work is shared among threads of the CPU.

The compiled loops hold no lock, so plain threads do: they sleep between calls, where the pools of OpenMP and of numba
would spin or wait for one another to leave a core.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch

_pool: ThreadPoolExecutor | None = None
_pool_threads = 0
_background = ThreadPoolExecutor(1, thread_name_prefix="dvmvs-background")


def _forget_threads() -> None:
    """Begin anew in a child process, which a fork leaves without its parent's threads."""
    global _background, _pool
    _background, _pool = ThreadPoolExecutor(1, thread_name_prefix="dvmvs-background"), None


os.register_at_fork(after_in_child=_forget_threads)


def parallel_rows(kernel: Callable, rows: int, *arguments) -> None:
    """Call ``kernel(first, last, *arguments)`` for ranges that cover 0…rows, one a thread, and wait for all."""
    threads = max(1, min(torch.get_num_threads(), rows))
    edges = [rows * i // threads for i in range(threads + 1)]
    others = [_workers(threads).submit(kernel, *part, *arguments) for part in zip(edges[1:-1], edges[2:], strict=True)]
    kernel(0, edges[1], *arguments)
    for other in others:
        other.result()


def in_background(function: Callable, *arguments) -> Future:
    """Call a function in a thread beside, after what was given here before, and return at once.

    There, too, torch uses as many threads as here.
    """
    return _background.submit(_with_threads, torch.get_num_threads(), function, arguments)


def _with_threads(count: int, function: Callable, arguments: tuple) -> Any:
    if torch.get_num_threads() != count:
        torch.set_num_threads(count)
    return function(*arguments)


def _workers(threads: int) -> ThreadPoolExecutor:
    global _pool, _pool_threads
    if _pool is None or _pool_threads < threads:
        _pool, _pool_threads = ThreadPoolExecutor(threads, thread_name_prefix="dvmvs-kernel"), threads
    return _pool


@contextmanager
def one_thread() -> Iterator[None]:
    """Have torch compute on the calling thread alone.

    Temporal fusion and edge sharpening are some hundred operators on 80,000 numbers: 14.4 ms of a keyframe with two
    threads, which sleep while they wait (see `process.share_cores`), and 8.1 with one.
    """
    count = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(count)
