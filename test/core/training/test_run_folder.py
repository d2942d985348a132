# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Nothing that was written well is lost: full disks, half files, logs of steps that are done again."""

from __future__ import annotations

import json
import resource
from contextlib import contextmanager

import pytest
import torch

from dvmvs_core.errors import DataError
from dvmvs_core.training.run_folder import LOG_NAME, RunFolder


@contextmanager
def small_files(size: int):
    """Every file ends at a few bytes, as on a full disk; no longer than needed, since pytest may write to one."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_full_disk_leaves_the_last_good_checkpoint(tmp_path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.save({"step": 1, "weights": torch.zeros(10_000)})
    with small_files(10_000), pytest.raises(DataError, match="the checkpoint before it is still whole"):
        folder.save({"step": 2, "weights": torch.ones(10_000)})
    state = folder.load()
    assert state["step"] == 1
    assert not state["weights"].any()
    assert [path.name for path in folder.path.iterdir()] == ["last.pt"]


def test_log_that_cannot_be_written_ends_nothing(tmp_path, caplog) -> None:
    folder = RunFolder(tmp_path)
    (tmp_path / LOG_NAME).mkdir()
    folder.log({"step": 1})
    assert "cannot write" in caplog.text


def test_log_forgets_what_will_be_done_again(tmp_path) -> None:
    folder = RunFolder(tmp_path)
    for step in (1, 2, 3):
        folder.log({"step": step})
    with (tmp_path / LOG_NAME).open("ab") as log:
        log.write(b'{"step": "x"}\n{"step": {}}\n[1]\n\xff\xfe\n{"step": 4, "lo')
    folder.forget_after(2)
    assert [json.loads(line) for line in (tmp_path / LOG_NAME).read_text().splitlines()] == [{"step": 1}, {"step": 2}]


def test_folder_that_cannot_be_made_is_named(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot make the run folder"):
        RunFolder(tmp_path / "file" / "run")
