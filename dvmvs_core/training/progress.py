"""A progress bar with the time that is left."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def training_progress(visible: bool) -> Iterator[Callable[[float, float, str], None]]:
    """Show a bar on stderr, and give a function that takes the share done, the seconds that it took, and a text."""
    if not visible:
        yield lambda progress, elapsed_s, text: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[left]}"), TimeElapsedColumn())
    with Progress(*columns, transient=True, console=Console(stderr=True)) as bar:
        task = bar.add_task("training", total=1.0, left="")

        def show(progress: float, elapsed_s: float, text: str) -> None:
            left = elapsed_s * (1.0 - progress) / progress if progress > 0.0 else math.nan
            bar.update(task, completed=progress, description=text, left=f"{left / 60.0:.1f} min left")

        yield show
