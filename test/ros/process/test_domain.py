# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack

import pytest

from dvmvs_ros.process.domain import DOMAINS, DomainError, own_domain

HOLDER = """
from dvmvs_ros.process.domain import own_domain
with own_domain() as domain:
    print(domain, flush=True)
    input()
"""


def test_two_holders_have_two_domains():
    with own_domain() as first, own_domain() as second:
        assert first != second
        assert {first, second} <= set(DOMAINS)


def test_a_domain_of_another_process_is_left_alone_until_that_dies():
    other = subprocess.Popen([sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        theirs = int(other.stdout.readline())
        with ExitStack() as held:
            ours = []
            with pytest.raises(DomainError, match="all taken"):
                while True:
                    ours.append(held.enter_context(own_domain()))
            assert theirs not in ours
            other.kill()
            other.wait()
            assert held.enter_context(own_domain()) == theirs
    finally:
        other.kill()
        other.communicate()
