# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What commands print: tables, the figures of an evaluation, and what of a recording could not be used."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dvmvs_core.data.sequence import FrameSequence

GAP = 3
"""Columns of the terminal between two columns of a table, and before the first."""

PUBLISHED = {
    "abs_error": "abs m",
    "abs_relative_error": "abs rel",
    "abs_inverse_error": "abs inv 1/m",
    "squared_relative_error": "sq rel m",
    "rmse": "rmse m",
    "ratio_125": "<1.25",
    "ratio_125_2": "<1.25²",
    "ratio_125_3": "<1.25³",
}

LEFT_OUT = ("step size",)
"""Columns that a terminal of 120 columns has no room for."""

NAMED_FAULTS = 5
"""How many are named; all of them are in the figures of --json."""


def print_table(title: str, header: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """Print a table; all columns but the first are right-aligned, and a header of empty names is left out.

    What is wider than the terminal continues below, with the first column again; into a file a table goes as it is.
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    header, rows = tuple(header), [tuple(map(str, row)) for row in rows]
    console = Console()
    fits = console.width if console.is_terminal or "COLUMNS" in os.environ else None
    for part, columns in enumerate(_parts(header, rows, fits)):
        table = Table(
            title="" if part else title, box=SIMPLE_HEAD, title_justify="left", show_header=any(header), pad_edge=False
        )
        for i in columns:
            table.add_column(header[i], justify="left" if i == 0 else "right", no_wrap=True)
        for row in rows:
            table.add_row(*(row[i] for i in columns))
        # A column keeps its natural width: cut off or folded it would be unreadable.
        natural = console.measure(table, options=console.options.update(max_width=1000)).maximum
        Console(width=max(natural, console.width)).print(table)


def print_figures(figures: dict) -> None:
    """Print what tells most of each sequence, the worst first, and then the details.

    These are errors by parallax, the published metrics with those of baselines below, and errors by distance.
    """
    from dvmvs_core.evaluation.scoring.scene_table import parallax_rows, scene_cells, worst_first

    parts = worst_first(figures["sequences"])
    if len(parts) > 1:
        parts.append({"name": "all", **figures["all"]})
    rows = [{name: text for name, text in scene_cells(part).items() if name not in LEFT_OUT} for part in parts]
    latency = figures["latency_ms"]
    what = (figures["network"], figures["preset"], *(("refined",) if figures["refined"] else ()))
    print_table(
        f"{figures['weights']} ({', '.join(what)}) on {figures['device']}:"
        f" {latency['median']:.0f} ms a keyframe (median), {latency['p95']:.0f} ms (p95)",
        ("sequence", *rows[0]),
        [(part["name"], *row.values()) for part, row in zip(parts, rows, strict=True)],
    )
    header, parallax = parallax_rows(parts)
    print_table("abs rel/<1.25/share of the pixels, by parallax", ("sequence", *header), parallax)
    print_table("published metrics", ("sequence", *PUBLISHED.values()), _published_rows(parts))
    bins = figures["all"]["by_distance"]
    print_table(
        "by distance",
        ("", *(_range(part) for part in bins)),
        [
            ("abs rel", *(_figure(part["abs_relative_error"]) for part in bins)),
            ("<1.25", *(_figure(part["ratio_125"]) for part in bins)),
        ],
    )


def print_faults(name: str, sequence: FrameSequence) -> None:
    """Print how many files and lines of a sequence were left out, and name the first; nothing if there are none.

    Args:
        name: what to call the sequence.
        sequence: after its frames were read.
    """
    faults = list(sequence.faults.items())
    if not faults:
        return
    print(f"{name}: {len(faults)} {'part' if len(faults) == 1 else 'parts'} of it left out, the rest used")
    for what, why in faults[:NAMED_FAULTS]:
        print(f"  {what}: {why}")
    if len(faults) > NAMED_FAULTS:
        print(f"  … and {len(faults) - NAMED_FAULTS} more, as far as {faults[-1][0]}")


def _parts(header: tuple[str, ...], rows: list[tuple[str, ...]], fits: int | None) -> list[list[int]]:
    """The columns of each part of a table, so that a part with the first column is no wider than fits."""
    widths = [max(map(len, cells)) + GAP for cells in zip(header, *rows, strict=True)]
    parts = [[0]]
    for i in range(1, len(header)):
        taken = sum(widths[column] for column in parts[-1])
        if fits is not None and len(parts[-1]) > 1 and taken + widths[i] > fits:
            parts.append([0])
        parts[-1].append(i)
    return parts


def _published_rows(parts: list[dict]) -> list[tuple[str, ...]]:
    rows = []
    for part in parts:
        rows.append((part["name"], *(_figure(part["metrics"][name]) for name in PUBLISHED)))
        for name, baseline in part["baselines"].items():
            cells = (_figure(baseline["metrics"][metric]) for metric in PUBLISHED)
            rows.append((f"  {name.replace('_', ' ')}", *cells))
    return rows


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _range(part: dict) -> str:
    return f"> {part['low']:g} m" if part["high"] is None else f"{part['low']:g}-{part['high']:g} m"
