"""Compiled code that is kept on disk never outlives the sources that it was made of."""

from __future__ import annotations

import pytest

pytest.importorskip("numba")

from dvmvs_core.model.fast import compiled as module  # noqa: E402
from dvmvs_core.model.fast.compiled import SOURCES, compiled  # noqa: E402


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
