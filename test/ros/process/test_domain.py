# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

from __future__ import annotations

import socket
import subprocess
import sys
from contextlib import ExitStack

import pytest

from dvmvs_ros.process import domain
from dvmvs_ros.process.domain import DOMAINS, DomainError, own_domain

HOLDER = """
import sys
from dvmvs_ros.process import domain
domain.FIRST_PORT = int(sys.argv[1])
with domain.own_domain() as number:
    print(number, flush=True)
    input()
"""


@pytest.fixture
def first_port(monkeypatch) -> int:
    """A range of ports that stands for other domains than those of this machine: a test may take them all."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1] % 20_000 + 10_000
    monkeypatch.setattr(domain, "FIRST_PORT", port)
    return port


def test_two_holders_have_two_domains():
    with own_domain() as first, own_domain() as second:
        assert first != second
        assert {first, second} <= set(DOMAINS)


def test_a_domain_of_another_process_is_left_alone_until_that_dies(first_port):
    command = [sys.executable, "-c", HOLDER, str(first_port)]
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
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
