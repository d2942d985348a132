# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The inference thread: newest wins, nothing blocks, errors do not end it. No ROS needed."""

from __future__ import annotations

import threading
import time

import pytest

from dvmvs_ros.depth.worker import InferenceWorker

WAIT_S = 60.0
"""A guard against hanging, which no test that passes waits for."""


class Bench:
    """A worker whose jobs wait for the test's permission."""

    def __init__(self, queue_size: int = 1) -> None:
        self.done: list[object] = []
        self.superseded: list[object] = []
        self.errors: list[tuple[object, Exception]] = []
        self.started = threading.Semaphore(0)
        self.permission = threading.Semaphore(0)
        self.finished = threading.Semaphore(0)
        self.worker = InferenceWorker(
            self.run,
            on_superseded=self.superseded.append,
            on_error=self.on_error,
            on_reset=self.on_reset,
            queue_size=queue_size,
        )
        self.worker.start()

    def run(self, job) -> None:
        self.started.release()
        self.permission.acquire(timeout=WAIT_S)
        if job == "bad":
            raise ValueError("a bad frame")
        self.done.append(job)
        self.finished.release()

    def on_error(self, job, error) -> None:
        self.errors.append((job, error))
        self.finished.release()

    def on_reset(self) -> None:
        self.done.append("reset")
        self.finished.release()

    def begin(self, job) -> None:
        """Submit a job, and wait until it runs."""
        self.worker.submit(job)
        assert self.started.acquire(timeout=WAIT_S)

    def allow(self, jobs: int) -> None:
        for _ in range(jobs):
            self.permission.release()
            assert self.finished.acquire(timeout=WAIT_S)


@pytest.fixture
def make_bench():
    benches = []

    def make(**arguments) -> Bench:
        benches.append(Bench(**arguments))
        return benches[-1]

    yield make
    for bench in benches:
        for _ in range(10):
            bench.permission.release()
        bench.worker.stop()


def test_one_slot_keeps_the_newest(make_bench):
    bench = make_bench(queue_size=1)
    bench.begin(1)
    for job in (2, 3, 4):
        bench.worker.submit(job)
    bench.allow(2)
    assert bench.done == [1, 4] and bench.superseded == [2, 3]


def test_a_queue_loses_nothing_that_fits_and_keeps_the_order(make_bench):
    bench = make_bench(queue_size=4)
    bench.begin(0)
    for job in (1, 2, 3, 4):
        bench.worker.submit(job)
    bench.allow(5)
    assert bench.done == [0, 1, 2, 3, 4] and not bench.superseded


def test_submit_does_not_wait_for_a_running_job(make_bench):
    bench = make_bench()
    bench.begin(1)
    for job in range(1000):
        bench.worker.submit(job)
    assert not bench.done, "the running job has no permission to end yet"


def test_an_exception_is_reported_and_the_next_job_runs(make_bench):
    bench = make_bench(queue_size=2)
    bench.worker.submit("bad")
    bench.worker.submit("good")
    bench.allow(2)
    assert bench.done == ["good"]
    assert bench.errors[0][0] == "bad" and isinstance(bench.errors[0][1], ValueError)


def test_reset_comes_after_the_running_job_and_before_later_ones(make_bench):
    bench = make_bench(queue_size=3)
    bench.begin("running")
    bench.worker.submit("old")
    assert bench.worker.reset() == ["old"]
    bench.worker.submit("new")
    bench.allow(3)
    assert bench.done == ["running", "reset", "new"]


def test_stop_finishes_the_running_job_and_gives_the_others_back(make_bench):
    bench = make_bench(queue_size=3)
    bench.begin(1)
    bench.worker.submit(2)
    given_back = []
    stopper = threading.Thread(target=lambda: given_back.extend(bench.worker.stop()))
    stopper.start()
    while not bench.worker._stopping:
        time.sleep(0.01)
    bench.permission.release()
    stopper.join(timeout=WAIT_S)
    assert given_back == [2] and bench.done == [1]


def test_what_fails_while_failing_does_not_end_the_thread(make_bench):
    unforeseen = []
    bench = make_bench()
    bench.worker._on_unforeseen = lambda error, doing: (unforeseen.append(error), bench.finished.release())

    def fail(*_) -> None:
        raise RuntimeError("on the way out")

    bench.worker._on_error, bench.worker._on_reset = fail, fail
    bench.worker.submit("bad")
    bench.allow(1)
    bench.worker.reset()
    assert bench.finished.acquire(timeout=WAIT_S)
    assert [str(error) for error in unforeseen] == ["on the way out"] * 2
    bench.worker.submit("good")
    bench.allow(1)
    assert bench.done == ["good"]


def test_it_tells_for_how_long_it_has_been_at_a_job(make_bench):
    bench = make_bench()
    assert bench.worker.busy_s == 0.0
    bench.worker.submit("one")
    assert bench.started.acquire(timeout=WAIT_S)
    first = bench.worker.busy_s
    assert 0 < first < bench.worker.busy_s
    bench.allow(1)
    bench.worker.stop()
    assert bench.worker.busy_s == 0.0
