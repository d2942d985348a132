# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""One case, run and judged; and as a program, as many as fit into some minutes: `make fuzz MINUTES=…`.

A case fails if anything but an error of ours comes out, if it takes more than 5 s or 500 MB, or if an error is longer
than a few lines. Every case follows from its target and its number, so it can be run again alone:

    python test/fuzz/fuzz_run.py --target mcap --case 12345
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import logging
import multiprocessing
import resource
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random

from fuzz_targets import ALLOWED, TARGETS

MAX_S = 5.0
MAX_BYTES = 500_000_000
MAX_MESSAGE = 2000
"""Characters of an error: a sentence, a path, and what was quoted."""

SAID_EVERY = 500


class Failure(AssertionError):
    """A case that failed, and why."""


def run_case(name: str, number: int, folder: Path) -> str:
    """Run a case.

    Args:
        name: the target.
        number: of the case.
        folder: for files; emptied before.

    Returns:
        What came of it: "read", or the name of the error.

    Raises:
        Failure: if it may not have come.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    rng = Random(f"{name} {number}")
    case = TARGETS[name].case(rng)
    before, started_s = _reset_peak(), time.process_time()
    outcome = "read"
    try:
        TARGETS[name].read(rng, case, folder)
    except ALLOWED as error:
        outcome = type(error).__name__
        if len(str(error).replace(str(folder), "")) > MAX_MESSAGE:
            raise Failure(f"{name} {number}: an error of {len(str(error))} characters: {str(error)[:300]}…") from error
    except Exception as error:
        raise Failure(f"{name} {number}: {type(error).__name__}: {error}\n{traceback.format_exc()}") from error
    taken_s, taken = time.process_time() - started_s, _peak() - before
    if taken_s > MAX_S:
        raise Failure(f"{name} {number}: it took {taken_s:.1f} s of processor time")
    if taken > MAX_BYTES:
        raise Failure(f"{name} {number}: it took {taken / 1e6:.0f} MB")
    return outcome


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what readers log of damage, and what numpy and decoders warn of, to themselves."""
    logger = logging.getLogger("dvmvs_core")
    usual = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(usual)


def _reset_peak() -> int:
    """Bytes resident now; the kernel's peak starts again from them, where it can be told to."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass
    return _status("VmRSS")


def _peak() -> int:
    return _status("VmHWM")


def _status(key: str) -> int:
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(f"{key}:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> int:
    """Run cases for some minutes, and say what came of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--target", choices=sorted(TARGETS), help="this one only")
    parser.add_argument("--case", type=int, help="this case only")
    parser.add_argument("--failures", type=int, default=50, help="end after so many")
    given = parser.parse_args()
    faulthandler.enable()
    names = [given.target] if given.target else sorted(TARGETS)
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with quiet(), tempfile.TemporaryDirectory(dir=memory) as temporary:
        folder = Path(temporary) / "case"
        if given.case is not None:
            print(run_case(names[0], given.case, folder))
            return 0
        return _run_many(names, folder, given.minutes * 60.0, given.first, given.failures)


def _run_many(names: list[str], folder: Path, seconds: float, first: int, most: int) -> int:
    """Run cases in a process of their own, which is begun again behind a case that killed it."""
    context = multiprocessing.get_context("fork")
    outcomes, failures, ends_s = Counter(), [], time.monotonic() + seconds
    number = first
    while number is not None and len(failures) < most:
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(theirs, names, folder, ends_s, number))
        process.start()
        theirs.close()
        number = _listen(ours, outcomes, failures)
        process.join()
        if number is not None:
            failures.append(f"the process died of {process.exitcode}")
            print(f"{failures[-1]} in one of the cases of number {number}", file=sys.stderr, flush=True)
            number += 1
    counts = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common())
    print(f"{outcomes.total() + len(failures)} cases from number {first} on: {counts}; {len(failures)} failures")
    return 1 if failures else 0


def _listen(pipe: Connection, outcomes: Counter[str], failures: list[str]) -> int | None:
    """Take what a process reports of each number; returns the number that it did not finish, None if it ended well."""
    number = None
    while True:
        try:
            report = pipe.recv()
        except EOFError:
            return number
        if report is None:
            return None
        number, came, failed = report
        outcomes.update(came)
        for failure in failed:
            failures.append(failure)
            print(failure, file=sys.stderr, flush=True)
        if number % SAID_EVERY == 0:
            print(f"{outcomes.total()} cases, {len(failures)} failures, at number {number}", flush=True)


def _work(pipe: Connection, names: list[str], folder: Path, ends_s: float, number: int) -> None:
    cost_s: Counter[str] = Counter()
    came: Counter[str] = Counter()
    failed: list[str] = []
    while time.monotonic() < ends_s:
        pipe.send((number, came, failed))
        came, failed = Counter(), []
        for name in names:
            # Slow readers get fewer cases, so that each gets about as much time.
            if cost_s[name] > 2.0 * min(cost_s[other] for other in names) + 1.0:
                continue
            began_s = time.monotonic()
            try:
                came[run_case(name, number, folder)] += 1
            except Failure as failure:
                failed.append(str(failure))
            cost_s[name] += time.monotonic() - began_s
        number += 1
    pipe.send((number, came, failed))
    pipe.send(None)


if __name__ == "__main__":
    sys.exit(main())
