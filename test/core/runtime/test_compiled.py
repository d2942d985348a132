# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Compiled code that is kept on disk never outlives the sources that it was made of."""

from __future__ import annotations

import pytest

pytest.importorskip("numba")

from dvmvs_core.runtime import compiled as module  # noqa: E402
from dvmvs_core.runtime.compiled import SOURCES, compiled  # noqa: E402


def _twice(x):
    return 2 * x


def test_a_change_of_any_source_file_compiles_anew(tmp_path, monkeypatch):
    monkeypatch.setattr("numba.config.CACHE_DIR", str(tmp_path))

    def loaded_from_disk() -> bool:
        dispatcher = compiled(_twice)
        assert dispatcher(3) == 6
        return bool(dispatcher.stats.cache_hits)

    assert {"vectors.py", "polynomials.py", "winograd_kernels.py"} <= {name for name, *_ in SOURCES}
    assert not loaded_from_disk()
    assert loaded_from_disk()
    (name, date, size), *others = SOURCES
    monkeypatch.setattr(module, "SOURCES", ((name, date + 1, size), *others))
    assert not loaded_from_disk()
    assert loaded_from_disk()
