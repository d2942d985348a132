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
import small_inputs as small
from format_writers import pack_sens

from dvmvs_core.errors import DataError
from dvmvs_core.importers import sens
from dvmvs_core.importers.dataset import SkippedFrame
from dvmvs_core.importers.formats import ScannetOptions
from dvmvs_core.importers.scannet import Scannet

COLOUR_SIZE, DEPTH_SIZE = (24, 33), (12, 16)
K_COLOUR = np.array(((41.3, 0, 13.2), (0, 40.1, 11.7), (0, 0, 1)))
K_DEPTH = np.array(((19.7, 0, 7.4), (0, 20.3, 5.9), (0, 0, 1)))
COLOUR_T_DEPTH = np.array(((1, 0, 0, 0.05), (0, 1, 0, -0.01), (0, 0, 1, 0.002), (0, 0, 0, 1.0)))
LOST = np.full((4, 4), -np.inf)
K = np.array(((20.0, 0, 7.5), (0, 21.0, 5.5), (0, 0, 1)))


@pytest.fixture
def write_sens(tmp_path):
    """A function that writes a .sens file whose two cameras have images of one size."""

    def write(frames, cut=0, **header):
        path = tmp_path / "scene0000_00.sens"
        data = pack_sens(frames, **{"K_colour": K, "K_depth": K + np.eye(3), **header})
        path.write_bytes(data[: len(data) - cut])
        return path

    return write


def frame(seed, time_us=0):
    return small.frame(small.pose(seed), seed, time_us)


@pytest.fixture
def write_scene(tmp_path):
    def write(name="scene0000_00", poses=None, first_us=5_000_000, broken=None, **header):
        poses = [small.pose(i) for i in range(4)] if poses is None else poses
        frames = [
            small.frame(pose, i, first_us and first_us + 33_333 * i, b"no png" if i == broken else None, COLOUR_SIZE)
            for i, pose in enumerate(poses)
        ]
        path = tmp_path / "in" / name / f"{name}.sens"
        path.parent.mkdir(parents=True)
        path.write_bytes(pack_sens(frames, K_COLOUR, K_DEPTH, COLOUR_SIZE, DEPTH_SIZE, **header))
        return tmp_path / "in"

    return write


def warp_as_published(image):
    """The published warp, one pixel at a time: H p, squeezed by (W − 1) / W, nearest."""
    height, width = COLOUR_SIZE
    H = K_COLOUR @ np.linalg.inv(K_DEPTH)
    warped = np.zeros((*DEPTH_SIZE, 3), dtype=np.uint8)
    for y in range(DEPTH_SIZE[0]):
        for x in range(DEPTH_SIZE[1]):
            u, v, w = H @ (x, y, 1)
            column, row = round(u / w / width * (width - 1)), round(v / w / height * (height - 1))
            if 0 <= column < width and 0 <= row < height:
                warped[y, x] = image[row, column]
    return warped


def test_published_test_export_is_the_published_one_bit_for_bit(write_scene, run_import, tmp_path):
    poses = [small.pose(0), LOST, small.pose(2)]
    # The depth shift and the extrinsics are ignored.
    root = write_scene(poses=poses, depth_shift=4000.0, common_T_depth=COLOUR_T_DEPTH)
    out, _ = run_import(Scannet, root, ScannetOptions(), published=True)
    scene = out / "scene0000_00"
    assert small.files(out) == small.scene_files("scene0000_00", 3)
    for i in range(3):
        expected = warp_as_published(small.image(i, *COLOUR_SIZE))
        assert (expected == 0).all(axis=2).any()  # the border is reached
        np.testing.assert_array_equal(small.read(scene / f"images/00000{i}.png"), expected)
        np.testing.assert_array_equal(small.read(scene / f"depth/00000{i}.png"), small.depth(i))
    same = tmp_path / "same.png"
    cv2.imwrite(str(same), small.read(scene / "images/000000.png")[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 3])
    assert (scene / "images/000000.png").read_bytes() == same.read_bytes()
    assert (scene / "poses.txt").read_text() == small.saved(np.float32(poses), "%.8e")
    assert " ".join(["-inf"] * 16) in (scene / "poses.txt").read_text()
    assert (scene / "K.txt").read_text() == small.saved(np.float32(K_DEPTH))


def test_published_training_export_skips_frames_and_drops_lost_poses(write_scene, run_import):
    poses = [small.pose(0), small.pose(1), LOST, small.pose(3), small.pose(4)]
    out, summary = run_import(Scannet, write_scene(poses=poses), ScannetOptions(), True, 2, True)
    scene = out / "scene0000_00"
    assert sorted(path.name for path in scene.glob("*.npz")) == ["000000.npz", "000001.npz"]
    for name, index in (("000000", 0), ("000001", 4)):
        with np.load(scene / f"{name}.npz") as frame:
            assert sorted(frame) == ["depth", "image"]
            np.testing.assert_array_equal(frame["image"], warp_as_published(small.image(index, *COLOUR_SIZE)))
            np.testing.assert_array_equal(frame["depth"], small.depth(index))
            assert (frame["image"].dtype, frame["depth"].dtype) == (np.uint8, np.uint16)
    expected = [small.pose(i).astype(np.float32).ravel() for i in (0, 4)]
    np.testing.assert_allclose(np.loadtxt(scene / "poses.txt"), expected, rtol=1e-8)
    assert (summary.scenes[0].frames, summary.scenes[0].lost_poses) == (2, 1)


