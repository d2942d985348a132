# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

from __future__ import annotations

import cv2
import numpy as np
import pytest

from dvmvs_core.errors import DataError
from dvmvs_core.importers.formats import ScannetOptions
from dvmvs_core.importers.scannet import Scannet

COLOUR_SIZE, DEPTH_SIZE = (24, 33), (12, 16)
K_COLOUR = np.array(((41.3, 0, 13.2), (0, 40.1, 11.7), (0, 0, 1)))
K_DEPTH = np.array(((19.7, 0, 7.4), (0, 20.3, 5.9), (0, 0, 1)))
COLOUR_T_DEPTH = np.array(((1, 0, 0, 0.05), (0, 1, 0, -0.01), (0, 0, 1, 0.002), (0, 0, 0, 1.0)))
LOST = np.full((4, 4), -np.inf)


@pytest.fixture
def write_scene(tmp_path, tools):
    def write(name="scene0000_00", poses=None, first_us=5_000_000, broken=None, **header):
        poses = [tools.pose(i) for i in range(4)] if poses is None else poses
        frames = [
            tools.pack_frame(
                pose,
                b"no png" if i == broken else tools.png(tools.image(i, *COLOUR_SIZE)),
                tools.zlib_depth(tools.depth(i)),
                first_us + 33_333 * i if first_us else 0,
            )
            for i, pose in enumerate(poses)
        ]
        path = tmp_path / "in" / name / f"{name}.sens"
        path.parent.mkdir(parents=True)
        path.write_bytes(tools.pack_sens(frames, K_COLOUR, K_DEPTH, COLOUR_SIZE, DEPTH_SIZE, **header))
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


def test_published_test_export_is_the_published_one_bit_for_bit(write_scene, run_import, tools, tmp_path):
    poses = [tools.pose(0), LOST, tools.pose(2)]
    # The depth shift and the extrinsics are ignored.
    root = write_scene(poses=poses, depth_shift=4000.0, common_T_depth=COLOUR_T_DEPTH)
    out, _ = run_import(Scannet, root, ScannetOptions(), published=True)
    scene = out / "scene0000_00"
    assert tools.files(out) == sorted(
        [f"scene0000_00/{part}/00000{i}.png" for part in ("images", "depth") for i in range(3)]
        + [f"scene0000_00/{name}" for name in ("K.txt", "export.json", "poses.txt")]
    )
    for i in range(3):
        expected = warp_as_published(tools.image(i, *COLOUR_SIZE))
        assert (expected == 0).all(axis=2).any()  # the border is reached
        np.testing.assert_array_equal(tools.read_image(scene / f"images/00000{i}.png"), expected)
        np.testing.assert_array_equal(tools.read_depth(scene / f"depth/00000{i}.png"), tools.depth(i))
    same = tmp_path / "same.png"
    cv2.imwrite(str(same), tools.read_image(scene / "images/000000.png")[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 3])
    assert (scene / "images/000000.png").read_bytes() == same.read_bytes()
    lines = [" ".join(f"{value:.8e}" for value in pose.astype(np.float32).ravel()) for pose in poses]
    assert (scene / "poses.txt").read_text() == "\n".join(lines) + "\n"
    assert " ".join(["-inf"] * 16) in lines
    K = K_DEPTH.astype(np.float32)
    assert (scene / "K.txt").read_text() == "".join(" ".join(f"{v:.18e}" for v in row) + "\n" for row in K)


def test_published_training_export_skips_frames_and_drops_lost_poses(write_scene, run_import, tools):
    poses = [tools.pose(0), tools.pose(1), LOST, tools.pose(3), tools.pose(4)]
    out, summary = run_import(Scannet, write_scene(poses=poses), ScannetOptions(), True, 2, True)
    scene = out / "scene0000_00"
    assert sorted(path.name for path in scene.glob("*.npz")) == ["000000.npz", "000001.npz"]
    for name, index in (("000000", 0), ("000001", 4)):
        with np.load(scene / f"{name}.npz") as frame:
            assert sorted(frame) == ["depth", "image"]
            np.testing.assert_array_equal(frame["image"], warp_as_published(tools.image(index, *COLOUR_SIZE)))
            np.testing.assert_array_equal(frame["depth"], tools.depth(index))
            assert (frame["image"].dtype, frame["depth"].dtype) == (np.uint8, np.uint16)
    expected = [tools.pose(i).astype(np.float32).ravel() for i in (0, 4)]
    np.testing.assert_allclose(np.loadtxt(scene / "poses.txt"), expected, rtol=1e-8)
    assert (summary.scenes[0].frames, summary.scenes[0].lost_poses) == (2, 1)


