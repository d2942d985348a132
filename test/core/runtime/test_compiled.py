# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Compiled code that is kept on disk never outlives the sources that it was made of, and nothing is compiled twice."""

from __future__ import annotations

import importlib
import os
import pkgutil
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("numba")

from numba.core.registry import CPUDispatcher  # noqa: E402

from dvmvs_core.runtime.compiled import CompiledLoop, compiled  # noqa: E402
from dvmvs_core.runtime.model_cache import announce_compiling  # noqa: E402


def double(numbers):
    for i in range(len(numbers)):
        numbers[i] *= 2


def halve(numbers):
    for i in range(len(numbers)):
        numbers[i] /= 2


def doubled(loop):
    numbers = np.arange(3.0)
    loop(numbers)
    return numbers.tolist()


@pytest.fixture()
def kept(tmp_path, monkeypatch):
    """The folder of a loop that was compiled and kept: an index, the code and a checksum."""
    monkeypatch.setattr("numba.config.CACHE_DIR", str(tmp_path))
    assert doubled(compiled(double)) == [0, 2, 4]
    (folder,) = tmp_path.iterdir()
    assert {path.suffix for path in folder.iterdir()} == {".nbi", ".nbc", ".sha256"}
    return folder


def test_it_is_kept_on_disk(kept, caplog):
    before = {path: path.stat().st_mtime_ns for path in kept.iterdir()}
    assert doubled(compiled(double)) == [0, 2, 4]
    assert {path: path.stat().st_mtime_ns for path in kept.iterdir()} == before
    assert not caplog.records


@pytest.mark.parametrize("suffix", [".nbi", ".nbc"])
@pytest.mark.parametrize("harm", [lambda b: b"", lambda b: b[: len(b) // 2], lambda b: b[:-9] + b"?" + b[-8:]])
def test_a_damaged_file_is_compiled_again_with_one_line(kept, caplog, suffix, harm):
    (path,) = kept.glob(f"*{suffix}")
    path.write_bytes(harm(path.read_bytes()))
    assert doubled(compiled(double)) == [0, 2, 4]
    assert len(caplog.records) == 1 and "are damaged" in caplog.text
    caplog.clear()
    assert doubled(compiled(double)) == [0, 2, 4]
    assert not caplog.records


def test_many_damaged_files_of_a_folder_are_one_line(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("numba.config.CACHE_DIR", str(tmp_path))
    for function in (double, halve):
        doubled(compiled(function))
    for path in tmp_path.rglob("*.nb[ic]"):
        path.write_bytes(b"")
    caplog.clear()
    assert doubled(compiled(double)) == [0, 2, 4] and doubled(compiled(halve)) == [0, 0.5, 1]
    assert len(caplog.records) == 1 and "are damaged" in caplog.text


@pytest.mark.parametrize("suffix", (".nbi", ".nbc", ".sha256"))
def test_a_device_in_place_of_a_file_is_compiled_again_with_one_line(kept, caplog, suffix):
    (path,) = kept.glob(f"*{suffix}")
    path.unlink()
    os.mkfifo(path)
    assert doubled(compiled(double)) == [0, 2, 4]
    assert len(caplog.records) == 1 and "are damaged" in caplog.text
    assert path.is_file()


def test_the_first_start_says_once_that_it_compiles(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("numba.config.CACHE_DIR", str(tmp_path))
    announce_compiling.cache_clear()
    for _ in range(2):
        doubled(compiled(double))
    (folder,) = tmp_path.iterdir()
    for path in folder.iterdir():
        path.unlink()
    doubled(compiled(double))
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert "on the first start only" in caplog.text
    announce_compiling.cache_clear()
    caplog.clear()
    doubled(compiled(double))  # it is kept by now
    assert not caplog.records


def test_what_cannot_be_kept_still_runs(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("numba.config.CACHE_DIR", str(tmp_path))
    loop = compiled(double)
    (folder,) = tmp_path.iterdir()
    folder.rmdir()
    folder.write_text("a file where the folder was")
    assert doubled(loop) == [0, 2, 4]
    (record,) = (record for record in caplog.records if record.levelname == "WARNING")
    assert "cannot be kept" in record.getMessage()


def _modules_with_loops():
    for package in ("runtime", "matching"):
        folder = importlib.util.find_spec(f"dvmvs_core.{package}")
        for found in pkgutil.iter_modules(folder.submodule_search_locations):
            if found.name != "triton_sweep":
                module = importlib.import_module(f"dvmvs_core.{package}.{found.name}")
                if any(isinstance(value, CompiledLoop) for value in vars(module).values()):
                    yield module


def test_loops_call_none_of_other_files():
    """Numba looks at the date of a loop's own file, while what it keeps holds all that the loop calls."""
    modules = list(_modules_with_loops())
    assert len(modules) >= 3
    for module in modules:
        for loop in vars(module).values():
            if isinstance(loop, CompiledLoop) and loop.function.__module__ == module.__name__:
                code = loop.function.__code__
                called = (loop.function.__globals__.get(name) for name in code.co_names)
                foreign = [f.__name__ for f in called if isinstance(f, CPUDispatcher)]
                foreign = [name for name in foreign if vars(module)[name].__module__ != module.__name__]
                assert not foreign, f"{module.__name__}.{code.co_name} calls {foreign} of another file"


LOOPS = """
import sys
from dvmvs_core.runtime.compiled import CompiledLoop

def signatures():
    found = {}
    for name, module in list(sys.modules.items()):
        if name.startswith("dvmvs_core"):
            loops = [value for value in vars(module).values() if isinstance(value, CompiledLoop)]
            found.update({loop.function.__name__: len(loop.signatures) for loop in loops})
    return found
"""

KEYFRAMES = (
    LOOPS
    + """
from dvmvs_core.runtime.wall_frames import wall_frames
from dvmvs_core.config import EngineConfig
from dvmvs_core.engine import DepthEngine
from dvmvs_core.matching.warm_up import start_compiling
from dvmvs_core.matching.choose_matcher import MATCHING_PRESETS

engine = DepthEngine.from_weights("small", config=EngineConfig(confidence=False, device="cpu"))
start_compiling(MATCHING_PRESETS[engine.matching]).join()
compiled = signatures()
for _, frame in zip(range(4), wall_frames((256, 320))):
    engine.step(frame)
assert sum(n for n in compiled.values()) >= 12, compiled
assert signatures() == compiled and set(compiled.values()) <= {0, 1}, (compiled, signatures())
"""
)


@pytest.mark.slow
def test_keyframes_find_every_loop_compiled_once(tmp_path):
    done = subprocess.run([sys.executable, "-c", KEYFRAMES], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
