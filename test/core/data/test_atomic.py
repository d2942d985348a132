# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

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
