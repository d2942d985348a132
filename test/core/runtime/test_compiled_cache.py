# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What numba keeps on disk, damaged: compiled again, once, with a line that says so."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("numba")

PROGRAM = """
import logging, sys
logging.basicConfig(stream=sys.stderr)
from dvmvs_core.runtime.compiled import compiled

@compiled
def add(a, b):
    return a + b

@compiled
def double(a):
    return 2 * a

assert add(1, 2) == 3 and double(4) == 8
print(sum(add.stats.cache_hits.values()), sum(double.stats.cache_hits.values()))
"""


def run(folder: Path) -> tuple[str, list[str]]:
    program = folder / "program.py"
    if not program.exists():
        program.write_text(PROGRAM)
    environment = {
        **os.environ,
        "NUMBA_CACHE_DIR": str(folder / "cache"),
        "PYTHONPATH": str(Path(__file__).parents[3]),
    }
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), [line for line in done.stderr.splitlines() if "damaged" in line]


@pytest.mark.parametrize("suffix", (".nbi", ".nbc"))
@pytest.mark.parametrize("content", (None, b"", b"not a pickle at all", b"\x80\x04\x95\xff\xff\xff"))
def test_damaged_files_are_compiled_again_once(tmp_path, suffix, content):
    assert run(tmp_path) == ("0 0", [])
    assert run(tmp_path) == ("1 1", []), "the second start finds what the first kept"
    files = [path for path in (tmp_path / "cache").rglob("*") if path.suffix == suffix]
    assert len(files) == 2
    for file in files:
        whole = file.read_bytes()
        file.write_bytes(whole[: len(whole) // 2] if content is None else content)
    hits, said = run(tmp_path)
    assert hits == "0 0"
    assert len(said) == 1 and "compiled again" in said[0]
    assert run(tmp_path) == ("1 1", [])
