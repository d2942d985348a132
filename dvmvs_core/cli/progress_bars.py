# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""A progress bar on stderr, so that stdout holds results only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from dvmvs_core.progress import progress

Item = TypeVar("Item")


class Steps:
    """Numbers what a command does one after the other: "[2/5] scoring room".

    Args:
        total: how many steps there are.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._started = 0

    def __call__(self, description: str) -> str:
        """Return the description of the next step, with its number where there are several."""
        self._started += 1
        return f"[{self._started}/{self._total}] {description}" if self._total > 1 else description


def counted(items: Iterable[Item], advance: Callable[[float], None]) -> Iterator[Item]:
    """Yield items, and move a bar on by one after each."""
    for item in items:
        yield item
        advance(1)


def predict_with_bar(one, engine, folder: Path, pictures_every: int, refine: bool, description: str) -> list[float]:
    """Write the predictions of a `Run` to a folder under a bar: of its frames, or with a limit of its keyframes.

    Returns:
        The latency of each prediction in milliseconds.
    """
    from dvmvs_core.evaluation.prediction.predict_sequence import write_predictions

    with progress(description, one.limit or len(one.sequence)) as advance:
        of_frames = advance if one.limit is None else lambda frames: None
        predictions = one.predict(engine, bool(pictures_every), of_frames, refine)
        if one.limit is not None:
            predictions = counted(predictions, advance)
        return write_predictions(predictions, folder, one.limit, pictures_every, one.sequence.depth_name)
