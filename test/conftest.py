# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Data that some tests need and that the repository does not carry."""

from __future__ import annotations

import importlib
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).parent))  # of the modules that tests share

# A busy machine is no failure: examples may take any time.
settings.register_profile("any_time", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any_time")

# The networks of most tests are tiny: a second thread costs more in waiting than it brings, most of all on a busy
# machine. Set before anything loads torch, and inherited by the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session", autouse=True)
def interpreted_triton() -> None:
    """Interpret Triton's kernels where there is no GPU: the first import settles it, whichever test that is in."""
    import torch

    if not torch.cuda.is_available():
        os.environ.setdefault("TRITON_INTERPRET", "1")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """A file's tests stay in one process, since they share nodes, and so do all of test/ros.

    Nodes of two test files at once now and then do not hear one another; and where one process waits for nodes, another
    has work that does not wait.
    """
    from xdist.scheduler import LoadFileScheduling

    class RosTogether(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "test/ros" if nodeid.startswith("test/ros/") else super()._split_scope(nodeid)

    return RosTogether(config, log)


INTO_THE_LOG = """
import os, sqlite3, sys
database = sqlite3.connect(sys.argv[1])
database.execute("PRAGMA journal_mode = wal")
database.execute("PRAGMA wal_autocheckpoint = 0")
rows = sqlite3.connect(sys.argv[2]).execute("SELECT * FROM messages WHERE id > " + sys.argv[3])
for row in rows:
    database.execute("INSERT INTO messages VALUES (?, ?, ?, ?)", row)
    database.commit()
os._exit(0)  # as a recorder that is killed: nothing is moved from the log to the file
"""


def _folder(variable: str, needed: str) -> Path:
    value = os.environ.get(variable)
    if not value:
        pytest.skip(f"{variable} is not set: it names the folder that holds {needed}")
    folder = Path(value)
    if not (folder / needed).exists():
        pytest.skip(f"{variable}={value} holds no {needed}")
    return folder


@pytest.fixture(scope="session")
def hololens() -> Path:
    """The real test sequence: a scene folder of 200 HoloLens frames."""
    return _folder("DVMVS_TEST_DATA", "hololens-000") / "hololens-000"


@pytest.fixture(scope="session")
def reference() -> Path:
    """Stand-in weights and golden figures of the published method."""
    return _folder("DVMVS_REFERENCE", "goldens")


@pytest.fixture(scope="session")
def failing_gpu() -> ModuleType:
    """The module that makes a GPU fail: its `WARNINGS` are the ways, its file a script for other processes."""
    return importlib.import_module("failing_gpu")


@pytest.fixture(scope="session")
def into_the_log() -> Callable[[Path, int], None]:
    """A function that moves the rows of a .db3 behind the first few into its write-ahead log, for good."""

    def move(file: Path, kept: int) -> None:
        whole = file.with_suffix(".whole")
        shutil.copy(file, whole)
        with sqlite3.connect(file) as database:
            database.execute("DELETE FROM messages WHERE id > ?", (kept,))
            database.commit()
            database.execute("VACUUM")
        subprocess.run((sys.executable, "-c", INTO_THE_LOG, str(file), str(whole), str(kept)), check=True)
        whole.unlink()
        file.with_name(f"{file.name}-shm").unlink(missing_ok=True)

    return move
