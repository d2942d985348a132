# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Bags that were cut off or damaged: what can be read is used, and it is said how much that is."""

from __future__ import annotations

import shutil
import sqlite3

import numpy as np
import pytest
from rosbags.rosbag2 import CompressionMode, Reader, StoragePlugin, Writer

from dvmvs_core.data.bags.bag_files import typestore
from dvmvs_core.data.bags.mcap_salvage import salvage_mcap
from dvmvs_core.data.open_sequence import open_sequence
from dvmvs_core.errors import DataError, DvmvsError

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
SUFFIX = {"mcap": ".mcap", "sqlite3": ".db3"}


def storage_file(bag):
    (file,) = (f for f in bag.iterdir() if f.suffix != ".yaml")
    return file


def cut(file, size: int) -> None:
    file.write_bytes(file.read_bytes()[:size])


def recompressed(bag, out):
    """The same bag with compressed chunks."""
    with Reader(bag) as reader:
        writer = Writer(out, version=8, storage_plugin=StoragePlugin.MCAP)
        writer.compression_mode = CompressionMode.STORAGE
        with writer:
            connections = {
                c.id: writer.add_connection(c.topic, c.msgtype, typestore=typestore()) for c in reader.connections
            }
            for connection, stamp_ns, data in reader.messages():
                writer.write(connections[connection.id], stamp_ns, data)
    return out


@pytest.mark.parametrize("storage", SUFFIX)
def test_a_bag_cut_in_the_middle_gives_its_first_frames_as_they_were(make_bag, storage):
    bag = make_bag(storage, frames=60)
    whole = list(open_sequence(bag).items())
    file = storage_file(bag)
    cut(file, file.stat().st_size * 6 // 10)
    sequence = open_sequence(bag)
    items = list(sequence.items())
    assert 20 <= len(items) <= 36
    for ours, theirs in zip(items, whole, strict=False):
        assert np.array_equal(ours.frame.image, theirs.frame.image)
        assert np.allclose(ours.frame.world_T_cam, theirs.frame.world_T_cam, atol=1e-14)
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
    shutil.copy(storage_file(whole), parts / "run_2.mcap")
    with Reader(whole) as reader:
        writer = Writer(tmp_path / "late", version=8, storage_plugin=StoragePlugin.MCAP)
        with writer:
            for c in [c for c in reader.connections if c.topic == "/camera/image_rect"]:
                connection = writer.add_connection(c.topic, c.msgtype, typestore=typestore())
                for _, stamp_ns, data in reader.messages([c]):
                    writer.write(connection, stamp_ns, data)
    shutil.copy(storage_file(tmp_path / "late"), parts / "run_10.mcap")
    sequence = open_sequence(parts)
    assert len(sequence) == 12
    assert [item.frame.index for item in sequence.items()] == [0, 1, 2, 3, 4, 5]
    assert sequence.dropped == {"not newer than the one before": 6}


def test_compressed_chunks_are_salvaged_too(make_bag, tmp_path):
    bag = recompressed(make_bag(frames=60), tmp_path / "compressed")
    with Reader(bag) as reader:
        expected = [(c.topic, stamp_ns, bytes(data)) for c, stamp_ns, data in reader.messages()]
    file = storage_file(bag)
    found = [(m.topic, m.log_ns, bytes(m.data)) for m in salvage_mcap(file)]
    assert sorted(found) == sorted(expected)
    cut(file, file.stat().st_size // 2)
    found = [(m.topic, m.log_ns, bytes(m.data)) for m in salvage_mcap(file)]
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
        for item in items:
            expected = whole[item.frame.stamp_ns]
            assert np.array_equal(item.frame.image, expected.frame.image)
            assert np.array_equal(item.frame.K, expected.frame.K)
            assert np.allclose(item.frame.world_T_cam, expected.frame.world_T_cam, atol=1e-14)
            assert item.sensor_depth is None or np.array_equal(item.sensor_depth, expected.sensor_depth)
        if len(items) < len(whole):
            assert file.name in sequence.faults and "could still be read" in " ".join(sequence.notes), size
    assert parts > 10


def test_a_damaged_chunk_in_the_middle_costs_what_follows_and_is_said(make_bag, tmp_path, caplog):
    bag = recompressed(make_bag(frames=240), tmp_path / "compressed")
    file = storage_file(bag)
    data = bytearray(file.read_bytes())
    second_chunk = data.index(ZSTD_MAGIC, data.index(ZSTD_MAGIC) + 4)
    data[second_chunk : second_chunk + 4] = b"gone"
    file.write_bytes(data)
    assert 100 < len(list(open_sequence(bag).items())) < 130
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
    assert {message.topic for message in found} >= {"/tf", "/camera/image_rect"}
