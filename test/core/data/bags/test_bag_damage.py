# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Bags that were cut off or damaged, or lack a part: what can be read is used, and it is said how much that is."""

from __future__ import annotations

import re
import shutil
import sqlite3
import struct

import numpy as np
import pytest
from bag_recordings import SUFFIX, assert_same_frames, rewritten, storage_file
from rosbags.rosbag2 import CompressionMode, Reader

from dvmvs_core.data.bags.mcap_salvage import salvage_mcap
from dvmvs_core.data.bags.sqlite_salvage import is_cut, whole_rows
from dvmvs_core.data.open_sequence import open_sequence
from dvmvs_core.errors import DataError, DvmvsError

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
CHUNK_INDEX = 0x08
OF_CHUNKS = {"frames": 16, "size": (144, 192)}
"""A scene whose bag has a chunk for each seven frames."""


def cut(file, size: int) -> None:
    file.write_bytes(file.read_bytes()[:size])


@pytest.mark.parametrize("storage", SUFFIX)
def test_a_bag_cut_in_the_middle_gives_its_first_frames_as_they_were(make_bag, storage):
    bag = make_bag(storage, frames=60)
    whole = list(open_sequence(bag).items())
    file = storage_file(bag)
    cut(file, file.stat().st_size * 6 // 10)
    sequence = open_sequence(bag)
    items = list(sequence.items())
    assert 20 <= len(items) <= 36
    assert_same_frames(items, whole, strict=False)
    (note,) = (note for note in sequence.notes if "could still be read" in note)
    assert str(file) in note


@pytest.mark.parametrize("storage", SUFFIX)
def test_a_recorder_that_was_killed_leaves_no_metadata_and_no_end(make_bag, storage):
    bag = make_bag(storage, frames=30)
    (bag / "metadata.yaml").unlink()
    assert len(list(open_sequence(bag).items())) == 30
    file = storage_file(bag)
    cut(file, file.stat().st_size * 9 // 10)
    sequence = open_sequence(bag)
    assert 20 <= len(list(sequence.items())) < 30
    assert any("read one by one" in note for note in sequence.notes)


def test_split_files_without_metadata_are_read_in_their_natural_order(make_bag, tmp_path):
    parts = tmp_path / "parts"
    parts.mkdir()
    whole = make_bag(frames=6)
    images = rewritten(whole, tmp_path / "late", keep=lambda _, connection: connection.topic == "/camera/image_rect")
    for number, bag in ((2, whole), (10, images)):
        shutil.copy(storage_file(bag), parts / f"run_{number}.mcap")
    sequence = open_sequence(parts)
    assert len(sequence) == 12
    assert [item.frame.index for item in sequence.items()] == [0, 1, 2, 3, 4, 5]
    assert sequence.dropped == {"not newer than the one before": 6}


def test_compressed_chunks_are_salvaged_too(make_bag, tmp_path):
    whole = make_bag(frames=60)
    with Reader(whole) as reader:
        expected = [(c.topic, stamp_ns, bytes(data)) for c, stamp_ns, data in reader.messages()]
    file = storage_file(rewritten(whole, tmp_path / "compressed"))
    found = [(topic, log_ns, bytes(data)) for topic, _, log_ns, data in salvage_mcap(file)]
    assert sorted(found) == sorted(expected)
    cut(file, file.stat().st_size // 2)
    found = [(topic, log_ns, bytes(data)) for topic, _, log_ns, data in salvage_mcap(file)]
    assert len(expected) // 4 < len(found) < len(expected)
    assert set(found) < set(expected)


@pytest.mark.parametrize("storage", SUFFIX)
def test_a_cut_at_any_byte_is_a_part_or_one_clear_error_and_never_a_wrong_frame(make_bag, storage):
    bag = make_bag(storage, frames=9)
    whole = {item.frame.stamp_ns: item for item in open_sequence(bag).items()}
    file = storage_file(bag)
    data = file.read_bytes()
    sizes = np.random.default_rng(0).integers(0, len(data), 50).tolist()
    parts = 0
    for size in (*sizes, 0, 1, 8, len(data) - 1, len(data) - 40):
        file.write_bytes(data[:size])
        try:
            sequence = open_sequence(bag)
            items = list(sequence.items())
        except DvmvsError as error:
            assert str(bag) in str(error) and "\n" not in str(error)
            continue
        parts += 1
        expected = [whole[item.frame.stamp_ns] for item in items]
        assert_same_frames(items, expected, with_depth=False)
        for ours, theirs in zip(items, expected, strict=True):
            assert ours.sensor_depth is None or np.array_equal(ours.sensor_depth, theirs.sensor_depth)
        if len(items) < len(whole):
            assert file.name in sequence.faults and "could still be read" in " ".join(sequence.notes), size
    assert parts > 10


def test_a_damaged_chunk_in_the_middle_costs_what_follows_and_is_said(make_bag, tmp_path, caplog):
    bag = rewritten(make_bag(**OF_CHUNKS), tmp_path / "compressed")
    file = storage_file(bag)
    data = bytearray(file.read_bytes())
    second_chunk = data.index(ZSTD_MAGIC, data.index(ZSTD_MAGIC) + 4)
    data[second_chunk : second_chunk + 4] = b"gone"
    file.write_bytes(data)
    assert 5 < len(list(open_sequence(bag).items())) < 9
    assert "is damaged" in caplog.text
    assert "messages after the damage are missing" in caplog.text


def test_sqlite_that_is_no_bag_says_so(tmp_path):
    folder = tmp_path / "bag"
    folder.mkdir()
    with sqlite3.connect(folder / "x.db3") as database:
        database.execute("CREATE TABLE other (id INTEGER)")
    with pytest.raises(DataError, match="holds no message"):
        open_sequence(folder)


def test_a_folder_that_lost_its_storage_file_says_so(make_bag):
    bag = make_bag()
    storage_file(bag).unlink()
    with pytest.raises(DataError, match=r"must hold \*.mcap or \*.db3 files; found none"):
        open_sequence(bag)


def test_a_record_that_claims_to_be_endless_ends_the_file(make_bag):
    file = storage_file(make_bag(frames=3))
    data = file.read_bytes()
    header_end = 8 + 9 + int.from_bytes(data[9:17], "little")
    file.write_bytes(data[:header_end] + b"\x06" + (2**62).to_bytes(8, "little") + data[header_end + 9 :])
    found = list(salvage_mcap(file))  # the chunk itself is whole, and its own lengths are right
    assert {topic for topic, *_ in found} >= {"/tf", "/camera/image_rect"}


def split(bag, out, storage):
    """A bag in two files, run_0 and run_1."""
    out.mkdir()
    with Reader(bag) as reader:
        half = reader.message_count // 2
    for part in (0, 1):
        piece = out.with_name(f"piece{part}")
        mode = CompressionMode.STORAGE if storage == "mcap" else CompressionMode.NONE
        rewritten(bag, piece, storage, mode, lambda number, _, part=part: (number >= half) == part)
        shutil.copy(storage_file(piece), out / f"run_{part}{SUFFIX[storage]}")
    names = "".join(f"  - run_{part}{SUFFIX[storage]}\n" for part in (0, 1))
    metadata = (bag / "metadata.yaml").read_text()
    (out / "metadata.yaml").write_text(re.sub(r"( +- \S+(?:db3|mcap)\n)", names, metadata, count=1))
    return out


def records(data: bytes):
    """Offset, opcode and end of each record of an mcap file."""
    at = 8
    while at < len(data) - 8:
        opcode, length = struct.unpack_from("<BQ", data, at)
        yield at, opcode, at + 9 + length
        at += 9 + length


def without_last_chunk(data: bytes) -> bytes:
    """An mcap file whose index leaves out its last chunk, as of a recorder that was killed between the two."""
    start, _, end = [record for record in records(data) if record[1] == CHUNK_INDEX][-1]
    return data[:start] + data[end:]


def with_shifted_chunks(data: bytes) -> bytes:
    """An mcap file whose index names other places, as of one that was edited."""
    shifted = bytearray(data)
    for start, opcode, _ in records(data):
        if opcode == CHUNK_INDEX:
            (offset,) = struct.unpack_from("<Q", shifted, start + 25)
            struct.pack_into("<Q", shifted, start + 25, offset + 7)
    return bytes(shifted)


@pytest.mark.parametrize("metadata", (True, False), ids=("with metadata.yaml", "without"))
@pytest.mark.parametrize("wrong", (without_last_chunk, with_shifted_chunks))
def test_an_index_that_does_not_fit_its_chunks_is_not_believed(make_bag, tmp_path, wrong, metadata):
    bag = rewritten(make_bag(**OF_CHUNKS), tmp_path / "chunks")
    expected = [item.frame.stamp_ns for item in open_sequence(bag).items(depth=False)]
    file = storage_file(bag)
    file.write_bytes(wrong(file.read_bytes()))
    if not metadata:
        (bag / "metadata.yaml").unlink()
    sequence = open_sequence(bag)
    assert [item.frame.stamp_ns for item in sequence.items(depth=False)] == expected
    assert f"the index of {file.name} names other chunks than it has" in sequence.faults[file.name]


@pytest.mark.parametrize("storage", SUFFIX)
def test_a_file_of_a_split_bag_that_was_renamed_keeps_its_place_in_time(make_bag, tmp_path, storage):
    bag = make_bag(storage, frames=14)
    expected = list(open_sequence(bag).items())
    parts = split(bag, tmp_path / "parts", storage)
    (parts / f"run_0{SUFFIX[storage]}").rename(parts / f"walk{SUFFIX[storage]}")
    sequence = open_sequence(parts)
    assert_same_frames(sequence.items(), expected)
    assert not sequence.dropped


@pytest.mark.parametrize("storage", SUFFIX)
def test_a_file_of_a_split_bag_that_is_missing_is_named_as_the_cause(make_bag, tmp_path, storage):
    parts = split(make_bag(storage, frames=14), tmp_path / "parts", storage)
    kept = tmp_path / "kept"
    (parts / f"run_0{SUFFIX[storage]}").rename(kept)
    with pytest.raises(DataError, match=f"no transform leads to .*files are missing: .*run_0{SUFFIX[storage]}"):
        open_sequence(parts)
    kept.rename(parts / f"run_0{SUFFIX[storage]}")
    (parts / f"run_1{SUFFIX[storage]}").unlink()
    sequence = open_sequence(parts)
    assert len(list(sequence.items())) == 7
    assert any("files are missing" in note and f"run_1{SUFFIX[storage]}" in note for note in sequence.notes)


def test_an_mcap_file_is_read_by_its_content_whatever_its_name(make_bag, tmp_path):
    bag = make_bag(frames=6)
    (tmp_path / "other").mkdir()
    shutil.copy(storage_file(bag), tmp_path / "other/run.db3")
    sequence = open_sequence(tmp_path / "other")
    assert len(list(sequence.items())) == 6
    assert "it is an mcap file, whatever its name says" in sequence.faults["run.db3"]


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
