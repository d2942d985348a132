# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Progress bars on the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


@contextmanager
def progress(
    description: str,
    total: int,
    transient: bool = False,
    console: Console | None = None,
    once_moving: str | None = None,
) -> Iterator[Callable[[float], None]]:
    """Show a bar while the block runs, and give a function that moves it on.

    Args:
        description: what is being done.
        total: how many steps make the whole.
        transient: leave nothing of it on the terminal, and write nothing into a file.
        console: where to; by default stderr.
        once_moving: the description from the first step on, if it changes.
    """
    from rich import progress as bars
    from rich.console import Console

    columns = (
        bars.TextColumn("{task.description}"),
        bars.BarColumn(),
        bars.MofNCompleteColumn(),
        bars.TimeElapsedColumn(),
        bars.TimeRemainingColumn(),
    )
    console = console or Console(stderr=True)
    hidden = transient and not console.is_terminal
    with bars.Progress(*columns, console=console, transient=transient, disable=hidden) as bar:
        task = bar.add_task(description, total=total)
        yield lambda steps: bar.update(task, advance=steps, description=once_moving or description)
        bar.update(task, total=bar.tasks[task].completed)  # a recording may end before what it was said to hold
