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
import small_inputs as small
from scipy.spatial.transform import Rotation

from dvmvs_core.data.open_sequence import open_sequence
from dvmvs_core.errors import ConfigError, DataError
from dvmvs_core.importers.formats import TumRgbdOptions
from dvmvs_core.importers.tum_rgbd import CALIBRATIONS, TumRgbd

START = 1305031102
HEIGHT, WIDTH = 480, 640


@pytest.fixture
def write_sequence(tmp_path):
    """A sequence with the given times in ms; the camera drifts along x and turns about y at a steady rate."""

    def write(name="rgbd_dataset_freiburg3_cabinet", rgb=(0, 33, 66), depth=(5, 38, 71), poses=range(-10, 90, 10)):
        folder = tmp_path / "in" / name
        for kind, times, write_one in (
            ("rgb", rgb, lambda path, i: small.write(path, small.image(i, HEIGHT, WIDTH))),
            ("depth", depth, lambda path, i: small.write(path, small.depth(i, HEIGHT, WIDTH, 2500, 40000))),
        ):
            lines = ["# timestamp filename"]
            for i, time in enumerate(times):
                stamp = f"{START + time / 1000:.6f}"
                write_one(folder / kind / f"{stamp}.png", i)
                lines.append(f"{stamp} {kind}/{stamp}.png")
            (folder / f"{kind}.txt").write_text("\n".join(lines) + "\n")
        lines = ["# timestamp tx ty tz qx qy qz qw"]
        for time in poses:
            x, y, z, w = Rotation.from_rotvec((0, time / 100, 0)).as_quat()
            lines.append(f"{START + time / 1000:.4f} {time / 1000:.4f} 0 1.5 {x:.9f} {y:.9f} {z:.9f} {w:.9f}")
        (folder / "groundtruth.txt").write_text("\n".join(lines) + "\n")
        return tmp_path / "in"

    return write


def pose_at(time):
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_rotvec((0, time / 100, 0)).as_matrix()
    pose[:3, 3] = (time / 1000, 0, 1.5)
    return pose


def test_published_export_is_the_published_one_bit_for_bit(write_sequence, run_import):
    # 3 depth images and 2 images; the last depth image gets an image and a pose that are half a second old.
    root = write_sequence(rgb=(0, 33), depth=(4, 38, 571), poses=(0, 10, 40))
    out, _ = run_import(TumRgbd, root, TumRgbdOptions(), published=True)
    scene = out / "rgbd_dataset_freiburg3_cabinet"
    assert small.files(out) == small.scene_files(scene.name, 3)
    recorded = np.loadtxt(root / scene.name / "groundtruth.txt")
    poses = np.tile(np.eye(4), (3, 1, 1))
    for i, (image, pose) in enumerate(((0, 0), (1, 2), (1, 2))):
        np.testing.assert_array_equal(small.read(scene / f"images/00000{i}.png"), small.image(image, HEIGHT, WIDTH))
        depth = (small.depth(i, HEIGHT, WIDTH, 2500, 40000).astype(float) / 5).astype(np.uint16)
        np.testing.assert_array_equal(small.read(scene / f"depth/00000{i}.png"), depth)
        poses[i, :3, :3] = Rotation.from_quat(recorded[pose, 4:]).as_matrix()
        poses[i, :3, 3] = recorded[pose, 1:4]
    assert (scene / "poses.txt").read_text() == small.saved(poses)
    assert (scene / "K.txt").read_text() == small.saved(((525, 0, 320), (0, 525, 240), (0, 0, 1)))


def test_correct_export_pairs_interpolates_and_rounds(write_sequence, run_import):
    out, summary = run_import(TumRgbd, write_sequence(), TumRgbdOptions())
    scene = out / "rgbd_dataset_freiburg3_cabinet"
    for i in range(3):  # Freiburg 3 is rectified: images stay as they are
        np.testing.assert_array_equal(small.read(scene / f"images/00000{i}.png"), small.image(i, HEIGHT, WIDTH))
        raw = small.depth(i, HEIGHT, WIDTH, 2500, 40000)
        np.testing.assert_array_equal(small.read(scene / f"depth/00000{i}.png"), np.rint(raw / 5))
    poses = np.loadtxt(scene / "poses.txt").reshape(-1, 4, 4)
    np.testing.assert_allclose(poses, [pose_at(time) for time in (0, 33, 66)], atol=1e-7)
    np.testing.assert_array_equal(np.loadtxt(scene / "K.txt"), ((535.4, 0, 320.1), (0, 539.2, 247.6), (0, 0, 1)))
    assert (scene / "stamps.txt").read_text().splitlines()[1] == f"{START}.033000000"
    assert (summary.scenes[0].frames, summary.scenes[0].stamps) == (3, True)