def test_correct_export_registers_depth_and_moves_the_pose_to_the_colour_camera(write_scene, run_import):
    common_T_colour = small.pose(7)
    root = write_scene(common_T_colour=common_T_colour, common_T_depth=common_T_colour @ COLOUR_T_DEPTH)
    out, _ = run_import(Scannet, root, ScannetOptions())
    scene = out / "scene0000_00"
    scale_y, scale_x = 12 / 24, 16 / 33
    fx, fy, cx, cy = 41.3 * scale_x, 40.1 * scale_y, 13.7 * scale_x - 0.5, 12.2 * scale_y - 0.5
    K = np.array(((fx, 0, cx), (0, fy, cy), (0, 0, 1)))
    np.testing.assert_allclose(np.loadtxt(scene / "K.txt"), K, rtol=1e-6)
    poses = np.loadtxt(scene / "poses.txt").reshape(-1, 4, 4)
    for i in range(4):
        image = cv2.resize(small.image(i, *COLOUR_SIZE), (16, 12), interpolation=cv2.INTER_AREA)
        np.testing.assert_array_equal(small.read(scene / f"images/00000{i}.png"), image)
        depth = small.register_slowly(small.depth(i), K_DEPTH, COLOUR_T_DEPTH, K, DEPTH_SIZE)
        assert (depth > 0).mean() > 0.5
        np.testing.assert_array_equal(small.read(scene / f"depth/00000{i}.png"), depth)
        np.testing.assert_allclose(poses[i] @ COLOUR_T_DEPTH, small.pose(i), atol=1e-6)
    assert (scene / "stamps.txt").read_text() == "5.000000000\n5.033333000\n5.066666000\n5.099999000\n"


@pytest.mark.parametrize("depth_shift", (1000.0, 4000.0))
def test_without_extrinsics_and_with_one_size_the_depth_stays_where_it_is(write_sens, run_import, depth_shift):
    path = write_sens([frame(0)], K_depth=K, depth_shift=depth_shift)
    out, _ = run_import(Scannet, path, ScannetOptions())
    expected = np.rint(small.depth(0) / (depth_shift / 1000))
    np.testing.assert_array_equal(small.read(out / "scene0000_00/depth/000000.png"), expected)
    np.testing.assert_array_equal(small.read(out / "scene0000_00/images/000000.png"), small.image(0))


def test_times_that_do_not_increase_are_left_out(write_scene, run_import):
    out, summary = run_import(Scannet, write_scene(first_us=0), ScannetOptions())
    assert not (out / "scene0000_00/stamps.txt").exists()
    assert not summary.scenes[0].stamps


def test_an_unreadable_frame_is_skipped_counted_and_named(write_scene, run_import):
    out, summary = run_import(Scannet, write_scene(broken=2), ScannetOptions())
    assert len(list((out / "scene0000_00/images").iterdir())) == 3
    assert len(np.loadtxt(out / "scene0000_00/poses.txt")) == 3
    (skipped,) = summary.scenes[0].skipped
    assert (skipped.name, skipped.count) == ("frame 2", 1)
    assert "png image is damaged" in skipped.reason


def test_extrinsics_that_are_not_rigid_fail_the_scene(write_scene, run_import):
    _, summary = run_import(Scannet, write_scene(common_T_depth=np.zeros((4, 4))), ScannetOptions())
    assert "the depth extrinsics of" in summary.failures["scene0000_00"]


def test_header_is_read_as_written(write_sens):
    extrinsic = small.pose(3).astype(np.float32)
    header = sens.read_header(
        write_sens([], common_T_depth=extrinsic, colour_compression=2, depth_compression=0, depth_shift=4000.0, count=9)
    )
    np.testing.assert_array_equal(header.K_colour, K.astype(np.float32))
    np.testing.assert_array_equal(header.K_depth, (K + np.eye(3)).astype(np.float32))
    np.testing.assert_array_equal(header.common_T_colour, np.eye(4))
    np.testing.assert_array_equal(header.common_T_depth, extrinsic)
    assert (header.colour_compression, header.depth_compression) == ("jpeg", "raw")
    assert (header.colour_size, header.depth_size) == (DEPTH_SIZE, DEPTH_SIZE)
    assert (header.depth_shift, header.frames) == (4000.0, 9)
    assert header.first_frame == 4 + 8 + len("StructureSensor") + 4 * 64 + 8 + 16 + 4 + 8


def test_frames_are_read_as_written_and_every_nth_is_the_nth(write_sens):
    path = write_sens([frame(seed, 1000 * seed) for seed in range(5)])
    header = sens.read_header(path)
    frames = list(sens.read_frames(path, header, step=2))
    assert [item.index for item in frames] == [0, 2, 4]
    for item in frames:
        np.testing.assert_array_equal(item.world_T_depth, small.pose(item.index).astype(np.float32))
        assert item.colour_time_us == 1000 * item.index
        np.testing.assert_array_equal(sens.decode_colour(header, item.colour), small.image(item.index))
        np.testing.assert_array_equal(sens.decode_depth(header, item.depth), small.depth(item.index))


