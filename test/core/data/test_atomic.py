from __future__ import annotations

import pytest

from dvmvs_core.data.atomic import replacing


def test_the_file_is_there_once_the_block_has_ended_well(tmp_path):
    path = tmp_path / "new" / "figures.json"
    with replacing(path) as unfinished:
        unfinished.write_text("whole")
        assert not path.exists()
        assert unfinished.suffix == ".json"
    assert path.read_text() == "whole"
    assert [file.name for file in path.parent.iterdir()] == ["figures.json"]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "figures.json"
    path.write_text("old")
    with pytest.raises(RuntimeError), replacing(path) as unfinished:
        unfinished.write_text("ha")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["figures.json"]
