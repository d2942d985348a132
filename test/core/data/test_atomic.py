# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

from __future__ import annotations

import errno
import signal
import subprocess
import sys

import pytest

from dvmvs_core.atomic import only_writer, replacing, unfinished_folder


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


def test_a_full_disk_is_said_with_the_name_that_was_asked_for_and_no_other(tmp_path):
    path = tmp_path / "figures.json"
    with pytest.raises(OSError) as error, replacing(path) as unfinished:
        raise OSError(errno.ENOSPC, "No space left on device", str(unfinished))
    assert str(error.value) == f"[Errno {errno.ENOSPC}] No space left on device: '{path}'"


def test_what_a_killed_writer_left_is_cleared_by_the_next(tmp_path):
    path = tmp_path / "last.pt"
    killed = (
        "import sys, os, signal; from pathlib import Path; from dvmvs_core.atomic import replacing, unfinished_folder"
    )
    write = "\nwith {}(Path(sys.argv[1])) as out:\n    {}\n    os.kill(os.getpid(), signal.SIGKILL)"
    ways = {"replacing": "out.write_text('half')", "unfinished_folder": "(out / 'half').write_text('half')"}
    left = set()
    for way, act in ways.items():
        process = subprocess.run([sys.executable, "-c", killed + write.format(way, act), str(path)])
        assert process.returncode == -signal.SIGKILL
        (leftover,) = tmp_path.iterdir()  # the second writer cleared what the first left
        left.add(leftover)
    assert len(left) == 2
    with replacing(path) as unfinished:
        unfinished.write_text("whole")
        assert [file.name for file in tmp_path.iterdir()] == [unfinished.name], "those of dead processes are gone"
    assert [file.name for file in tmp_path.iterdir()] == ["last.pt"]


def test_what_another_writes_is_left_alone(tmp_path):
    path = tmp_path / "figures.json"
    with replacing(path) as first:
        first.write_text("first")
        with replacing(path) as second:
            second.write_text("second")
            assert first.exists()
        assert path.read_text() == "second"
        with unfinished_folder(path) as folder:
            (folder / "x").write_text("x")
            assert first.exists()
    assert path.read_text() == "first"
    assert [file.name for file in tmp_path.iterdir()] == ["figures.json"]


def test_a_folder_has_one_writer(tmp_path):
    with only_writer(tmp_path) as alone:
        assert alone
        with only_writer(tmp_path) as also:
            assert not also
    with only_writer(tmp_path) as alone:
        assert alone


def test_a_name_with_signs_of_patterns_clears_its_own_only(tmp_path):
    other = tmp_path / ".figures1.json.unfinished-0.json"
    other.write_text("another's")
    with replacing(tmp_path / "figures[1].json") as unfinished:
        unfinished.write_text("x")
    assert other.exists()
