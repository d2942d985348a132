# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Writes the results of `ablate.py` as the table of README.md.

python benchmarks/training/table.py results.jsonl
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from ablate import RUNS

COLUMNS = ("run", "changed", "parameters", "synthetic abs rel", "abs m", "abs rel", "<1.25", "flicker", "against noise")


def row(record: dict[str, Any], baselines: list[float]) -> tuple[str, ...]:
    """One line of the table; the last column says how far outside of the baselines' spread its abs rel lies."""
    real = record["real"]
    return (
        f"`{record['run']}`",
        record["changed"],
        f"{record['parameters'] / 1e6:.1f} M",
        f"{record['synthetic_abs_relative_error']:.3f}",
        f"{real['abs_error']:.3f}",
        f"{real['abs_relative_error']:.3f}",
        f"{real['ratio_125']:.3f}",
        f"{real['temporal_disagreement']:.3f}",
        verdict(real["abs_relative_error"], baselines) if record["run"] in SINGLE_CHANGES else "",
    )


BASELINES = ("baseline", "baseline-1")
SINGLE_CHANGES = {name for name, run in RUNS.items() if run.goes_on is None} - set(BASELINES)


def verdict(error: float, baselines: list[float]) -> str:
    """Compare an error with two baselines that differ in their seed alone.

    Two runs say little about spread: only what is outside of them by more than twice their distance counts.
    """
    if len(baselines) < 2:
        return "unknown"
    low, high = min(baselines), max(baselines)
    margin = 2.0 * (high - low)
    if error > high + margin:
        return "worse"
    return "better" if error < low - margin else "within"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    records = [json.loads(line) for line in parser.parse_args().results.read_text().splitlines()]
    baselines = [one["real"]["abs_relative_error"] for one in records if one["run"] in BASELINES]
    print("| " + " | ".join(COLUMNS) + " |\n" + "|---" * len(COLUMNS) + "|")
    for record in records:
        print("| " + " | ".join(row(record, baselines)) + " |")


if __name__ == "__main__":
    main()
