# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Files that are damaged, foreign, or claim more than they hold: one clear error each, and no more memory than that."""

from __future__ import annotations

import io
import json
import os
import sqlite3
import struct
import subprocess
import sys
import zipfile

import lz4.frame
import numpy as np
import pytest
import torch
from bag_recordings import storage_file
from fuzz_corpus import SIZE, npz_predictions
from rosbags.rosbag2 import Reader
from safetensors.torch import save_file

from dvmvs_core.config import preset
from dvmvs_core.data import scene_folder as scene
from dvmvs_core.data.bags import bag_messages
from dvmvs_core.data.bags.bag_files import BagFiles
from dvmvs_core.data.bags.bounded_rosbags import bound_rosbags
from dvmvs_core.data.bags.mcap_salvage import measure_chunks
from dvmvs_core.data.encodings.inflate import INFLATED_ANYWAY, zstd
from dvmvs_core.data.keyframe_index import read_index
from dvmvs_core.data.open_sequence import open_sequence
from dvmvs_core.data.point_clouds import cloud_points
from dvmvs_core.data.scene_folder import read_intrinsics, read_poses
from dvmvs_core.data.text_lines import LONGEST_LINE, read_lines, seconds_to_ns
from dvmvs_core.errors import DamagedError, DataError, MessageError, WeightsError
from dvmvs_core.evaluation.prediction.prediction_files import REQUIRED, PredictionReader
from dvmvs_core.evaluation.scoring.figures import read_figures
from dvmvs_core.importers import colmap, files, record3d, sens, transforms_json
from dvmvs_core.model.checkpoint import FORMAT, load_network
from dvmvs_core.model.regulariser import load_regulariser
from dvmvs_core.training.training_scenes import read_training_frame


def read_all(path) -> None:
    reader = PredictionReader(path)
    list(reader.depths())


@pytest.fixture
def predictions(tmp_path):
    def write(**changes):
        arrays = {**npz_predictions()[0], **changes}
        np.savez(tmp_path / "predictions.npz", **{name: array for name, array in arrays.items() if array is not None})
        return tmp_path / "predictions.npz"

    return write


def test_predictions_that_are_whole_are_read(predictions):
    reader = PredictionReader(predictions())
    assert len(list(reader.depths())) == len(reader) == 2


@pytest.mark.parametrize("name", REQUIRED)
def test_predictions_without_an_array_are_refused(predictions, name):
    with pytest.raises(DataError, match=f"cannot be read as predictions: it lacks {name}"):
        read_all(predictions(**{name: None}))


@pytest.mark.parametrize(
    "changes",
    (
        {"stamp_ns": np.array([10])},
        {"frame_index": np.array(1)},
        {"frame_index": np.array([1, 2, 3])},
        {"K": np.eye(4)},
        {"K": np.array(["a"] * 9).reshape(3, 3)},
        {"world_T_cam": np.eye(4)},
        {"depth": np.ones((3, *SIZE), np.float32)},
        {"depth": np.ones((2, *SIZE))},
        {"depth": np.ones((2, SIZE[0] * SIZE[1]), np.float32)},
        {"latency_ms": np.ones((2, 1))},
        {"measurement_index": np.array([0, 1])},
        {"refined": np.array([True])},
    ),
)
def test_predictions_whose_arrays_disagree_are_refused(predictions, changes):
    with pytest.raises(DataError, match="cannot be read as predictions"):
        read_all(predictions(**changes))