@pytest.mark.parametrize("cut", [1, 300])
@pytest.mark.parametrize(("step", "indices", "lost"), [(1, [0, 1, 2, 3], 1), (2, [0, 2], 1), (3, [0, 3], 0)])
def test_of_a_cut_off_file_the_whole_frames_are_used_and_the_rest_is_counted(write_sens, cut, step, indices, lost):
    path = write_sens([frame(seed) for seed in range(5)], cut=cut)
    items = list(sens.read_frames(path, sens.read_header(path), step))
    assert [item.index for item in items if isinstance(item, sens.SensFrame)] == indices
    skipped = [item for item in items if isinstance(item, SkippedFrame)]
    assert [(item.name, item.count) for item in skipped] == [("frames 4 to 4", 1)] * lost


def test_a_file_cut_off_at_a_frame_border_counts_what_is_missing(write_sens):
    path = write_sens([frame(0)], count=1000)
    whole, skipped = sens.read_frames(path, sens.read_header(path), step=10)
    assert whole.index == 0
    assert (skipped.name, skipped.count) == ("frames 1 to 999", 99)


def test_jpeg_colour_is_what_opencv_decodes(write_sens):
    data = cv2.imencode(".jpg", small.image(1)[..., ::-1])[1].tobytes()
    header = sens.read_header(write_sens([], colour_compression=2))
    expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    np.testing.assert_array_equal(sens.decode_colour(header, data), expected)
    assert np.abs(expected.astype(int) - small.image(1)).mean() < 12  # red is red: swapped, it would be 90
    with pytest.raises(DataError, match="cut off"):
        sens.decode_colour(header, data[:-30])


def test_raw_colour_and_raw_depth_are_plain_bytes(write_sens):
    header = sens.read_header(write_sens([], colour_compression=0, depth_compression=0))
    image, depth = small.image(1), small.depth(1)
    np.testing.assert_array_equal(sens.decode_colour(header, image.tobytes()), image)
    np.testing.assert_array_equal(sens.decode_depth(header, depth.astype("<u2").tobytes()), depth)
    with pytest.raises(DataError, match="must have 576 bytes; got 575"):
        sens.decode_colour(header, image.tobytes()[:-1])
    with pytest.raises(DataError, match="must have 384 bytes; got 382"):
        sens.decode_depth(header, depth.tobytes()[:-2])


def test_damaged_images_are_errors(write_sens):
    header = sens.read_header(write_sens([]))
    for colour in (b"no png", b"", cv2.imencode(".png", small.image(0, 10, 16))[1].tobytes()):
        with pytest.raises(DataError, match="png image is damaged or not 16×12"):
            sens.decode_colour(header, colour)
    with pytest.raises(DataError, match="depth image is damaged"):
        sens.decode_depth(header, b"no zlib")


@pytest.mark.parametrize(
    ("header", "said"),
    (
        ({"depth_compression": 2}, r"depth must be raw \(0\) or zlib \(1\); got occi \(2\)"),
        ({"depth_compression": -1}, r"got unknown \(-1\)"),
        ({"colour_compression": -1}, "colour must be compressed as .*; got -1"),
        ({"depth_shift": 0.0}, "depth shift must be positive; got 0.0"),
        ({"version": 3}, "must be a .sens file of version 4; its first number is 3"),
        ({"K_depth": np.zeros((3, 3))}, "has no calibration: its depth intrinsics are"),
        ({"K_colour": np.diag((0.0, 21.0, 1.0))}, "has no calibration"),
        ({"K_colour": np.array(((20.0, 0, 7.5), (0, 21.0, 5.5), (0, 0, 0)))}, "has no calibration"),
        ({"colour_size": (12, 0)}, "the size of its colour images"),
        ({"colour_size": (0, 16)}, "the size of its colour images"),
        ({"colour_size": (12, 2**32 - 1)}, "the size of its colour images"),
        ({"depth_size": (12, 0)}, "the size of its depth images"),
        ({"depth_size": (2**31, 16)}, "the size of its depth images"),
        ({"count": 2**63}, "frames"),
        ({"count": 2**64 - 1}, "frames"),
    ),
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_header_of_nonsense_is_refused(write_sens, header, said):
    path = write_sens([frame(0)], **header)
    with pytest.raises(DataError, match=said):
        sens.read_header(path)


def test_a_header_that_ends_early_or_makes_no_sense_is_refused(tmp_path, write_sens):
    path = write_sens([], cut=1)
    with pytest.raises(DataError, match="ends inside its header"):
        sens.read_header(path)
    path.write_bytes(struct.pack("<IQ", 4, 10**15) + bytes(500))
    with pytest.raises(DataError, match="name of its sensor would be 1000000000000000 bytes long"):
        sens.read_header(path)
    with pytest.raises(DataError, match="cannot be read: No such file"):
        sens.read_header(tmp_path / "missing.sens")
