# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""One progress bar for two passes over a sequence, of which the second runs behind the first.

A bar that counted the first alone would be full minutes before refinement, which looks far ahead, is done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from dvmvs_core.evaluation.prediction.predict_sequence import Advance

Item = TypeVar("Item")


class TwoPasses:
    """Counts every frame of a sequence by halves.

    Args:
        advance: of a bar as long as the sequence.
    """

    def __init__(self, advance: Advance) -> None:
        self._advance = advance
        self._read = 0.0

    def first(self, frames: float) -> None:
        """Count frames that have gone through the first pass."""
        self._read += frames
        self._advance(frames / 2)

    def second(self, items: Iterable[Item], frame_index: Callable[[Item], int]) -> Iterator[Item]:
        """Yield what leaves the second pass, and count the frames up to it.

        Args:
            items: what leaves it; frames that give none are counted with the next that does.
            frame_index: position in the sequence of the frame that an item is of.
        """
        counted = 0
        for item in items:
            frames = frame_index(item) + 1
            if frames > counted:
                self._advance((frames - counted) / 2)
                counted = frames
            yield item
        self._advance(max(self._read - counted, 0) / 2)
