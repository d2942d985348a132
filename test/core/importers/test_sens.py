# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

from __future__ import annotations

import struct

import cv2
import numpy as np
import pytest

from dvmvs_core.errors import DataError
from dvmvs_core.importers import sens
from dvmvs_core.importers.dataset import SkippedFrame

K = np.array(((20.0, 0, 7.5), (0, 21.0, 5.5), (0, 0, 1)))
SIZE = (12, 16)


@pytest.fixture
def write(tmp_path, tools):
    def write(frames, cut=0, **header):
        path = tmp_path / "scene0000_00.sens"
        data = tools.pack_sens(frames, K, K + np.eye(3), SIZE, SIZE, **header)
        path.write_bytes(data[: len(data) - cut])
        return path

    return write


def frame(tools, seed, time_us=0):
    return tools.pack_frame(
        tools.pose(seed), tools.png(tools.image(seed)), tools.zlib_depth(tools.depth(seed)), time_us
    )


def test_header_is_read_as_written(write, tools):
    extrinsic = tools.pose(3).astype(np.float32)
    header = sens.read_header(
        write([], common_T_depth=extrinsic, colour_compression=2, depth_compression=0, depth_shift=4000.0, count=9)
    )
    np.testing.assert_array_equal(header.K_colour, K.astype(np.float32))
    np.testing.assert_array_equal(header.K_depth, (K + np.eye(3)).astype(np.float32))
    np.testing.assert_array_equal(header.common_T_colour, np.eye(4))
    np.testing.assert_array_equal(header.common_T_depth, extrinsic)
    assert (header.colour_compression, header.depth_compression) == ("jpeg", "raw")
    assert (header.colour_size, header.depth_size) == (SIZE, SIZE)
    assert (header.depth_shift, header.frames) == (4000.0, 9)
    assert header.first_frame == 4 + 8 + len("StructureSensor") + 4 * 64 + 8 + 16 + 4 + 8


def test_frames_are_read_as_written_and_every_nth_is_the_nth(write, tools):
    path = write([frame(tools, seed, 1000 * seed) for seed in range(5)])
    header = sens.read_header(path)
    frames = list(sens.read_frames(path, header, step=2))
    assert [item.index for item in frames] == [0, 2, 4]
    for item in frames:
        np.testing.assert_array_equal(item.world_T_depth, tools.pose(item.index).astype(np.float32))
        assert item.colour_time_us == 1000 * item.index
        np.testing.assert_array_equal(sens.decode_colour(header, item.colour), tools.image(item.index))
        np.testing.assert_array_equal(sens.decode_depth(header, item.depth), tools.depth(item.index))


@pytest.mark.parametrize("cut", [1, 300])
@pytest.mark.parametrize(("step", "indices", "lost"), [(1, [0, 1, 2, 3], 1), (2, [0, 2], 1), (3, [0, 3], 0)])
def test_of_a_cut_off_file_the_whole_frames_are_used_and_the_rest_is_counted(write, tools, cut, step, indices, lost):
    path = write([frame(tools, seed) for seed in range(5)], cut=cut)
    items = list(sens.read_frames(path, sens.read_header(path), step))
    assert [item.index for item in items if isinstance(item, sens.SensFrame)] == indices
    skipped = [item for item in items if isinstance(item, SkippedFrame)]
    assert [(item.name, item.count) for item in skipped] == [("frames 4 to 4", 1)] * lost


def test_a_file_cut_off_at_a_frame_border_counts_what_is_missing(write, tools):
    path = write([frame(tools, 0)], count=1000)
    whole, skipped = sens.read_frames(path, sens.read_header(path), step=10)
    assert whole.index == 0
    assert (skipped.name, skipped.count) == ("frames 1 to 999", 99)


def test_jpeg_colour_is_what_opencv_decodes(write, tools):
    data = cv2.imencode(".jpg", tools.image(1)[..., ::-1])[1].tobytes()
    header = sens.read_header(write([], colour_compression=2))
    expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    np.testing.assert_array_equal(sens.decode_colour(header, data), expected)
    assert np.abs(expected.astype(int) - tools.image(1)).mean() < 12  # red is red: swapped, it would be 90
    with pytest.raises(DataError, match="cut off"):
        sens.decode_colour(header, data[:-30])


