# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Bags of which a part is missing, renamed or wrong about itself."""

from __future__ import annotations

import re
import shutil
import struct

import numpy as np
import pytest
from rosbags.rosbag2 import CompressionMode, Reader, StoragePlugin, Writer

from dvmvs_core.data.bags.bag_files import typestore
from dvmvs_core.data.open_sequence import open_sequence
from dvmvs_core.errors import DataError

SUFFIX = {"mcap": ".mcap", "sqlite3": ".db3"}
DATA_END, CHUNK_INDEX = 0x0F, 0x08


def storage_file(bag):
    (file,) = (f for f in bag.iterdir() if f.suffix != ".yaml")
    return file


def written(messages, connections, out, storage):
    """A bag of some messages, in chunks that are compressed where it can have them."""
    writer = Writer(out, version=8, storage_plugin=StoragePlugin.MCAP if storage == "mcap" else StoragePlugin.SQLITE3)
    if storage == "mcap":
        writer.compression_mode = CompressionMode.STORAGE
    with writer:
        own = {c.id: writer.add_connection(c.topic, c.msgtype, typestore=typestore()) for c in connections}
        for connection, stamp_ns, data in messages:
            writer.write(own[connection.id], stamp_ns, data)
    return out


def split(bag, out, storage):
    """A bag in two files, run_0 and run_1."""
    out.mkdir()
    with Reader(bag) as reader:
        messages = list(reader.messages())
        for part, half in enumerate((messages[: len(messages) // 2], messages[len(messages) // 2 :])):
            piece = written(half, reader.connections, out.with_name(f"piece{part}"), storage)
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
    with Reader(make_bag(frames=240)) as reader:
        bag = written(reader.messages(), reader.connections, tmp_path / "chunks", "mcap")
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
    first = parts / f"run_0{SUFFIX[storage]}"
    first.rename(parts / f"walk{SUFFIX[storage]}")
    sequence = open_sequence(parts)
    items = list(sequence.items())
    assert [item.frame.stamp_ns for item in items] == [item.frame.stamp_ns for item in expected]
    assert not sequence.dropped
    for ours, theirs in zip(items, expected, strict=True):
        np.testing.assert_array_equal(ours.frame.image, theirs.frame.image)


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