def test_an_image_without_depth_in_time_serves_for_prediction_and_one_without_a_pose_is_lost(
    write_sequence, run_import
):
    root = write_sequence(rgb=(0, 33, 66), depth=(5, 71), poses=(-10, 0, 10, 20, 30, 40))
    out, summary = run_import(TumRgbd, root, TumRgbdOptions())
    poses = np.loadtxt(out / "rgbd_dataset_freiburg3_cabinet/poses.txt").reshape(-1, 4, 4)
    np.testing.assert_allclose(poses[0], pose_at(0), atol=1e-7)
    assert np.isfinite(poses[1]).all() and np.isnan(poses[2]).all()
    (report,) = summary.scenes
    assert (report.frames, report.lost_poses, report.skipped_frames) == (3, 1, 0)
    (item,) = report.without_depth
    assert (item.name, item.reason) == (f"{START}.033000.png", "no depth image within 20 ms")
    sequence = open_sequence(out / "rgbd_dataset_freiburg3_cabinet")
    assert [one.sensor_depth is not None for one in sequence.items()] == [True, False, True]


def test_the_gap_is_an_option(write_sequence, run_import):
    root = write_sequence(rgb=(0, 33, 66), depth=(25, 58, 91))
    with_gap, _ = run_import(TumRgbd, root, TumRgbdOptions(max_gap_ms=8.0))
    # 33 has depth at 25, 66 at 58; 0 would need 25.
    depths = with_gap / "rgbd_dataset_freiburg3_cabinet/depth"
    assert sorted(path.name for path in depths.iterdir()) == ["000001.png", "000002.png"]


@pytest.mark.parametrize("camera", ["freiburg1", "freiburg2"])
def test_each_camera_has_its_own_intrinsics_and_is_undistorted(write_sequence, run_import, camera):
    name = f"rgbd_dataset_{camera}_desk"
    out, _ = run_import(TumRgbd, write_sequence(name, rgb=(0,), depth=(0,)), TumRgbdOptions())
    calibration = CALIBRATIONS[camera]
    fx, fy, cx, cy = calibration.intrinsics
    np.testing.assert_array_equal(np.loadtxt(out / name / "K.txt"), ((fx, 0, cx), (0, fy, cy), (0, 0, 1)))
    raw_image, raw_depth = small.image(0, HEIGHT, WIDTH), small.depth(0, HEIGHT, WIDTH, 2500, 40000)
    expected = cv2.undistort(raw_image, calibration.K, np.array(calibration.coefficients))
    image = small.read(out / name / "images/000000.png")
    difference = np.abs(image.astype(int) - expected)
    assert difference.max() <= 8 and difference.mean() < 0.1  # cv2.undistort knows 1/32 of a pixel only
    assert np.abs(image.astype(int) - raw_image).max() > 20
    # By hand: the pixel that a corner of the straight image comes from, with the distortion model written out.
    k1, k2, p1, p2, k3 = calibration.coefficients
    depth = small.read(out / name / "depth/000000.png")
    for v, u in ((60, 80), (400, 500), (240, 320)):
        x, y = (u - cx) / fx, (v - cy) / fy
        r2 = x * x + y * y
        radial = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3
        column = (x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x)) * fx + cx
        row = (y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y) * fy + cy
        assert depth[v, u] == np.rint(raw_depth[round(row), round(column)] / 5)


def test_a_recording_of_ones_own_needs_intrinsics(write_sequence, run_import):
    root = write_sequence("kitchen", rgb=(0,), depth=(0,))
    _, summary = run_import(TumRgbd, root, TumRgbdOptions())
    assert "no calibration for kitchen: its name must hold one of freiburg1, freiburg2" in summary.failures["kitchen"]
    out, _ = run_import(TumRgbd, root, TumRgbdOptions(intrinsics=(500.0, 501.0, 319.0, 239.0)))
    np.testing.assert_array_equal(np.loadtxt(out / "kitchen/K.txt"), ((500, 0, 319), (0, 501, 239), (0, 0, 1)))
    with pytest.raises(ConfigError, match="distortion belongs to intrinsics"):
        TumRgbdOptions(distortion=(0.1, 0, 0, 0, 0))
    with pytest.raises(ConfigError, match="max_gap_ms must be 0 or more; got -1"):
        TumRgbdOptions(max_gap_ms=-1.0)


