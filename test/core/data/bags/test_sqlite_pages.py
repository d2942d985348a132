# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Rows that are whole in a cut-off file, against what SQLite makes of all of them."""

from __future__ import annotations

import sqlite3

import numpy as np
import pytest

from dvmvs_core.data.bags.sqlite_pages import is_cut, whole_rows


@pytest.mark.parametrize("page_size", (512, 4096, 65536))
def test_of_a_file_cut_anywhere_the_whole_rows_are_told_from_those_filled_up_with_zeros(tmp_path, page_size):
    random = np.random.default_rng(page_size)
    rows = {
        i + 1: random.integers(1, 256, int(size), np.uint8).tobytes()
        for i, size in enumerate(random.choice((3, 100, 477, 478, 900, 5000, 70000), 60))
    }
    path = tmp_path / "table.db"
    with sqlite3.connect(path) as database:
        database.execute(f"PRAGMA page_size = {page_size}")
        database.execute("CREATE TABLE messages (id INTEGER PRIMARY KEY, data BLOB)")
        database.executemany("INSERT INTO messages VALUES (?, ?)", rows.items())
    database.close()
    whole = path.read_bytes()
    filled_up = 0
    assert not is_cut(path)
    for size in (*random.integers(3 * page_size, len(whole), 25).tolist(), len(whole) - 1, len(whole) - page_size // 2):
        path.write_bytes(whole[:size])
        assert is_cut(path)
        database = sqlite3.connect(f"file:{path}?immutable=1", uri=True)
        database.execute("PRAGMA writable_schema = ON")
        (root,) = database.execute("SELECT rootpage FROM sqlite_master").fetchone()
        sound, found = set(whole_rows(path, root).tolist()), 0
        try:
            for row, data in database.execute("SELECT id, data FROM messages ORDER BY id"):
                if row in sound:
                    assert data == rows[row], (size, row)
                    found += 1
                else:
                    filled_up += data != rows.get(row)
        except sqlite3.DatabaseError:
            pass
        database.close()
    assert filled_up, "no cut of this test shows what it is for"
    path.write_bytes(whole)
    assert whole_rows(path, root).tolist() == list(rows)
