# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The inference thread: jobs in order, the newest win, and callbacks never wait for it."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from dvmvs_ros.process.node_log import log_unforeseen

Job = TypeVar("Job")


class InferenceWorker(Generic[Job]):
    """Runs jobs one after the other in a thread of its own.

    With `queue_size` 1, a frame that comes while the engine is busy waits in the only slot, and a newer one takes its
    place: latency stays bounded however slow the machine. A larger queue trades latency for fewer losses.

    Args:
        run: does one job, in the worker's thread.
        on_superseded: called with each job that a newer one pushed out, in the thread that submitted it.
        on_error: called with the job and the exception when `run` raises; the worker goes on.
        on_reset: called in the worker's thread, between two jobs, after `reset`.
        on_unforeseen: told of an exception of `on_error` or `on_reset`, and of what was being done; the worker goes on.
        queue_size: jobs that may wait while one is running.
    """

    def __init__(
        self,
        run: Callable[[Job], None],
        *,
        on_superseded: Callable[[Job], None],
        on_error: Callable[[Job, Exception], None],
        on_reset: Callable[[], None],
        on_unforeseen: Callable[[Exception, str], None] = log_unforeseen,
        queue_size: int = 1,
    ) -> None:
        self._run = run
        self._on_superseded = on_superseded
        self._on_error = on_error
        self._on_reset = on_reset
        self._on_unforeseen = on_unforeseen
        self._busy_since_s: float | None = None
        self._queue_size = queue_size
        self._jobs: deque[Job] = deque()
        self._reset_wanted = False
        self._stopping = False
        self._wake = threading.Condition()
        self._thread = threading.Thread(target=self._loop, name="inference")

    def start(self) -> None:
        """Start the thread; a worker starts once."""
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Queue a job without waiting; the oldest one leaves if the queue is full."""
        superseded = []
        with self._wake:
            self._jobs.append(job)
            while len(self._jobs) > self._queue_size:
                superseded.append(self._jobs.popleft())
            self._wake.notify()
        for old in superseded:
            self._on_superseded(old)

    def has_waiting(self) -> bool:
        """Return whether a job waits behind the running one."""
        return bool(self._jobs)

    @property
    def busy_s(self) -> float:
        """For how long it has been at the job at hand, seconds; 0 if there is none."""
        since_s = self._busy_since_s
        return 0.0 if since_s is None else time.monotonic() - since_s

    def reset(self) -> list[Job]:
        """Take all waiting jobs back and have `on_reset` called before the next one; returns the jobs."""
        with self._wake:
            waiting = list(self._jobs)
            self._jobs.clear()
            self._reset_wanted = True
            self._wake.notify()
        return waiting

    def stop(self) -> list[Job]:
        """Finish the running job, end the thread, and return the jobs that were waiting."""
        with self._wake:
            waiting = list(self._jobs)
            self._jobs.clear()
            self._stopping = True
            self._wake.notify()
        if self._thread.is_alive():
            self._thread.join()
        return waiting

    def _loop(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._jobs or self._reset_wanted or self._stopping)
                if self._stopping:
                    return
                reset, self._reset_wanted = self._reset_wanted, False
                job = self._jobs.popleft() if self._jobs and not reset else None
            self._busy_since_s = time.monotonic()
            try:
                if reset:
                    self._on_reset()
                elif job is not None:
                    self._do(job)
            except Exception as error:
                self._on_unforeseen(error, "the inference thread")
            self._busy_since_s = None

    def _do(self, job: Job) -> None:
        try:
            self._run(job)
        except Exception as error:  # one bad frame must not end the stream
            self._on_error(job, error)
