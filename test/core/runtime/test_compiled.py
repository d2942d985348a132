# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Compiled code that is kept on disk never outlives the sources that it was made of."""

from __future__ import annotations

import importlib
import pkgutil

import pytest

pytest.importorskip("numba")

from numba.core.registry import CPUDispatcher  # noqa: E402

from dvmvs_core.runtime.compiled import compiled  # noqa: E402


def _twice(x):
    return 2 * x


def test_it_is_kept_on_disk(tmp_path, monkeypatch):
    monkeypatch.setattr("numba.config.CACHE_DIR", str(tmp_path))
    assert compiled(_twice)(3) == 6
    again = compiled(_twice)
    assert again(3) == 6 and again.stats.cache_hits


def _modules_with_kernels():
    for package in ("runtime", "matching"):
        folder = importlib.util.find_spec(f"dvmvs_core.{package}")
        for found in pkgutil.iter_modules(folder.submodule_search_locations) if folder else ():
            if found.name != "triton_sweep":
                module = importlib.import_module(f"dvmvs_core.{package}.{found.name}")
                if any(isinstance(value, CPUDispatcher) for value in vars(module).values()):
                    yield module


def test_kernels_call_none_of_other_files():
    """Numba looks at the date of a kernel's own file, while what it keeps holds all that the kernel calls."""
    modules = list(_modules_with_kernels())
    assert len(modules) >= 3
    for module in modules:
        for kernel in vars(module).values():
            if isinstance(kernel, CPUDispatcher) and kernel.py_func.__module__ == module.__name__:
                called = (kernel.py_func.__globals__.get(name) for name in kernel.py_func.__code__.co_names)
                foreign = [
                    f.__name__ for f in called if isinstance(f, CPUDispatcher) and f.__module__ != module.__name__
                ]
                assert not foreign, f"{module.__name__}.{kernel.__name__} calls {foreign} of another file"
