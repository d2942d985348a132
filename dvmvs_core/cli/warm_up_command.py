# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.


"""Compile a network for this machine, so that later starts take seconds.

`make setup` does this for the default weights. Compiled networks are kept in the user's cache folder (or
DVMVS_CACHE_DIR), loops compiled by numba next to the package (or in NUMBA_CACHE_DIR).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from dvmvs_core.cli.common_options import EngineOptions


@dataclass(frozen=True)
class Options:
    """Compile ahead of the first start."""

    engine: EngineOptions = field(default_factory=EngineOptions)


def run(options: Options) -> None:
    """Build the engine and run it on noise, which compiles all that it calls."""
    started = time.perf_counter()
    engine = options.engine.build()
    print(f"{options.engine.weights} is ready in {time.perf_counter() - started:.0f} s: {engine.runs_as}")
