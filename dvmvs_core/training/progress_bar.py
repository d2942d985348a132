# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

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
