# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Nodes as processes: they have a domain of their own, do not outlive the one that started them, and end cleanly."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from dvmvs_ros.process import children
from dvmvs_ros.process.children import DOMAINS, DomainError, own_domain

PARENT = """
import sys
import time
from pathlib import Path
from dvmvs_ros.process.children import Child, ros_environment

logs = Path(sys.argv[1])
child = Child("recorder_node", {"out": str(logs / "recording")}, {}, ros_environment(int(sys.argv[2])), logs)
print(child._process.pid, flush=True)
time.sleep(500)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell a child of its parent's death")
@pytest.mark.parametrize("when_ready", [True, False])
def test_a_child_ends_with_a_parent_that_is_killed(ros_environment, tmp_path, when_ready):
    command = (sys.executable, "-c", PARENT, str(tmp_path), ros_environment["ROS_DOMAIN_ID"])
    parent = subprocess.Popen(command, env=ros_environment, stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    parent.stdout.close()
    try:
        if when_ready:
            _wait(lambda: list((tmp_path / "recording").glob("*")))
        assert _is_alive(child)
        parent.kill()
        parent.wait()
        _wait(lambda: not _is_alive(child))
    finally:
        parent.kill()
        if _is_alive(child):
            os.kill(child, signal.SIGKILL)


def _wait(until) -> None:
    end = time.monotonic() + 250.0
    while not until():
        assert time.monotonic() < end
        time.sleep(0.02)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


HOLDER = """
import sys
from dvmvs_ros.process import children
children.FIRST_PORT = int(sys.argv[1])
with children.own_domain() as number:
    print(number, flush=True)
    input()
"""


@pytest.fixture
def first_port(monkeypatch) -> int:
    """A range of ports that stands for other domains than those of this machine: a test may take them all."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1] % 20_000 + 10_000
    monkeypatch.setattr(children, "FIRST_PORT", port)
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


SLOW_TO_END = """
import time
from dvmvs_ros.process.main_program import ros_process

class Slow:
    def __del__(self, print=print, sleep=time.sleep):
        print("ending", flush=True)
        sleep(0.5)

slow = Slow()
with ros_process([]) as stop:
    print("running", flush=True)
    while not stop.wait(0.1):  # as `spin` does: a signal may reach another thread than the one that waits
        pass
"""


def test_arguments_that_ros_cannot_use_are_one_line(ros_environment):
    command = (sys.executable, "-m", "dvmvs_ros.recorder_node", "--ros-args", "--params-file", "/no/such/file.yaml")
    done = subprocess.run(command, env=ros_environment, capture_output=True, text=True, timeout=250)
    assert done.returncode == 1
    assert "ROS refuses" in done.stderr and "/no/such/file.yaml" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("module", "parameters", "said"),
    [
        ("replay_node", {"sequence": "/no/such/scene"}, "/no/such/scene does not exist"),
        ("replay_node", {}, "parameter sequence must name"),
        ("replay_node", {"sequence": "x", "rate": 0.0}, "rate must be positive"),
        (
            "evaluation_node",
            {"min_depth_m": 3.0, "max_depth_m": 2.0},
            "must satisfy 0 <= min_depth_m < max_depth_m; got 3 and 2",
        ),
        ("evaluation_node", {"result_bag": "/tmp"}, "/tmp exists already"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_code_1(start_node, module, parameters, said):
    node = start_node(module, parameters)
    assert node.wait() == 1
    assert said in node.log() and "Traceback" not in node.log(), node.log()


def test_a_second_ctrl_c_while_python_ends_is_no_death(ros_environment):
    """From the terminal first, and from ros2 launch a while later."""
    command = (sys.executable, "-c", SLOW_TO_END)
    process = subprocess.Popen(command, env=ros_environment, stdout=subprocess.PIPE, text=True)
    for said in ("running", "ending"):
        assert process.stdout.readline().strip() == said
        process.send_signal(signal.SIGINT)
    assert process.wait(250) == 0
    process.stdout.close()