def test_correct_export_registers_depth_and_moves_the_pose_to_the_colour_camera(write_scene, run_import, tools):
    common_T_colour = tools.pose(7)
    root = write_scene(common_T_colour=common_T_colour, common_T_depth=common_T_colour @ COLOUR_T_DEPTH)
    out, _ = run_import(Scannet, root, ScannetOptions())
    scene = out / "scene0000_00"
    scale_y, scale_x = 12 / 24, 16 / 33
    K = np.array(
        (
            (41.3 * scale_x, 0, 13.7 * scale_x - 0.5),
            (0, 40.1 * scale_y, 12.2 * scale_y - 0.5),
            (0, 0, 1),
        )
    )
    np.testing.assert_allclose(np.loadtxt(scene / "K.txt"), K, rtol=1e-6)
    poses = np.loadtxt(scene / "poses.txt").reshape(-1, 4, 4)
    for i in range(4):
        image = cv2.resize(tools.image(i, *COLOUR_SIZE), (16, 12), interpolation=cv2.INTER_AREA)
        np.testing.assert_array_equal(tools.read_image(scene / f"images/00000{i}.png"), image)
        depth = tools.register_slowly(tools.depth(i), K_DEPTH, COLOUR_T_DEPTH, K, DEPTH_SIZE)
        assert (depth > 0).mean() > 0.5
        np.testing.assert_array_equal(tools.read_depth(scene / f"depth/00000{i}.png"), depth)
        np.testing.assert_allclose(poses[i] @ COLOUR_T_DEPTH, tools.pose(i), atol=1e-6)
    assert (scene / "stamps.txt").read_text() == "5.000000000\n5.033333000\n5.066666000\n5.099999000\n"


def test_without_extrinsics_and_with_one_size_the_depth_stays_where_it_is(tmp_path, run_import, tools):
    frame = tools.pack_frame(tools.pose(0), tools.png(tools.image(0)), tools.zlib_depth(tools.depth(0)))
    path = tmp_path / "a.sens"
    path.write_bytes(tools.pack_sens([frame], K_DEPTH, K_DEPTH, DEPTH_SIZE, DEPTH_SIZE))
    out, _ = run_import(Scannet, path, ScannetOptions())
    np.testing.assert_array_equal(tools.read_depth(out / "a/depth/000000.png"), tools.depth(0))
    np.testing.assert_array_equal(tools.read_image(out / "a/images/000000.png"), tools.image(0))


def test_the_depth_shift_is_honoured(tmp_path, run_import, tools):
    frame = tools.pack_frame(np.eye(4), tools.png(tools.image(0)), tools.zlib_depth(tools.depth(0)))
    path = tmp_path / "a.sens"
    path.write_bytes(tools.pack_sens([frame], K_DEPTH, K_DEPTH, DEPTH_SIZE, DEPTH_SIZE, depth_shift=4000.0))
    out, _ = run_import(Scannet, path, ScannetOptions())
    expected = np.rint(tools.depth(0) / 4).astype(np.uint16)
    np.testing.assert_array_equal(tools.read_depth(out / "a/depth/000000.png"), expected)


def test_lost_poses_stay_to_test_with(write_scene, run_import, tools):
    out, summary = run_import(Scannet, write_scene(poses=[tools.pose(0), LOST]), ScannetOptions())
    poses = np.loadtxt(out / "scene0000_00/poses.txt")
    assert np.isfinite(poses[0]).all()
    assert np.isneginf(poses[1]).all()
    assert summary.scenes[0].lost_poses == 1


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


def test_of_a_cut_off_file_the_whole_frames_are_exported_and_it_says_so(write_scene, run_import):
    root = write_scene()
    path = root / "scene0000_00/scene0000_00.sens"
    path.write_bytes(path.read_bytes()[:-10])
    out, summary = run_import(Scannet, root, ScannetOptions())
    assert len(list((out / "scene0000_00/depth").iterdir())) == 3
    assert summary.scenes[0].skipped_frames == 1
    assert summary.scenes[0].skipped[0].reason == "scene0000_00.sens is cut off there"


def test_extrinsics_that_are_not_rigid_fail_the_scene(write_scene, run_import):
    _, summary = run_import(Scannet, write_scene(common_T_depth=np.zeros((4, 4))), ScannetOptions())
    assert "the depth extrinsics of" in summary.failures["scene0000_00"]


def test_a_folder_without_sens_files_is_refused(tmp_path, run_import):
    with pytest.raises(DataError, match=r"holds no ScanNet scene: looked for \*\.sens in it and in its subfolders"):
        run_import(Scannet, tmp_path, ScannetOptions())
