# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Nodes as child processes: in a ROS domain of their own, ended in order, and with a parent that is killed."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from dvmvs_core.errors import DvmvsError

ROOT = Path(__file__).resolve().parents[2]
END_S = 15.0
"""How long a node may take to end after Ctrl-C; an inference may be running."""

LOG_LINES = 8

PARENT_PID = "DVMVS_PARENT_PID"
"""Environment variable: end when the process of this number does."""

PR_SET_PDEATHSIG = 1
"""prctl(2): the signal to get when the parent dies."""


DOMAINS = range(10, 100)
"""Below 10 are those that people choose by hand; above 101 the ports of DDS meet those of outgoing connections."""

FIRST_PORT = 41300
"""A UDP port per domain, which is the token that it is taken. The ports of DDS itself for these end at 32400."""


class ProcessError(DvmvsError):
    """A node ended when it should run."""


class DomainError(DvmvsError):
    """Every domain is taken."""


@contextmanager
def own_domain() -> Iterator[int]:
    """Hold a ROS domain that no other holder on this machine has, and free it at the end, however that comes.

    A bound port and not a file: the system frees it when the process dies, and containers with one network, whose nodes
    hear each other, see each other's ports too.

    Yields:
        The domain's number.

    Raises:
        DomainError: if all are held.
    """
    first = os.getpid() % len(DOMAINS)
    for domain in (*DOMAINS[first:], *DOMAINS[:first]):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as token:
            try:
                token.bind(("127.0.0.1", FIRST_PORT + domain))
            except OSError:
                continue
            yield domain
            return
    raise DomainError(
        f"the ROS domains {DOMAINS[0]} to {DOMAINS[-1]} are all taken: UDP ports {FIRST_PORT + DOMAINS[0]} to"
        f" {FIRST_PORT + DOMAINS[-1]} of the loopback interface are bound. End other demos or tests, or name a domain"
    )


def ros_environment(domain_id: int) -> dict[str, str]:
    """Return the environment of nodes that talk to each other on this machine only.

    Args:
        domain_id: the ROS domain, so that a robot's own nodes are not disturbed.
    """
    environment = dict(os.environ)
    environment.update(
        ROS_DOMAIN_ID=str(domain_id),
        ROS_AUTOMATIC_DISCOVERY_RANGE="LOCALHOST",
        PYTHONPATH=os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
    )
    if os.environ.get("ROS_DISTRO") == "humble":
        environment["ROS_LOCALHOST_ONLY"] = "1"  # there is no discovery range yet
    return environment


class Child:
    """One node in a process and a session of its own, so that Ctrl-C in the terminal reaches its parent only.

    Args:
        module: its module below dvmvs_ros.
        parameters: its ROS parameters.
        remap: topic name → topic name.
        environment: its environment.
        logs: folder for its log and its parameters.
        pipe_output: give its standard output to the parent; what it logs goes to the log in any case.
    """

    def __init__(
        self,
        module: str,
        parameters: dict[str, object],
        remap: dict[str, str],
        environment: dict[str, str],
        logs: Path,
        pipe_output: bool = False,
    ) -> None:
        self.name = module
        self._log = logs / f"{module}.log"
        file = logs / f"{module}.yaml"
        file.write_text(json.dumps({"/**": {"ros__parameters": parameters}}, indent=1))
        rules = [word for old, new in remap.items() for word in ("-r", f"{old}:={new}")]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", f"dvmvs_ros.{module}", "--ros-args", "--params-file", str(file), *rules],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if pipe_output else log,
                stderr=log,
                env=tied_to_this_process(environment),
                start_new_session=True,
                text=True,
            )

    @property
    def output(self) -> IO[str]:
        """Its standard output, where that was asked for."""
        return self._process.stdout

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def check(self) -> None:
        """Raise if it has ended, or could not be configured.

        Raises:
            ProcessError: with the last lines of its log.
        """
        failed = [line for line in self._lines() if "cannot configure" in line]
        if failed:
            raise ProcessError(failed[-1].split("cannot configure: ", 1)[-1])
        if not self.running:
            raise self.failure()

    def failure(self) -> ProcessError:
        """Return the error for a node that ended too early."""
        last = "\n  ".join(self._lines()[-LOG_LINES:]) or "(it printed nothing)"
        return ProcessError(f"{self.name} ended with code {self._process.returncode}; {self._log} ends with\n  {last}")

    def wait(self) -> int:
        """Wait until it ends by itself, and return its exit code."""
        return self._process.wait()

    def stop(self) -> int:
        """End it as Ctrl-C does, the hard way if that takes too long, and return its exit code."""
        if self.running:
            self._process.send_signal(signal.SIGINT)
        try:
            return self._process.wait(END_S)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            self._process.kill()
            return self._process.wait()

    def _lines(self) -> list[str]:
        with suppress(OSError):
            return [line for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        return []


def tied_to_this_process(environment: dict[str, str]) -> dict[str, str]:
    """Return the environment of a child process whose ROS nodes are to end with this process."""
    return {**environment, PARENT_PID: str(os.getpid())}


def end_with_parent() -> None:
    """Have this process get SIGTERM when its parent dies, if it was started for that; Linux only.

    Called in the child, since code between fork and exec is not safe in a parent with threads.
    """
    parent = os.environ.pop(PARENT_PID, "")  # not for children of this process
    if not parent or sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):  # it died before that was arranged
        signal.raise_signal(signal.SIGTERM)