def test_images_are_found_by_the_names_in_the_list(write_sequence, run_import):
    root = write_sequence(rgb=(0, 33), depth=(0, 33))
    stray = root / "rgbd_dataset_freiburg3_cabinet/rgb/0000000000.000000.png"
    small.write(stray, small.image(9, HEIGHT, WIDTH))  # sorted first, and in no list
    out, _ = run_import(TumRgbd, root, TumRgbdOptions())
    image = small.read(out / "rgbd_dataset_freiburg3_cabinet/images/000000.png")
    np.testing.assert_array_equal(image, small.image(0, HEIGHT, WIDTH))


def test_stamps_that_go_back_fail_the_sequence_in_one_line(write_sequence, run_import):
    root = write_sequence()
    path = root / "rgbd_dataset_freiburg3_cabinet/depth.txt"
    path.write_text("\n".join(path.read_text().splitlines()[::-1]))
    out, summary = run_import(TumRgbd, root, TumRgbdOptions())
    assert "depth.txt, line 2: stamps must not go back" in summary.failures["rgbd_dataset_freiburg3_cabinet"]
    assert list(out.iterdir()) == []


def test_a_missing_part_is_named(write_sequence, run_import):
    root = write_sequence()
    (root / "rgbd_dataset_freiburg3_cabinet/groundtruth.txt").unlink()
    _, summary = run_import(TumRgbd, root, TumRgbdOptions())
    assert "groundtruth.txt cannot be read: No such file" in summary.failures["rgbd_dataset_freiburg3_cabinet"]


def test_published_takes_the_13_published_sequences_only(write_sequence, run_import):
    write_sequence("rgbd_dataset_freiburg1_xyz", rgb=(0,), depth=(0,))
    with pytest.raises(DataError, match="holds no TUM RGB-D sequence of the 13 published sequences"):
        run_import(TumRgbd, write_sequence("kitchen", rgb=(0,), depth=(0,)), TumRgbdOptions(), published=True)
    root = write_sequence("rgbd_dataset_freiburg1_desk", rgb=(0,), depth=(0,))
    _, summary = run_import(TumRgbd, root, TumRgbdOptions(), published=True)
    assert [scene.name for scene in summary.scenes] == ["rgbd_dataset_freiburg1_desk"]


def test_beyond_the_domain_of_the_lens_there_is_neither_colour_nor_depth(write_sequence, run_import):
    root = write_sequence(rgb=(0,), depth=(0,))
    camera = TumRgbdOptions(intrinsics=(330.0, 330.0, 320.0, 240.0), distortion=(-0.32, 0.0, 0.0, 0.0, 0.0))
    out, _ = run_import(TumRgbd, root, camera)
    scene = out / "rgbd_dataset_freiburg3_cabinet"
    row, column = np.indices((HEIGHT, WIDTH))
    beyond = np.hypot(column - 320, row - 240) / 330 > np.sqrt(1 / 0.96) + 1e-3
    assert beyond.mean() > 0.05
    assert not small.read(scene / "images/000000.png")[beyond].any()
    assert not small.read(scene / "depth/000000.png")[beyond].any()


def test_a_depth_image_that_cannot_be_read_leaves_its_frame_for_prediction(write_sequence, run_import):
    root = write_sequence()
    depths = sorted((root / "rgbd_dataset_freiburg3_cabinet/depth").iterdir())
    depths[0].write_bytes(b"no image")
    small.write(depths[2], small.depth(2, HEIGHT // 2, WIDTH // 2, 2500, 40000))
    out, summary = run_import(TumRgbd, root, TumRgbdOptions())
    (report,) = summary.scenes
    assert (report.frames, report.skipped) == (3, ())
    assert [item.name for item in report.without_depth] == [f"{START}.000000.png", f"{START}.066000.png"]
    assert "must be a depth image" in report.without_depth[0].reason and "320×240" in report.without_depth[1].reason
    assert [path.name for path in (out / "rgbd_dataset_freiburg3_cabinet/depth").iterdir()] == ["000001.png"]
