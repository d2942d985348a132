# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The views around a view in a stream, with no more of it in memory than that takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

View = TypeVar("View")


def with_neighbours(
    views: Iterable[View], reach: int, is_keyframe: Callable[[View], bool] = lambda view: True
) -> Iterator[tuple[View, list[View]]]:
    """Yield every view with the nearest keyframes on either side of it, in order.

    Args:
        views: in order of time.
        reach: how many keyframes on either side, fewer at the ends.
        is_keyframe: which views can be neighbours: others hardly moved.
    """
    held: list[View] = []
    position = 0  # of the next view to yield in `held`
    for view in views:
        held.append(view)
        while sum(map(is_keyframe, held[position + 1 :])) >= reach:
            yield _surroundings(held, position, reach, is_keyframe)
            position += 1
            while sum(map(is_keyframe, held[1:position])) >= reach:
                del held[0]
                position -= 1
    for last in range(position, len(held)):
        yield _surroundings(held, last, reach, is_keyframe)


def _surroundings(
    held: list[View], position: int, reach: int, is_keyframe: Callable[[View], bool]
) -> tuple[View, list[View]]:
    before = [view for view in held[:position] if is_keyframe(view)][-reach:]
    after = [view for view in held[position + 1 :] if is_keyframe(view)][:reach]
    return held[position], before + after