def test_raw_colour_and_raw_depth_are_plain_bytes(write, tools):
    header = sens.read_header(write([], colour_compression=0, depth_compression=0))
    image, depth = tools.image(1), tools.depth(1)
    np.testing.assert_array_equal(sens.decode_colour(header, image.tobytes()), image)
    np.testing.assert_array_equal(sens.decode_depth(header, depth.astype("<u2").tobytes()), depth)
    with pytest.raises(DataError, match="must have 576 bytes; got 575"):
        sens.decode_colour(header, image.tobytes()[:-1])
    with pytest.raises(DataError, match="must have 384 bytes; got 382"):
        sens.decode_depth(header, depth.tobytes()[:-2])


def test_damaged_images_are_errors(write, tools):
    header = sens.read_header(write([]))
    with pytest.raises(DataError, match="png image is damaged or not 16×12"):
        sens.decode_colour(header, b"no png")
    with pytest.raises(DataError, match="png image is damaged or not 16×12"):
        sens.decode_colour(header, b"")
    with pytest.raises(DataError, match="damaged or not 16×12"):
        sens.decode_colour(header, tools.png(tools.image(0, 10, 16)))
    with pytest.raises(DataError, match="depth image is damaged"):
        sens.decode_depth(header, b"no zlib")


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"depth_compression": 2}, r"depth must be raw \(0\) or zlib \(1\); got occi \(2\)"),
        ({"depth_compression": -1}, r"got unknown \(-1\)"),
        ({"colour_compression": -1}, "colour must be compressed as .*; got -1"),
        ({"depth_shift": 0.0}, "depth shift must be positive; got 0.0"),
        ({"version": 3}, "must be a .sens file of version 4; its first number is 3"),
    ],
)
def test_what_cannot_be_read_is_refused(write, header, message):
    with pytest.raises(DataError, match=message):
        sens.read_header(write([], **header))


def test_missing_calibration_is_refused(tmp_path, tools):
    path = tmp_path / "a.sens"
    path.write_bytes(tools.pack_sens([], K, np.zeros((3, 3)), SIZE, SIZE))
    with pytest.raises(DataError, match="has no calibration: its depth intrinsics are"):
        sens.read_header(path)


def test_a_header_that_ends_early_or_makes_no_sense_is_refused(tmp_path, write):
    path = write([], cut=1)
    with pytest.raises(DataError, match="ends inside its header"):
        sens.read_header(path)
    path.write_bytes(struct.pack("<IQ", 4, 10**15) + bytes(500))
    with pytest.raises(DataError, match="name of its sensor would be 1000000000000000 bytes long"):
        sens.read_header(path)
    with pytest.raises(DataError, match="cannot be read: No such file"):
        sens.read_header(tmp_path / "missing.sens")


@pytest.mark.parametrize(
    ("offset", "kind", "number", "said"),
    (
        (8, "<I", 0, "the size of its colour images"),
        (12, "<I", 0, "the size of its colour images"),
        (8, "<I", 2**32 - 1, "the size of its colour images"),
        (16, "<I", 0, "the size of its depth images"),
        (20, "<I", 2**31, "the size of its depth images"),
        (28, "<Q", 2**63, "frames"),
        (28, "<Q", 2**64 - 1, "frames"),
        (-256, "<f", 0.0, "has no calibration"),
    ),
)
def test_a_header_of_nonsense_is_refused(write, tools, offset, kind, number, said):
    path = write([frame(tools, 0)])
    data = bytearray(path.read_bytes())
    sizes = 4 + 8 + len("StructureSensor") + 4 * 64
    struct.pack_into(kind, data, sizes + offset, number)
    path.write_bytes(data)
    with pytest.raises(DataError, match=said):
        sens.read_header(path)
    # A singular K with positive focal lengths: its last row is zero.
    path = write([frame(tools, 0)])
    data = bytearray(path.read_bytes())
    struct.pack_into("<3f", data, sizes - 256 + 4 * 8, 0.0, 0.0, 0.0)
    path.write_bytes(data)
    with pytest.raises(DataError, match="has no calibration"):
        sens.read_header(path)
