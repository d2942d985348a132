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
import logging
import resource
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path
from random import Random

from fuzz_targets import ALLOWED, TARGETS

MAX_S = 5.0
MAX_BYTES = 500_000_000
MAX_MESSAGE = 2000
"""Characters of an error: a sentence, a path, and what was quoted."""

SAID_EVERY_S = 30.0


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


def quiet() -> None:
    """Keep what readers log of damage, and what numpy and decoders warn of, to themselves."""
    logging.getLogger("dvmvs_core").setLevel(logging.CRITICAL)
    warnings.simplefilter("ignore")


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
    quiet()
    names = [given.target] if given.target else sorted(TARGETS)
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as temporary:
        folder = Path(temporary) / "case"
        if given.case is not None:
            print(run_case(names[0], given.case, folder))
            return 0
        return _run_many(names, folder, given.minutes * 60.0, given.first, given.failures)


def _run_many(names: list[str], folder: Path, seconds: float, first: int, most: int) -> int:
    outcomes: Counter[str] = Counter()
    failures: list[str] = []
    cost_s: Counter[str] = Counter()
    number, started_s = first, time.monotonic()
    said_s = started_s
    while time.monotonic() - started_s < seconds and len(failures) < most:
        for name in names:
            # Slow readers get fewer cases, so that each gets about as much time.
            if cost_s[name] > 2.0 * min(cost_s[other] for other in names) + 1.0:
                continue
            began_s = time.monotonic()
            try:
                outcomes[run_case(name, number, folder)] += 1
            except Failure as failure:
                failures.append(str(failure))
                print(failure, file=sys.stderr, flush=True)
            cost_s[name] += time.monotonic() - began_s
        number += 1
        if time.monotonic() - said_s > SAID_EVERY_S:
            said_s = time.monotonic()
            print(f"{outcomes.total()} cases, {len(failures)} failures, next number {number}", flush=True)
    counts = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common())
    print(
        f"{outcomes.total() + len(failures)} cases, numbers {first} to {number - 1}: {counts}; {len(failures)} failures"
    )
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
