# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""How a stage of the engine tells that it begins and ends."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

Timer = Callable[[str], AbstractContextManager[None]]
"""Takes the name of a stage and returns what is entered where it begins and left where it ends. Stages may nest.

It may wait for a CUDA device, so nothing that is captured as a graph calls it.
"""

_NOTHING = nullcontext()


def untimed(stage: str) -> AbstractContextManager[None]:
    """The timer where nobody wants to know."""
    return _NOTHING
