# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Compiled models on disk, so that only the first start on a machine has to compile them.

A file holds a checksum and what the compiler of the device made. Whatever is wrong with a file or a folder costs a
compilation and one line in the log, never more.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import os
from pathlib import Path

from dvmvs_core.atomic import replacing
from dvmvs_core.foreign import regular

logger = logging.getLogger(__name__)
logger.setLevel(logging.INFO)  # whoever listens to the package's warnings shall hear of this, too

ABOUT_S = 20
"""What compiling for the default weights adds on two cores: `dvmvs warm-up`, on an empty cache and again, tells."""


@functools.cache
def announce_compiling() -> None:
    """Say that this start takes longer."""
    logger.info("compiling kernels for this processor: on the first start only, about %d s on two cores", ABOUT_S)


FOLDER_VARIABLE = "DVMVS_CACHE_DIR"
"""Environment variable that names the folder; by default it is `dvmvs` in the user's cache folder."""

KEPT_FILES = 24
"""Files of most recent use that stay: those of eight networks, up to 140 MB each."""

_SUFFIX = ".compiled"
_CHECKSUM = hashlib.sha256


def cache_folder() -> Path:
    """Return the folder of compiled models, which need not exist."""
    if named := os.environ.get(FOLDER_VARIABLE):
        return Path(named).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "dvmvs"


def load(name: str) -> bytes | None:
    """Return what was stored under a name; None if there is nothing, or nothing whole."""
    path = cache_folder() / (name + _SUFFIX)
    try:
        stored = regular(path).read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        logger.warning("the compiled model %s cannot be read (%s): it is compiled again", path, error)
        return None
    size = _CHECKSUM().digest_size
    if _CHECKSUM(stored[size:]).digest() != stored[:size]:
        logger.warning("the compiled model %s is damaged: it is compiled again", path)
        return None
    with contextlib.suppress(OSError):  # the time of its last use
        os.utime(path)
    return stored[size:]


def store(name: str, compiled: bytes) -> None:
    """Keep a compiled model, and forget those that were not used for longest."""
    folder = cache_folder()
    try:
        with replacing(folder / (name + _SUFFIX)) as unfinished:
            unfinished.write_bytes(_CHECKSUM(compiled).digest() + compiled)
        files = sorted(folder.glob("[!.]*" + _SUFFIX), key=lambda path: path.stat().st_mtime)
        for path in files[:-KEPT_FILES]:
            path.unlink()
    except OSError as error:
        logger.warning("compiled models cannot be kept in %s (%s): every start compiles them", folder, error)
