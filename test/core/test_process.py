# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Threads that wait sleep and share a heap, and what is free goes back, unless the environment says otherwise.

The heap is that of the process, so each test of it has a process of its own.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from dvmvs_core.process import share_cores


def test_waiting_threads_sleep_unless_the_environment_says_otherwise(monkeypatch):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    share_cores()
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    share_cores()
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"


needs_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library has other heaps")

HEAPS = """
import ctypes, sys, threading
from dvmvs_core.process import share_heaps
share_heaps()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
together = threading.Barrier(8)
def take():
    together.wait()
    for _ in range(2000):
        libc.malloc(5000)
    together.wait()
threads = [threading.Thread(target=take) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
libc.malloc_info(0, ctypes.c_void_p.in_dll(libc, "stdout"))
libc.fflush(None)
"""

RETURNED = """
import ctypes
from dvmvs_core.process import resident_bytes, return_free_memory
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = libc.memset.argtypes = libc.free.argtypes = None
blocks = [ctypes.c_void_p(libc.malloc(ctypes.c_size_t(50_000))) for _ in range(2000)]
for block in blocks: libc.memset(block, 1, ctypes.c_size_t(50_000))
for block in blocks[:-1]: libc.free(block)  # the last one keeps the heap from shrinking
held = resident_bytes()
return_free_memory()
print(held - resident_bytes())
"""


def run(program: str, **environment: str) -> str:
    environment = {**{key: value for key, value in os.environ.items() if key != "MALLOC_ARENA_MAX"}, **environment}
    return subprocess.run(
        [sys.executable, "-c", program], env=environment, check=True, capture_output=True, text=True
    ).stdout


@needs_glibc
def test_threads_share_a_heap_unless_the_environment_says_otherwise():
    assert run(HEAPS).count("<heap nr=") == 1
    assert run(HEAPS, MALLOC_ARENA_MAX="4").count("<heap nr=") > 1


@needs_glibc
def test_what_is_free_goes_back():
    assert int(run(RETURNED)) > 80e6
