# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What is left of a SQLite file that was cut off, and which of its rows are whole.

SQLite reads what is missing of a page, or all of it, as zeros. Where that is the last page of a long row, or the lower
part of a page of short ones, nothing tells: the rows come out, with zeros in them. So the pages of each row are
followed here.

Rows may be newer than the file: the write-ahead log of a recorder that was killed holds pages in the place of its own.

A table is a tree of pages. A leaf holds rows; what of a row does not fit lies on a chain of overflow pages, each of
which begins with the number of the next. Integers are big-endian.
Source: https://www.sqlite.org/fileformat2.html
"""

from __future__ import annotations

import logging
import os
import sqlite3
import struct
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

import numpy as np

logger = logging.getLogger(__name__)

FILE_HEADER_BYTES = 100
INTERIOR, LEAF = 0x05, 0x0D
LARGEST_PAGE = 65536

LOG_HEADER_BYTES, FRAME_HEADER_BYTES = 32, 24

HOT_JOURNAL = b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7"
"""How a journal begins that was not emptied."""


def log_of(path: Path) -> Path | None:
    """Return the write-ahead log next to a database, which holds its newest rows; None if there is none."""
    return _beside(path, "-wal")


def journal_of(path: Path) -> Path | None:
    """Return the journal of a transaction that was not finished; None if there is none."""
    journal = _beside(path, "-journal")
    if journal is None:
        return None
    with journal.open("rb") as stream:
        return journal if stream.read(len(HOT_JOURNAL)) == HOT_JOURNAL else None


def _beside(path: Path, ending: str) -> Path | None:
    file = path.with_name(path.name + ending)
    return file if file.is_file() and file.stat().st_size else None


def open_sqlite(path: Path) -> sqlite3.Connection:
    """Open a file to read it, also where it was cut off, together with its log; neither is changed."""
    # Without locks, and with the index of the log in memory, no file is made next to it, and none is needed.
    options = "mode=ro&vfs=unix-none" if log_of(path) else "immutable=1"
    database = sqlite3.connect(f"file:{quote(str(path))}?{options}", uri=True)
    database.execute("PRAGMA locking_mode = EXCLUSIVE")
    # Without this, SQLite refuses a file that is shorter than its header says.
    database.execute("PRAGMA writable_schema = ON")
    return database


def stores_rows(path: Path) -> bool:
    """Return whether all that a file holds is tables with stored columns, and each topic there once.

    A view or a generated column is a program: it may make rows without end out of a small file. So may a topic that
    is there a thousand times, since each message is then read a thousand times.
    """
    with suppress(sqlite3.Error, UnicodeDecodeError), closing(open_sqlite(path)) as database:
        kinds = {
            name: (kind, sql or "") for kind, name, sql in database.execute("SELECT type, name, sql FROM sqlite_master")
        }
        if any(kind == "view" or "virtual" in sql.lower() for kind, sql in kinds.values()):
            return False
        if any(kinds.get(name, ("", ""))[0] != "table" for name in ("topics", "messages")):
            return False
        tables = [name for name, (kind, _) in kinds.items() if kind == "table"]
        columns = (
            column for name in tables for column in database.execute("SELECT * FROM pragma_table_xinfo(?)", (name,))
        )
        if any(hidden for *_, hidden in columns):
            return False
        ((rows, topics),) = database.execute("SELECT count(*), count(DISTINCT id) FROM topics")
        return rows == topics
    return False


def is_cut(path: Path) -> bool:
    """Return whether a file ends within its last page, which SQLite does not mind, or before it."""
    with path.open("rb") as stream:
        header = stream.read(FILE_HEADER_BYTES)
    if len(header) < FILE_HEADER_BYTES:
        return True
    changes, pages, changes_at_pages = (struct.unpack_from(">I", header, at)[0] for at in (24, 28, 92))
    size = path.stat().st_size
    return size % _page_size(header) > 0 or (changes == changes_at_pages and size < pages * _page_size(header))


def whole_rows(path: Path, root: int) -> np.ndarray:
    """Return the ids (N,) int64 of the rows all of whose pages are there, ascending.

    Args:
        path: the file.
        root: number of the table's first page, from sqlite_master.
    """
    with ExitStack() as opened:
        log = log_of(path)
        file = _Pages(opened.enter_context(path.open("rb")), log and opened.enter_context(log.open("rb")))
        whole = (row for row, overflow in _rows(file, root) if file.has_chain(overflow))
        return np.sort(np.fromiter(whole, np.int64))


class CutSqlite:
    """What is left of a file and its log, in the order of insertion, less rows of which a page is missing.

    Attributes:
        stored: how many messages SQLite counts, whole or not.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.stored = 0
        self._runs: list[tuple[int, int]] = []
        self._topics: dict[int, tuple[str, str]] = {}
        with suppress(sqlite3.Error, UnicodeDecodeError), closing(open_sqlite(path)) as database:
            found = database.execute("SELECT rootpage FROM sqlite_master WHERE name = 'messages'").fetchone()
            if found is None or not stores_rows(path):
                return
            whole = whole_rows(path, found[0])
            # SQLite ends a query at a page that is missing between two rows: one query for each run of whole ones.
            runs = np.split(whole, np.flatnonzero(np.diff(whole) > 1) + 1)
            self._runs = [(int(run[0]), int(run[-1])) for run in runs if len(run)]
            columns = database.execute("SELECT id, name, type FROM topics")
            self._topics = {key: (name, message_type) for key, name, message_type in columns}
            ((self.stored,),) = database.execute("SELECT count(*) FROM messages")

    def messages(self) -> Iterator[tuple[str, str, int, bytes]]:
        """Yield topic, type, time of recording and serialised bytes of every whole message."""
        query = "SELECT topic_id, timestamp, data FROM messages WHERE id BETWEEN ? AND ? ORDER BY id"
        with closing(open_sqlite(self._path)) as database:
            for run in self._runs:
                try:
                    for key, log_ns, data in database.execute(query, run):
                        if key in self._topics and isinstance(data, bytes):
                            yield *self._topics[key], log_ns, data
                except (sqlite3.Error, UnicodeDecodeError) as error:
                    logger.debug("%s: reading of rows %d to %d ended: %s", self._path, *run, error)


