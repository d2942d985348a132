# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The fused kernels compile for the chips that robots and servers have."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

# Not imported here: what other tests have interpreted, Triton itself included, is settled at the first import.
if importlib.util.find_spec("triton") is None:
    pytest.skip("Triton is not installed: pip install triton", allow_module_level=True)

CHIPS = (80, 87, 90)
"""Compute capabilities of A100, Orin, and H100."""

PROGRAM = """
import json, sys
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from dvmvs_core.matching.gpu import triton_kernels as matching
from dvmvs_core.runtime import triton_sweep as networks

FLOATS = {"margin", "scale", "min_norm", "epsilon", "next_penalty"}
sweep = ("reference", "measurements", "matrices", "inverse_depths", "costs")
sums = ("reference", "views", "matrices", "inverse_depths", "totals", "counts")
CASES = [
    (networks._sweep_kernel, dict.fromkeys(sweep, "*fp32"),
     {"frames": 1, "masked": True, "block_channels": 16, "block": networks.PIXELS}, 4),
    (networks._sweep_kernel, dict.fromkeys(sweep, "*fp32"),
     {"frames": 7, "masked": False, "block_channels": 32, "block": networks.PIXELS}, 4),
    *((matching._sweep_kernel, dict.fromkeys(sums, "*fp32") | {"reference": "*i8", "views": "*i8"},
       {"frames": frames, "channels": channels, "block": matching.CELLS}, 4)
      for frames, channels in ((5, 8), (12, 64))),
    *((matching._paths_kernel, dict.fromkeys(("scores", "penalties", "paths"), "*fp32"),
       {"longest": 160, "block": block}, 1) for block in (32, 64)),
    (matching._median_kernel,
     {"in_order": "*i32", "weights_in_order": "*fp32", "weights": "*fp32", "medians": "*i32"},
     {"entries": 61, "block": matching.WARP}, 1),
]
compiled = {}
for chip in json.loads(sys.argv[1]):
    for number, (kernel, pointers, constants, warps) in enumerate(CASES):
        names = kernel.arg_names
        fixed = {p.name for p in kernel.params if p.is_constexpr}
        assert fixed == set(constants), fixed
        kinds = {n: "fp32" if n in FLOATS else "i32" for n in names} | pointers | dict.fromkeys(constants, "constexpr")
        values = {(names.index(n),): value for n, value in constants.items()}
        source = ASTSource(fn=kernel, signature={n: kinds[n] for n in names}, constexprs=values)
        code = triton.compile(source, target=GPUTarget("cuda", chip, 32), options={"num_warps": warps}).asm
        assert f".target sm_{chip}" in code["ptx"], code["ptx"][:500]
        compiled[f"{chip} {number}"] = len(code["cubin"])
print(json.dumps(compiled))
"""


def test_it_compiles(tmp_path):
    """In a process of its own: whether Triton interprets or compiles is settled when the kernel is imported."""
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(CHIPS)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        env={"TRITON_CACHE_DIR": str(tmp_path), "PATH": "/usr/bin:/bin"},
    )
    assert result.returncode == 0, result.stderr
    compiled = json.loads(result.stdout)
    assert len(compiled) == 7 * len(CHIPS) and min(compiled.values()) > 1000
