# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""How the loops of this package are compiled by numba, which importing this module needs.

Compiling happens at the first call, and is kept on disk where a folder can be written (beside the source file, or the
user's cache folder, or NUMBA_CACHE_DIR). What is kept counts as outdated when the function's own file has changed, and
holds what it calls, too: so a compiled function calls none of another file.
"""

from __future__ import annotations

from collections.abc import Callable

import numba

# Sums may be reordered and products fused, which vector code needs; NaN and infinity keep their meaning.
_FASTMATH = {"reassoc", "contract", "nsz", "arcp"}


def compiled(function: Callable) -> Callable:
    """Compile a function, which then runs without the interpreter's lock."""
    options = {"nogil": True, "fastmath": _FASTMATH, "error_model": "numpy"}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # nowhere to write the cache: compile again in every process
        return numba.njit(**options)(function)
