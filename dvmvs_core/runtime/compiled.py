# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""How the loops of this package are compiled by numba, which importing this module needs.

Compiling happens at the first call, and is kept on disk where a folder can be written (beside the source file, or the
user's cache folder, or NUMBA_CACHE_DIR); what is damaged there is compiled again. What is kept counts as outdated when
the function's own file has changed, and holds what it calls, too: so a compiled function calls none of another file.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import numba
from numba.core.caching import FunctionCache

logger = logging.getLogger(__name__)

# Sums may be reordered and products fused, which vector code needs; NaN and infinity keep their meaning.
_FASTMATH = {"reassoc", "contract", "nsz", "arcp"}


_damaged: set[str] = set()
"""Folders of which that was said."""


def compiled(function: Callable) -> Callable:
    """Compile a function, which then runs without the interpreter's lock."""
    options = {"nogil": True, "fastmath": _FASTMATH, "error_model": "numpy"}
    dispatcher = numba.njit(**options)(function)
    try:
        dispatcher._cache = _MendingCache(function)
    except RuntimeError:
        pass  # nowhere to write the cache: compile again in every process
    return dispatcher


class _MendingCache(FunctionCache):
    """numba's cache, less what is damaged: numba passes on whatever pickle raises over a truncated or foreign file."""

    def load_overload(self, sig, target_context):
        """Return what is kept for a signature, or None."""
        try:
            return super().load_overload(sig, target_context)
        except Exception as error:
            self._mend(error)
            return None

    def save_overload(self, sig, data):
        """Keep what was compiled for a signature."""
        try:
            super().save_overload(sig, data)
        except Exception as error:
            self._mend(error)

    def _mend(self, error: Exception) -> None:
        if self.cache_path not in _damaged:
            _damaged.add(self.cache_path)
            said = "compiled loops kept in %s are damaged (%s: %s): they are compiled again"
            logger.warning(said, self.cache_path, type(error).__name__, error)
        try:
            self.flush()
        except OSError:
            pass  # as before: nothing is kept
