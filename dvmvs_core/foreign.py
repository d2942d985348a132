# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The boundary to data that others made: whatever a library raises over it becomes one error that names it.

Decoders and readers meet damaged data with exceptions of every kind (cv2.error, BadZipFile, TokenError, MemoryError),
and no list of them is ever complete. So all of them are caught here, and nowhere else is such a list.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dvmvs_core.errors import DataError, DvmvsError

QUOTED = 80
"""Characters of foreign text that an error shows at most."""

REASON = 160
"""Characters of a library's own words that an error shows at most."""


@contextmanager
def foreign(what: str, error: type[DvmvsError] = DataError, advice: str = "") -> Iterator[None]:
    """Turn what a block raises over foreign data into one error.

    A clear error of the type asked for passes as it is; one of another type gets `what` in front.

    Args:
        what: what is wrong, naming the file, topic or message: "poses.txt cannot be read".
        error: the error to raise.
        advice: what to do about it, after the reason.

    Raises:
        DvmvsError: of type `error`, in place of every other exception.
    """
    try:
        yield
    except error:
        raise
    except Exception as fault:
        raise error(f"{what}: {reason(fault)}{advice}") from fault


def regular(path: Path) -> Path:
    """Return a path that is about to be opened, unless what is there may never end or never begin.

    Raises:
        OSError: if it is a pipe or a device.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise OSError(errno.EINVAL, "it is a pipe or a device, and no file", str(path))
    return path


def reason(fault: BaseException) -> str:
    """Return what an exception says, as one line."""
    if isinstance(fault, MemoryError):
        return "it needs more memory than there is"
    said = fault.strerror if isinstance(fault, OSError) and fault.strerror else str(fault)
    words = " ".join(said.split())
    if isinstance(fault, DvmvsError):
        return words
    return shortened(words, REASON) if words else type(fault).__name__


def shortened(text: str, length: int = QUOTED) -> str:
    """Return text, cut to a length where it is longer."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def quoted(value: object) -> str:
    """Return a foreign value as an error quotes it: its repr, cut where it is long."""
    return shortened(repr(value[: QUOTED + 1] if isinstance(value, (str, bytes)) else value))
