# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""How the loops of this package are compiled by numba, which importing this module needs.

Compiling happens at the first call, and is kept on disk where a folder can be written (next to the source file, or the
user's cache folder, or NUMBA_CACHE_DIR). What is kept counts as outdated when the function's own file has changed, and
holds what it calls, too: so a compiled function calls none of another file. Numba trusts its files, so there is a
checksum next to them: what is damaged costs a compilation and one line in the log.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path

import numba

from dvmvs_core.foreign import regular
from dvmvs_core.runtime.model_cache import announce_compiling

logger = logging.getLogger(__name__)

_OPTIONS = {
    "nogil": True,
    # Sums may be reordered and products fused, which vector code needs; NaN and infinity keep their meaning.
    "fastmath": {"reassoc", "contract", "nsz", "arcp"},
    "error_model": "numpy",
}


def inlined(function: Callable) -> Callable:
    """Compile a function that compiled loops of its file call; it becomes part of them."""
    return numba.njit(**_OPTIONS)(function)


class CompiledLoop:
    """A function that is compiled for the types of its first call, and then runs without the interpreter's lock.

    Args:
        function: what to compile.
    """

    def __init__(self, function: Callable) -> None:
        self.function = function
        self._lock = threading.Lock()
        self._ready = False
        try:
            self._compiled = numba.njit(cache=True, **_OPTIONS)(function)
            self._folder = Path(self._compiled.stats.cache_path)
        except RuntimeError:  # nowhere to write the cache: compile again in every process
            self._compiled = numba.njit(**_OPTIONS)(function)
            self._folder = None

    @property
    def signatures(self) -> list[tuple]:
        """The types of arguments that it is compiled for: one, or it was compiled more often than needed."""
        return self._compiled.signatures

    def __call__(self, *arguments) -> None:
        """Call the function."""
        if not self._ready:
            with self._lock:
                if not self._ready:
                    return self._first_call(arguments)
        return self._compiled(*arguments)

    def _first_call(self, arguments: tuple) -> None:
        if self._folder is None:
            self._compiled(*arguments)
        else:
            self._load_or_compile(arguments)
        self._ready = True

    def _load_or_compile(self, arguments: tuple) -> None:
        name = f"{self.function.__module__}.{self.function.__name__}"
        try:
            if not self._files():
                announce_compiling()
            elif not self._is_whole():
                _warn_of_damage(self._folder)
                for path in self._files():
                    path.unlink(missing_ok=True)
            self._compiled(*arguments)
        except OSError as error:
            logger.warning("the compiled loop %s cannot be kept (%s): every start compiles it", name, error)
            self._compiled = numba.njit(**_OPTIONS)(self.function)
            self._compiled(*arguments)
            return
        if self._compiled.stats.cache_misses:
            self._sign()

    def _sign(self) -> None:
        unfinished = self._checksum_file().with_suffix(f".{os.getpid()}")
        with contextlib.suppress(OSError):
            unfinished.write_text(self._checksum())
            os.replace(unfinished, self._checksum_file())

    def _files(self) -> list[Path]:
        """What numba keeps of the function: an index and the code."""
        return sorted(self._folder.glob(f"*.{self.function.__name__}-*.nb[ic]"))

    def _checksum_file(self) -> Path:
        return self._folder / f"{self.function.__module__}.{self.function.__name__}.sha256"

    def _checksum(self) -> str:
        digest = hashlib.sha256()
        for path in self._files():
            digest.update(regular(path).read_bytes())
        return digest.hexdigest()

    def _is_whole(self) -> bool:
        try:
            return regular(self._checksum_file()).read_text() == self._checksum()
        except (OSError, UnicodeDecodeError):
            return False


@functools.cache
def _warn_of_damage(folder: Path) -> None:
    """Say it once: what damages one file of a folder damages most of them."""
    logger.warning("compiled loops in %s are damaged: they are compiled again", folder)


def compiled(function: Callable) -> CompiledLoop:
    """Compile a function at its first call."""
    return CompiledLoop(function)
