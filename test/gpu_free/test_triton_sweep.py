# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The fused plane sweep compiles for the chips that robots and servers have."""

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
from dvmvs_core.runtime.triton_sweep import PIXELS, _sweep_kernel

names = _sweep_kernel.arg_names
fixed = {p.name for p in _sweep_kernel.params if p.is_constexpr}
pointers = ("reference", "measurements", "matrices", "inverse_depths", "costs")
compiled = {}
for chip in json.loads(sys.argv[1]):
    for channels, frames, masked in ((16, 1, True), (32, 7, False)):
        constants = {"frames": frames, "masked": masked, "block_channels": channels, "block": PIXELS}
        assert fixed == set(constants), fixed
        signature = {n: "constexpr" if n in constants else "*fp32" if n in pointers else "i32" for n in names}
        values = {(names.index(n),): value for n, value in constants.items()}
        source = ASTSource(fn=_sweep_kernel, signature=signature, constexprs=values)
        code = triton.compile(source, target=GPUTarget("cuda", chip, 32)).asm
        assert f".target sm_{chip}" in code["ptx"], code["ptx"][:500]
        compiled[f"{chip} {frames}"] = len(code["cubin"])
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
    assert len(compiled) == 2 * len(CHIPS) and min(compiled.values()) > 1000
