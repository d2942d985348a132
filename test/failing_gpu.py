# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""A machine whose GPU fails, on one that has none.

    python test/failing_gpu.py "capture" -m dvmvs_core predict ...

What runs on the GPU runs on the CPU here, up to the point where it fails.
"""

from __future__ import annotations

import itertools
import runpy
import sys
from collections.abc import Callable

import torch

WARNINGS = {
    "no driver": "cuda cannot be used (AssertionError: Torch not compiled with CUDA enabled)",
    "capture": "CUDA graphs cannot be used (RuntimeError: CUDA error: operation not permitted when stream is",
    "memory at start": "cpu has too little free memory for",
    "memory later": "cpu has too little free memory for",
    "wrong numbers": "CUDA graphs cannot be used (DeviceError: depth differs from the plain network's by",
}
"""Ways to fail, and the beginning of the one line that is said of each."""

CALLS_BEFORE = 20
"""Replays before memory runs out later: those of the check and of the warm-up, and some frames."""

_OUT_OF_MEMORY = "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 7.40 GiB."


def fail(kind: str, replace: Callable[[object, str, object], None] = setattr) -> None:
    """Make this process believe in a GPU that fails in one of the WARNINGS."""
    from dvmvs_core.runtime import choose_runner as choose
    from dvmvs_core.runtime import cuda_runner
    from dvmvs_core.runtime.cuda_graph import CudaGraphs

    assert kind in WARNINGS
    replace(torch.cuda, "is_available", lambda: True)
    replace(torch.cuda, "device_count", lambda: 1)
    if kind == "no driver":
        return
    cuda_runner_of = choose._cuda_runner
    replace(
        choose, "_cuda_runner", lambda network, device, config: cuda_runner_of(network, torch.device("cpu"), config)
    )
    run, calls = CudaGraphs.__call__, itertools.count()

    def capture_error(_graphs, *_inputs):
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nCUDA kernel errors might ...")

    def no_memory(*_arguments):
        raise torch.OutOfMemoryError(_OUT_OF_MEMORY)

    def no_memory_later(graphs, *inputs):
        return run(graphs, *inputs) if next(calls) < CALLS_BEFORE else no_memory()

    def wrong(graphs, *inputs):
        return tuple(1.5 * output for output in run(graphs, *inputs))

    if kind == "memory at start":
        replace(cuda_runner.CudaRunner, "__init__", no_memory)
    else:
        replace(
            CudaGraphs,
            "__call__",
            {"capture": capture_error, "memory later": no_memory_later, "wrong numbers": wrong}[kind],
        )


if __name__ == "__main__":
    kind, _, module, *arguments = sys.argv[1:]
    fail(kind)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
