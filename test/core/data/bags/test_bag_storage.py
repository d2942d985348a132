# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""In how many files and forms a bag may be stored, of ROS 1 too: half of it is never read without a word."""

from __future__ import annotations

import hashlib
import re
import shutil
import sqlite3

import pytest
from bag_recordings import SUFFIX, as_ros_1, assert_same_frames, rewritten, storage_file
from rosbags.rosbag2 import CompressionMode

from dvmvs_core.data.open_sequence import open_sequence
from dvmvs_core.errors import DataError


@pytest.mark.parametrize("metadata", (True, False), ids=("with metadata.yaml", "without"))
@pytest.mark.parametrize("kept", (0, 33))
def test_rows_in_the_write_ahead_log_are_read_and_nothing_is_changed(make_bag, into_the_log, metadata, kept):
    bag = make_bag("sqlite3", frames=14)
    expected = list(open_sequence(bag).items())
    file = storage_file(bag)
    into_the_log(file, kept)
    if not metadata:
        (bag / "metadata.yaml").unlink()
    before = {f.name: hashlib.md5(f.read_bytes()).hexdigest() for f in bag.iterdir()}
    sequence = open_sequence(bag)
    assert_same_frames(sequence.items(), expected)
    assert any(f"read together with its log {file.name}-wal" in note for note in sequence.notes)
    assert sequence.faults == {}
    assert {f.name: hashlib.md5(f.read_bytes()).hexdigest() for f in bag.iterdir()} == before
    assert_same_frames(open_sequence(file).items(), expected)


def test_a_log_beside_a_file_that_was_cut_gives_what_both_hold_and_never_zeros(make_bag, into_the_log):
    bag = make_bag("sqlite3", frames=30)
    expected = {item.frame.stamp_ns: item for item in open_sequence(bag).items()}
    file = storage_file(bag)
    into_the_log(file, 90)
    data = file.read_bytes()
    file.write_bytes(data[: len(data) * 6 // 10])
    sequence = open_sequence(bag)
    items = list(sequence.items())
    assert 12 <= len(items) < 30
    assert_same_frames(items, [expected[item.frame.stamp_ns] for item in items], with_depth=False)
    assert {item.frame.stamp_ns for item in items} >= set(list(expected)[-7:]), "the log holds them, behind the gap"
    assert file.name in sequence.faults


def test_a_log_that_was_cut_gives_its_whole_transactions(make_bag, into_the_log):
    bag = make_bag("sqlite3", frames=14)
    expected = list(open_sequence(bag).items())
    file = storage_file(bag)
    into_the_log(file, 33)
    log = file.with_name(f"{file.name}-wal")
    log.write_bytes(log.read_bytes()[: log.stat().st_size * 7 // 10])
    items = list(open_sequence(bag).items())
    assert 8 < len(items) < 14
    assert_same_frames(items, expected, strict=False, with_depth=False)


def test_a_transaction_that_was_not_finished_is_named(make_bag):
    bag = make_bag("sqlite3")
    file = storage_file(bag)
    file.with_name(f"{file.name}-journal").write_bytes(b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + bytes(504))
    sequence = open_sequence(bag)
    assert any(f"since {file.name}-journal was not finished" in note for note in sequence.notes)
    assert len(list(sequence.items())) == 6


@pytest.mark.parametrize("metadata", (True, False), ids=("with metadata.yaml", "without"))
@pytest.mark.parametrize("mode", ("FILE", "MESSAGE"))
@pytest.mark.parametrize("storage", SUFFIX)
def test_zstd_is_read_whatever_it_compresses(make_bag, tmp_path, storage, mode, metadata):
    whole = make_bag(storage)
    expected = list(open_sequence(whole).items())
    bag = rewritten(whole, tmp_path / "packed", storage, CompressionMode[mode])
    if not metadata:
        (bag / "metadata.yaml").unlink()
    assert_same_frames(open_sequence(bag).items(), expected)
    assert_same_frames(open_sequence(storage_file(bag)).items(), expected)


@pytest.mark.parametrize("storage", SUFFIX)
def test_a_compressed_file_that_was_cut_gives_what_comes_out_of_it(make_bag, tmp_path, storage):
    bag = rewritten(make_bag(storage, frames=60), tmp_path / "packed", storage, CompressionMode.FILE)
    file = storage_file(bag)
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 6 // 10])
    sequence = open_sequence(bag)
    assert 10 < len(list(sequence.items())) < 60
    assert any(f"{file} is cut off or damaged" in note for note in sequence.notes)


def test_one_damaged_compressed_message_costs_itself_alone(make_bag, tmp_path):
    bag = rewritten(make_bag("sqlite3"), tmp_path / "packed", "sqlite3", CompressionMode.MESSAGE)
    with sqlite3.connect(storage_file(bag)) as database:
        (key,) = database.execute("SELECT id FROM topics WHERE name = '/camera/image_rect'").fetchone()
        rows = database.execute("SELECT id, data FROM messages WHERE topic_id = ?", (key,)).fetchall()
        row, data = rows[2]
        database.execute("UPDATE messages SET data = ? WHERE id = ?", (data[:5] + b"\xff" * 20 + data[25:], row))
    database.close()
    assert [item.frame.index for item in open_sequence(bag).items()] == [0, 1, 3, 4, 5]


@pytest.mark.parametrize("storage", SUFFIX)
def test_a_metadata_file_that_counts_nothing_is_not_believed(make_bag, storage):
    bag = make_bag(storage)
    expected = list(open_sequence(bag).items())
    metadata = bag / "metadata.yaml"
    metadata.write_text(re.sub(r"message_count: \d+", "message_count: 0", metadata.read_text()))
    sequence = open_sequence(bag)
    assert_same_frames(sequence.items(), expected)
    assert any("metadata.yaml counts 0 messages, its files hold 25" in note for note in sequence.notes)


@pytest.mark.parametrize("storage", SUFFIX)
def test_a_file_that_the_metadata_does_not_list_is_named(make_bag, storage):
    bag = make_bag(storage)
    file = storage_file(bag)
    other = file.with_name(f"recording_10{file.suffix}")
    shutil.copy(file, other)
    shutil.copy(file, file.with_name(f"._{file.name}"))
    sequence = open_sequence(bag)
    assert len(list(sequence.items())) == 6
    (note,) = sequence.notes
    assert f"{other} was left out, since metadata.yaml does not list it" in note


def test_a_ros_1_bag_is_read_as_it_is(make_bag, tmp_path):
    two = make_bag()
    one = open_sequence(as_ros_1(two, tmp_path / "one.bag"))
    assert len(one) == 6
    assert_same_frames(one.items(), open_sequence(two).items())
    assert not one.faults and not one.dropped


def test_a_ros_1_bag_that_was_cut_off_says_so(make_bag, tmp_path):
    path = as_ros_1(make_bag(), tmp_path / "one.bag")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match="cannot be read as a ROS 1 bag: .*reindex"):
        open_sequence(path)
