# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Writing files and folders so that a half-written one never replaces a good one, and none is left behind for ever.

What is being written has a hidden name next to its own, and holds a lock for as long as its process lives. Whoever
writes the same next removes what is there without a lock: a run before was killed.
"""

from __future__ import annotations

import fcntl
import glob
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

UNFINISHED = "unfinished"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name next to `path` to write to, and move it there once the block has ended well.

    Folders above are made. After an exception the temporary file is removed and `path` is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    clear_leftovers(path)
    unfinished = _unfinished(path, path.suffix)
    with _named(path, unfinished):
        lock = os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
        try:
            _try_lock(lock)
            yield unfinished
            os.replace(unfinished, path)
        finally:
            os.close(lock)
            with suppress(FileNotFoundError):
                unfinished.unlink()


@contextmanager
def unfinished_folder(path: Path) -> Iterator[Path]:
    """Give a hidden folder next to `path` to write in, which is removed at the end with what is left in it.

    Folders above are made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    clear_leftovers(path)
    unfinished = _unfinished(path)
    with _named(path, unfinished):
        unfinished.mkdir()
        lock = os.open(unfinished, os.O_RDONLY)
        try:
            _try_lock(lock)
            yield unfinished
        finally:
            os.close(lock)
            shutil.rmtree(unfinished, ignore_errors=True)


@contextmanager
def only_writer(path: Path) -> Iterator[bool]:
    """Say whether this process alone writes the folder `path`, which is there, and keep it so while the block runs."""
    lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield _try_lock(lock) is not False
    finally:
        os.close(lock)


def clear_leftovers(path: Path) -> None:
    """Remove what writers of `path` left behind when they were killed."""
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.{UNFINISHED}-*"):
        with suppress(OSError):  # somebody else was faster, or it is not ours to remove
            lock = os.open(leftover, os.O_RDONLY)
            try:
                if _try_lock(lock):
                    shutil.rmtree(leftover, ignore_errors=True) if leftover.is_dir() else leftover.unlink()
            finally:
                os.close(lock)


def _unfinished(path: Path, suffix: str = "") -> Path:
    return path.with_name(f".{path.name}.{UNFINISHED}-{secrets.token_hex(4)}{suffix}")


@contextmanager
def _named(path: Path, unfinished: Path) -> Iterator[None]:
    """Have what the system refuses name `path`, and not the hidden name or, as on a full disk, none."""
    try:
        yield
    except OSError as error:
        if error.errno and (error.filename is None or str(error.filename).startswith(str(unfinished))):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def _try_lock(descriptor: int) -> bool | None:
    """Whether nobody else has the lock; None where the file system has none, as some of networks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True
