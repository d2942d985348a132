# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""ROS nodes as the main program of a process: orderly on Ctrl-C, SIGTERM and normal ends.

rclpy's own signal handlers tear its context down at once, under a thread that still publishes. Here a signal only sets
a flag; the node is taken down in order, by the main thread, while everything still works.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from dvmvs_core.errors import DvmvsError
from dvmvs_ros.process.children import ROOT, end_with_parent
from dvmvs_ros.process.guard import RCLError, guarded_spin, refusal_line, secured

POLL_S = 0.1
"""A signal is noticed after this long at most; waiting inside ROS cannot be interrupted by Python."""

PATIENCE_S = 2.0

PROFILE = "fastdds.xml"
VARIABLES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
FAST_DDS_2 = ("humble", "iron", "jazzy")
"""Distributions whose Fast DDS knows the second of these names only; later ones complain about it."""


@contextmanager
def ros_process(args: Sequence[str] | None = None) -> Iterator[threading.Event]:
    """Start ROS, and shut it down at the end.

    Args:
        args: command line with ROS arguments; the process's own if None.

    Yields:
        An event that SIGINT or SIGTERM sets; one more signal, a while later, ends the process the hard way.

    Raises:
        SystemExit: with one line, if the arguments cannot be used or security refuses something.
    """
    stop = threading.Event()
    patient_until_s = 0.0

    def on_signal(number: int, _: FrameType | None) -> None:
        nonlocal patient_until_s
        if not stop.is_set():
            # One Ctrl-C may come twice: from the terminal, and from ros2 launch.
            patient_until_s = time.monotonic() + PATIENCE_S
            stop.set()
        elif time.monotonic() > patient_until_s:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    end_with_parent()
    use_shared_memory_profile()
    try:
        rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    except RCLError as error:  # a parameter file that cannot be read, say
        raise SystemExit(refusal_line(error)) from None
    try:
        yield stop
    except RCLError as error:
        if not secured():
            raise
        raise SystemExit(refusal_line(error)) from None
    finally:
        rclpy.try_shutdown()
        # All is in order; but Python takes another second to end, gives up its handlers first, and ros2 launch's own
        # SIGINT may come that late after the terminal's.
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def spin(stop: threading.Event, *nodes: Node) -> None:
    """Run the nodes' callbacks until the event is set."""
    executor = SingleThreadedExecutor()
    for node in nodes:
        executor.add_node(node)
    try:
        while not stop.is_set():
            guarded_spin(executor, POLL_S, *nodes)
    finally:
        executor.shutdown()


def spin_until(
    executor: SingleThreadedExecutor, until: Callable[[], bool], stop: threading.Event, timeout_s: float
) -> bool:
    """Run callbacks until a condition holds.

    Args:
        executor: runs them.
        until: the condition.
        stop: set to wait no longer.
        timeout_s: longest wait, seconds.

    Returns:
        Whether it holds; False if the time ran out or the event was set.
    """
    end_s = time.monotonic() + timeout_s
    while not until():
        left_s = end_s - time.monotonic()
        if left_s <= 0 or stop.is_set():
            return False
        guarded_spin(executor, min(left_s, POLL_S))
    return True


def run_to_its_end(
    make_node: Callable[[], Node],
    work: Callable[[Node, SingleThreadedExecutor, threading.Event], None],
    args: Sequence[str] | None = None,
) -> int:
    """Run a node that ends by itself, as the main program of a process.

    Args:
        make_node: makes it.
        work: what it does, given the node, the executor to run its callbacks with, and the event that ends it early.
        args: command line with ROS arguments; the process's own if None.

    Returns:
        The exit code: 0, or 1 after an error that a user can fix, which is logged as one line.
    """
    with ros_process(args) as stop:
        node = make_node()
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        try:
            work(node, executor, stop)
        except (DvmvsError, OSError) as error:  # no space, no permission: for the user to mend
            node.get_logger().error(str(error))
            return 1
        finally:
            executor.shutdown()
            node.destroy_node()
        return 0


def use_shared_memory_profile() -> None:
    """Name our profile in this process's environment, unless one is named already (empty: Fast DDS's own).

    Fast DDS gives a process 512 KiB of shared memory by default; messages beyond go out as UDP fragments, of which best
    effort loses nearly all at camera rate. config/fastdds.xml enlarges it. It is the publisher's process that needs it,
    so each of our nodes asks for it itself.
    """
    if any(variable in os.environ for variable in VARIABLES):
        return
    profile = _profile()
    if profile is not None:
        os.environ[VARIABLES[os.environ.get("ROS_DISTRO") in FAST_DDS_2]] = str(profile)


def _profile() -> Path | None:
    """The file in a checkout, or where pip and colcon install it: PREFIX/lib/pythonX.Y/site-packages, PREFIX/share."""
    folders = (ROOT / "config", ROOT / "../../../share/dvmvs_ros/config")
    return next((folder.resolve() / PROFILE for folder in folders if (folder / PROFILE).exists()), None)