def test_an_npy_named_npz_a_folder_and_cut_off_predictions_are_refused(predictions, tmp_path):
    whole = predictions().read_bytes()
    array = io.BytesIO()
    np.save(array, np.ones(3))
    cut_off = (whole[:size] for size in (0, 10, len(whole) // 2, len(whole) - 5))
    for i, content in enumerate((*cut_off, array.getvalue())):
        (tmp_path / f"{i}.npz").write_bytes(content)
        with pytest.raises(DataError, match="cannot be read as predictions"):
            read_all(tmp_path / f"{i}.npz")
    with pytest.raises(DataError, match="cannot be read as predictions"):
        read_all(tmp_path)
    with pytest.raises(DataError, match="No such file"):
        read_all(tmp_path / "missing.npz")


def archive(path, entries: dict[str, bytes], compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in entries.items():
            file.writestr(name, content)
    return path


def npy(shape: str, descr: str = "'|u1'", data: bytes = b"") -> bytes:
    """An npy file with whatever header."""
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


@pytest.mark.parametrize(
    "image",
    (
        npy("(1000000, 1000000, 1)"),
        npy("(4, 6, 3"),
        npy("(4, 6, 3)", "'|O'", b"x"),
        npy("(4, 6, 3)", "[('a', '<f4')]", b"x" * 10),
        npy("(4, 6, 'x')"),
        npy("(-4, -6, 3)", data=bytes(72)),
        npy("4"),
        npy("(4, 6, 3)", data=bytes(71)),
        npy("((((((((((((((((((((("),
        b"\x93NUMPY\x03\x00" + bytes(8),
        b"",
    ),
)
def test_a_training_frame_that_claims_or_means_nonsense_is_refused(tmp_path, image):
    path = archive(tmp_path / "0.npz", {"image.npy": image, "depth.npy": npy("(4, 6)", "'<u2'", bytes(48))})
    with pytest.raises(DataError, match="cannot be read as a training frame|must be uint8"):
        read_training_frame(path)


def test_a_training_frame_packed_in_a_way_of_another_age_is_refused(tmp_path):
    path = archive(tmp_path / "0.npz", {"image.npy": npy("(4, 6, 3)", data=bytes(72)), "depth.npy": b""})
    data = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        at = data.index(signature)
        struct.pack_into("<H", data, at + offset, 99)  # a method of compression that Python does not know
    path.write_bytes(data)
    with pytest.raises(DataError, match="cannot be read as a training frame"):
        read_training_frame(path)


def test_a_bomb_in_a_training_frame_is_refused_before_it_is_inflated(tmp_path):
    side = 7_000
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file, file.open("image.npy", "w") as entry:
        entry.write(npy(f"({side}, {side}, 3)"))
        for _ in range(side // 100):
            entry.write(bytes(side * 3 * 100))
    assert len(buffer.getvalue()) < 200_000
    (tmp_path / "0.npz").write_bytes(buffer.getvalue())
    with pytest.raises(DataError, match="would inflate"):
        read_training_frame(tmp_path / "0.npz")


@pytest.mark.parametrize(
    "word", ("1e308000000", "1e400", "1e999980", "-1e999980", "nan", "inf", "x", "9" * 5000, "1e10")
)
def test_a_stamp_that_is_no_time_is_none(word):
    assert seconds_to_ns(word) is None


def test_a_sparse_text_file_costs_one_line(tmp_path):
    """A gigabyte of zeros, as a crash leaves them, read in a process that has a tenth of that to spare."""
    path = tmp_path / "poses.txt"
    with path.open("wb") as file:
        os.ftruncate(file.fileno(), 10**9)
    code = (
        "import resource, sys; from pathlib import Path; from dvmvs_core.data.scene_folder import read_poses\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try:\n    read_poses(Path(sys.argv[1]))\nexcept Exception as error:\n    print(type(error).__name__)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    name, kilobytes = done.stdout.split()
    assert name == "DataError" and int(kilobytes) < 100_000


def test_a_foreign_word_is_shown_in_part(tmp_path):
    path = tmp_path / "poses.txt"
    path.write_text("x" * (LONGEST_LINE - 10))
    with pytest.raises(DataError) as raised:
        read_poses(path)
    assert len(str(raised.value).replace(str(path), "")) < 200
    path.write_text("1 2 3\n" * 100_000)
    with pytest.raises(DataError) as raised:
        read_intrinsics(path)
    assert len(str(raised.value).replace(str(path), "")) < 300
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="cannot be read"):
        list(read_lines(path))


def mcap_with_chunk(compression: str, data: bytes, size: int, chunks: int = 1) -> bytes:
    """An mcap of one chunk, or of several that are alike."""
    chunk = struct.pack("<QQQI", 0, 1, size, 0) + struct.pack("<I", len(compression)) + compression.encode()
    chunk += struct.pack("<Q", len(data)) + data
    magic = b"\x89MCAP0\r\n"
    header = struct.pack("<I", 4) + b"ros2" + struct.pack("<I", 0)
    return (
        magic
        + struct.pack("<BQ", 1, len(header))
        + header
        + (struct.pack("<BQ", 6, len(chunk)) + chunk) * chunks
        + struct.pack("<BQ", 0x0F, 4)
        + bytes(4)
        + struct.pack("<BQQQI", 2, 20, 0, 0, 0)
        + magic
    )


@pytest.mark.parametrize("compression", ("zstd", "lz4"))
def test_a_chunk_that_becomes_far_larger_than_its_file_is_not_inflated(tmp_path, compression):
    zeros = bytes(2 * INFLATED_ANYWAY)
    packed = zstd.compress(zeros) if compression == "zstd" else lz4.frame.compress(zeros)
    if compression == "zstd":
        assert len(packed) < 100_000
    path = tmp_path / "bomb.mcap"
    for claimed, said in ((len(zeros), "far larger than it is"), (10, "compressed bytes")):
        path.write_bytes(mcap_with_chunk(compression, packed, claimed))
        with pytest.raises(DataError):
            BagFiles(path)
        bound_rosbags()
        with pytest.raises(DamagedError, match=said), Reader(path) as reader:
            list(reader.messages())


def test_many_chunks_that_become_far_larger_than_their_file_are_not_inflated_all(tmp_path):
    path = tmp_path / "bombs.mcap"
    each = INFLATED_ANYWAY // 4
    for chunks, fits in ((4, True), (5, False)):
        path.write_bytes(mcap_with_chunk("zstd", zstd.compress(bytes(each)), each, chunks))
        assert (measure_chunks(path)[0] <= INFLATED_ANYWAY) is fits
        with pytest.raises(DataError, match="holds no message"):
            BagFiles(path)


NUMBERS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
COMPUTED_ROWS = (
    "ALTER TABLE messages RENAME TO stored",
    f"CREATE VIEW messages AS {NUMBERS}"
    " SELECT i AS id, 1 AS topic_id, i AS timestamp, zeroblob(900000000) AS data FROM n",
)


def execute(file, statements) -> None:
    with sqlite3.connect(file) as database:
        for statement in statements:
            database.execute(statement)
    database.close()


@pytest.mark.parametrize("compressed", (False, True))
def test_a_database_under_another_name_is_checked_as_any_other(make_bag, compressed):
    """The metadata name the files of a bag, and whether they are compressed."""
    bag = make_bag("sqlite3", frames=3)
    file = storage_file(bag)
    execute(file, COMPUTED_ROWS)
    renamed = bag / ("data.db3.zstd" if compressed else "data")
    renamed.write_bytes(zstd.compress(file.read_bytes()) if compressed else file.read_bytes())
    metadata = bag / "metadata.yaml"
    text = metadata.read_text().replace(file.name, renamed.name)
    if compressed:
        text = text.replace("compression_format: ''", "compression_format: zstd")
        text = text.replace("compression_mode: ''", "compression_mode: FILE")
        assert "FILE" in text and "zstd" in text
    metadata.write_text(text)
    file.unlink()
    bound_rosbags()
    with pytest.raises(DamagedError, match="makes up its rows"), Reader(bag):
        pass
    with pytest.raises(DataError):
        open_sequence(bag)


@pytest.mark.parametrize(
    "statements",
    (
        COMPUTED_ROWS,
        (
            "DROP TABLE IF EXISTS message_definitions",
            f"CREATE VIEW message_definitions AS {NUMBERS}"
            " SELECT i AS id, 'a' AS topic_type, 'ros2msg' AS encoding, 'x' AS encoded_message_definition,"
            " '' AS type_description_hash FROM n",
        ),
        (
            "CREATE TABLE again AS SELECT * FROM topics",  # whose ids need not differ
            "DROP TABLE topics",
            "CREATE TABLE topics AS SELECT * FROM again",
            "INSERT INTO topics SELECT * FROM again",
        ),
    ),
    ids=("messages without end", "definitions without end", "a topic that is there twice"),
)
def test_a_database_that_makes_work_out_of_nothing_is_not_read(make_bag, statements):
    file = storage_file(make_bag("sqlite3", frames=3))
    assert len(list(open_sequence(file).items())) == 3
    execute(file, statements)
    with pytest.raises(DataError, match="holds no message"):
        open_sequence(file)


def test_metadata_that_make_work_out_of_nothing_are_not_used(make_bag):
    bag = make_bag("mcap", frames=3)
    metadata = bag / "metadata.yaml"
    whole = metadata.read_text()
    file = storage_file(bag)
    again = whole.replace(f"  - {file.name}\n", f"  - {file.name}\n  - {file.name}\n")
    aliases = whole + "  a: &a [1]\n  b: [" + "*a, " * 5 + "]\n"
    assert whole not in (again, aliases)
    for text, said in ((again, "several times"), (aliases, "aliases"), (whole + " " * 300_000, "bytes")):
        metadata.write_text(text)
        sequence = open_sequence(bag)
        assert len(list(sequence.items())) == 3, "its files are read one by one"
        assert any(said in note for note in sequence.notes), sequence.notes


def test_weights_whose_header_describes_a_network_that_no_memory_holds_are_refused(tmp_path):
    config = preset("small").to_dict()
    for change in ({"hyper_channels": 2**20}, {"depth_hypotheses": 2**40}, {"height": 2**30, "width": 2**30}):
        header = {"format": FORMAT, "networks": json.dumps({"fusionnet": {**config, **change}}), "metadata": "{}"}
        save_file({"fusionnet/x": torch.zeros(1)}, tmp_path / "w.safetensors", header)
        with pytest.raises(WeightsError, match="do not fit|cannot read"):
            load_network(tmp_path / "w.safetensors")


@pytest.mark.parametrize("offset", (2**31 - 2, 2**31, 2**32 - 1, 17))
def test_a_point_cloud_whose_fields_lie_beyond_its_points_is_refused(offset):
    """numpy takes the offset, and the process dies where it reads."""
    message = bag_messages.cloud(10**9, "lidar", np.ones((5, 5), np.float32))
    assert len(cloud_points(message)) == 5
    message.fields[2].offset = offset
    with pytest.raises(MessageError, match="must lie within its 20 bytes a point"):
        cloud_points(message)
    message.fields[2].offset = 8
    message.point_step = 0
    with pytest.raises(MessageError):
        cloud_points(message)


@pytest.mark.parametrize(
    "read",
    (
        scene.read_image,
        scene.read_depth,
        scene.read_poses,
        scene.read_intrinsics,
        read_index,
        read_figures,
        read_training_frame,
        PredictionReader,
        sens.read_header,
        files.read_json,
        files.read_yaml,
        transforms_json._size,
        record3d._reader,
        colmap._read_cameras_bin,
        colmap._read_images_bin,
        lambda path: list(colmap._long_lines(path)),
        load_regulariser,
    ),
)
def test_a_pipe_or_a_device_in_place_of_a_file_is_refused_and_not_waited_for(tmp_path, read):
    device = tmp_path / "device"
    device.symlink_to("/dev/null")
    with pytest.raises((DataError, WeightsError), match="it is a pipe or a device"):
        read(device)


def test_an_image_that_is_a_pipe_or_a_link_to_itself_costs_that_image(make_scene):
    folder = make_scene(frames=6)
    for name, replace in (("00004.png", os.mkfifo), ("00006.png", lambda path: path.symlink_to(path.name))):
        (folder / "images" / name).unlink()
        replace(folder / "images" / name)
    sequence = open_sequence(folder)
    assert [item.frame.index for item in sequence.items()] == [0, 2, 4, 5]
    assert set(sequence.faults) == {"images/00004.png", "images/00006.png"}
