# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Tables on the terminal."""

from __future__ import annotations

import os
from collections.abc import Iterable

GAP = 3
"""Columns of the terminal between two columns of a table, and before the first."""


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