class _Pages:
    """The pages of a file, numbered from 1; those that its log holds are taken from there."""

    def __init__(self, stream: BinaryIO, log: BinaryIO | None) -> None:
        self._stream = stream
        header = stream.read(FILE_HEADER_BYTES)
        self._size = _page_size(header)
        self.usable = self._size - header[20]
        self._count = os.fstat(stream.fileno()).st_size // self._size  # whole pages only
        self._log = log
        self._logged = _logged_pages(log) if log else {}

    def page(self, number: int, length: int | None = None) -> bytes | None:
        """Return a page, or its first bytes; None if it is not there as a whole."""
        if number in self._logged:
            stream, at = self._log, self._logged[number]
        elif 1 <= number <= self._count:
            stream, at = self._stream, (number - 1) * self._size
        else:
            return None
        stream.seek(at)
        return stream.read(length or self._size)

    def has_chain(self, number: int) -> bool:
        """Whether every page of a chain is there; its first number is 0 where there is none."""
        for _ in range(self._count + len(self._logged) + 1):
            if number == 0:
                return True
            next_page = self.page(number, 4)
            if next_page is None:
                return False
            number = int.from_bytes(next_page, "big")
        return False  # it runs in a circle


def _logged_pages(log: BinaryIO) -> dict[int, int]:
    """Where the newest version of each page is in a log, by its number; what was not committed does not count.

    A frame is its page's number, the size of the file if it ends a transaction, two salts that are those of the log's
    header, two sums, and the page.
    """
    header = log.read(LOG_HEADER_BYTES)
    if len(header) < LOG_HEADER_BYTES:
        return {}
    (size,), salts = struct.unpack_from(">I", header, 8), header[16:24]
    end = os.fstat(log.fileno()).st_size
    committed: dict[int, int] = {}
    pending: dict[int, int] = {}
    at = LOG_HEADER_BYTES
    while at + FRAME_HEADER_BYTES + size <= end:
        log.seek(at)
        frame = log.read(FRAME_HEADER_BYTES)
        if frame[8:16] != salts:
            break
        number, commit = struct.unpack_from(">II", frame)
        pending[number] = at + FRAME_HEADER_BYTES
        if commit:
            committed.update(pending)
            pending.clear()
        at += FRAME_HEADER_BYTES + size
    return committed


def _rows(file: _Pages, root: int) -> Iterator[tuple[int, int]]:
    """(id, first overflow page or 0) of every row on a leaf that is there as a whole."""
    waiting, seen = [root], set()
    while waiting:
        number = waiting.pop()
        page = file.page(number)
        if page is None or number in seen:
            continue
        seen.add(number)
        start = FILE_HEADER_BYTES if number == 1 else 0
        kind, cells = page[start], struct.unpack_from(">H", page, start + 3)[0]
        if kind not in (INTERIOR, LEAF):
            continue
        head = 12 if kind == INTERIOR else 8
        offsets = struct.unpack_from(f">{cells}H", page, start + head)
        if kind == INTERIOR:
            waiting.extend(struct.unpack_from(">I", page, offset)[0] for offset in offsets)
            waiting.append(struct.unpack_from(">I", page, start + 8)[0])
        else:
            yield from (_row(page, offset, file.usable) for offset in offsets)


def _row(page: bytes, offset: int, usable: int) -> tuple[int, int]:
    """(id, first overflow page or 0) of the row at an offset."""
    size, offset = _varint(page, offset)
    row, offset = _varint(page, offset)
    if size <= usable - 35:
        return row, 0
    least = (usable - 12) * 32 // 255 - 23
    local = least + (size - least) % (usable - 4)
    local = local if local <= usable - 35 else least
    return row, struct.unpack_from(">I", page, offset + local)[0]


def _page_size(header: bytes) -> int:
    size = struct.unpack_from(">H", header, 16)[0]
    return size if size > 1 else LARGEST_PAGE  # which has no room in two bytes


def _varint(page: bytes, offset: int) -> tuple[int, int]:
    """The number at an offset, seven bits a byte with the highest first, and the offset after it."""
    value = 0
    for i in range(8):
        octet = page[offset + i]
        value = value << 7 | octet & 127
        if octet < 128:
            return value, offset + i + 1
    return value << 8 | page[offset + 8], offset + 9
