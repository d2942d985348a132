# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest
import torch

from dvmvs_core.runtime.threads import in_background


def test_what_runs_in_the_background_comes_back_in_order():
    began, goes_on, seen = threading.Event(), threading.Event(), []

    def first():
        began.set()
        assert goes_on.wait(10)
        seen.append("first")
        return threading.get_ident()

    one, other = in_background(first), in_background(seen.append, "second")
    assert began.wait(10) and not one.done() and not other.done(), "the caller went on"
    goes_on.set()
    assert one.result(10) != threading.get_ident()
    other.result(10)
    assert seen == ["first", "second"]


def test_an_error_in_the_background_reaches_who_waits_and_does_no_more():
    with pytest.raises(ZeroDivisionError):
        in_background(lambda: 1 / 0).result(10)
    assert in_background(abs, -3).result(10) == 3


def test_torch_has_as_many_threads_there():
    before = torch.get_num_threads()
    try:
        for count in (1, 3, 2):
            torch.set_num_threads(count)
            assert in_background(torch.get_num_threads).result(10) == count
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_has_threads_of_its_own():
    assert in_background(abs, -1).result(10) == 1
    program = """
import os, sys, torch
from dvmvs_core.runtime.threads import in_background, parallel_rows
torch.set_num_threads(2)
rows = []
in_background(abs, -1).result(), parallel_rows(lambda first, last: rows.append(last), 2)
child = os.fork()
if child == 0:
    parallel_rows(lambda first, last: rows.append(last), 2)
    os._exit(in_background(abs, -7).result(10) if len(rows) == 4 else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert subprocess.run([sys.executable, "-c", program], timeout=60, check=False).returncode == 7
