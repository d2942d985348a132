"""One ROS node as the main program of a process: orderly on Ctrl-C, SIGTERM and normal ends.

rclpy's own signal handlers tear its context down at once, under a thread that still publishes. Here a signal only sets
a flag; the node is taken down in order, by the main thread, while everything still works.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from dvmvs_ros.transport import use_shared_memory_profile

POLL_S = 0.1
"""A signal is noticed after this long at most; waiting inside ROS cannot be interrupted by Python."""


PATIENCE_S = 2.0


@contextmanager
def ros_process(args: Sequence[str] | None = None) -> Iterator[threading.Event]:
    """Start ROS, and shut it down at the end.

    Args:
        args: command line with ROS arguments; the process's own if None.

    Yields:
        An event that SIGINT or SIGTERM sets; one more signal, a while later, ends the process the hard way.
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
    use_shared_memory_profile()
    rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    try:
        yield stop
    finally:
        rclpy.try_shutdown()


def spin(node: Node, stop: threading.Event) -> None:
    """Run the node's callbacks until the event is set."""
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        while not stop.is_set():
            executor.spin_once(timeout_sec=POLL_S)
    finally:
        executor.shutdown()
