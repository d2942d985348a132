# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Tables on the terminal."""

from __future__ import annotations

from collections.abc import Iterable


def print_table(title: str, header: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """Print a table; all columns but the first are right-aligned, and a header of empty names is left out."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    header = tuple(header)
    table = Table(title=title, box=SIMPLE_HEAD, title_justify="left", show_header=any(header))
    for i, name in enumerate(header):
        table.add_column(name, justify="left" if i == 0 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*map(str, row))
    # A table keeps its natural width, on a narrow terminal too: columns cut off or folded would be unreadable.
    console = Console()
    natural = console.measure(table, options=console.options.update(max_width=1000)).maximum
    Console(width=max(natural, console.width)).print(table)
