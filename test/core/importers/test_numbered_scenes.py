# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""ICL-NUIM and RGB-D Scenes v2: data sets whose frames and poses go by number."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import small_inputs as small
from scipy.spatial.transform import Rotation

from dvmvs_core.importers.formats import IclNuimOptions, RgbdScenesOptions
from dvmvs_core.importers.icl_nuim import IclNuim
from dvmvs_core.importers.rgbd_scenes import RgbdScenes


@pytest.fixture
def write_icl_nuim(tmp_path):
    def write(name="office1", numbers=(0, 1, 2), first=0):
        root = tmp_path / "in"
        for number in numbers:
            small.write(root / f"{name}-color/{number:05d}.jpg", small.image(number), cv2.IMWRITE_JPEG_QUALITY, 95)
            small.write(root / f"{name}-depth-clean/{number:05d}.png", small.depth(number))
        blocks = (f"{i} {i} {i + 1}\n{small.saved(small.pose(i), '%.8f')}" for i in range(first, max(numbers) + 1))
        (root / f"{name}-traj.txt").write_text("".join(blocks))
        return root

    return write


def test_published_export_of_icl_nuim_is_the_published_one_bit_for_bit(write_icl_nuim, run_import):
    root = write_icl_nuim()
    small.write(root / "office1-color/00003.jpg", small.image(3))  # more images than poses: left out
    write_icl_nuim("bedroom")  # none of the four
    out, _ = run_import(IclNuim, root, IclNuimOptions(), published=True)
    assert small.files(out) == small.scene_files("office1", 3)
    for i in range(3):
        decoded = small.read(root / f"office1-color/0000{i}.jpg")
        np.testing.assert_array_equal(small.read(out / f"office1/images/00000{i}.png"), decoded)
        np.testing.assert_array_equal(small.read(out / f"office1/depth/00000{i}.png"), small.depth(i))
    assert (out / "office1/poses.txt").read_text() == small.saved([small.pose(i).round(8) for i in range(3)])
    np.testing.assert_array_equal(np.loadtxt(out / "office1/K.txt"), ((525, 0, 320), (0, 525, 240), (0, 0, 1)))


def test_correct_export_of_icl_nuim_goes_by_number_not_by_position(write_icl_nuim, run_import):
    root = write_icl_nuim(numbers=(0, 1, 2, 3), first=1)  # the trajectory begins at frame 1
    (root / "office1-depth-clean/00002.png").unlink()
    out, summary = run_import(IclNuim, root, IclNuimOptions())
    poses = np.loadtxt(out / "office1/poses.txt").reshape(-1, 4, 4)
    for written, number in enumerate((1, 2, 3)):
        np.testing.assert_allclose(poses[written], small.pose(number), atol=2e-8)
    for written, number in ((0, 1), (2, 3)):
        np.testing.assert_array_equal(small.read(out / f"office1/depth/00000{written}.png"), small.depth(number))
    assert len(poses) == 3
    (scene,) = summary.scenes
    assert [(item.name, item.reason) for item in scene.skipped] == [
        ("00000.jpg", "office1-traj.txt has no pose for it")
    ]
    assert [(item.name, item.reason) for item in scene.without_depth] == [("00002.jpg", "it has no depth image")]
    assert not (out / "office1/depth/000001.png").exists()
    np.testing.assert_array_equal(np.loadtxt(out / "office1/K.txt"), ((525, 0, 319.5), (0, 525, 239.5), (0, 0, 1)))


def test_missing_and_broken_parts_of_icl_nuim_are_named(write_icl_nuim, run_import):
    root = write_icl_nuim()
    path = root / "office1-traj.txt"
    path.write_text(path.read_text().replace("1 1 2\n", ""))
    _, summary = run_import(IclNuim, root, IclNuimOptions())
    assert "office1-traj.txt must hold blocks of a line of numbers and 4 lines of 4" in summary.failures["office1"]
    path.unlink()
    _, summary = run_import(IclNuim, root, IclNuimOptions())
    assert "office1-traj.txt cannot be read: No such file" in summary.failures["office1"]
    (root / "office1-depth-clean").rename(root / "elsewhere")
    _, summary = run_import(IclNuim, root, IclNuimOptions())
    assert "office1 has no depth: looked for" in summary.failures["office1"]


def test_published_with_fewer_images_than_poses_is_refused(write_icl_nuim, run_import):
    root = write_icl_nuim()
    (root / "office1-color/00002.jpg").unlink()
    _, summary = run_import(IclNuim, root, IclNuimOptions(), published=True)
    assert "for each of 3 poses; got 2 images and 3 depth images" in summary.failures["office1"]


@pytest.fixture
def write_rgbd_scene(tmp_path):
    def write(number="01", count=3):
        root = tmp_path / "in"
        lines = []
        for i in range(count):
            prefix = root / f"imgs/scene_{number}/{i:05d}"
            small.write(prefix.with_name(f"{i:05d}-color.png"), small.image(i))
            small.write(prefix.with_name(f"{i:05d}-depth.png"), small.depth(i, low=5000, high=65535))
            x, y, z, w = Rotation.from_matrix(small.pose(i)[:3, :3]).as_quat()
            lines.append(" ".join(f"{value:.9f}" for value in (w, x, y, z, *small.pose(i)[:3, 3])))
        (root / "pc").mkdir(exist_ok=True)
        (root / f"pc/{number}.pose").write_text("\n".join(lines) + "\n")
        return root

    return write


def test_published_export_of_rgbd_scenes_is_the_published_one_bit_for_bit(write_rgbd_scene, run_import):
    root = write_rgbd_scene()
    write_rgbd_scene("03")  # none of the eight
    out, _ = run_import(RgbdScenes, root, RgbdScenesOptions(), published=True)
    assert small.files(out) == small.scene_files("scene_01", 3)
    poses, cut_below = np.tile(np.eye(4), (3, 1, 1)), 0
    for i, row in enumerate(np.loadtxt(root / "pc/01.pose")):
        np.testing.assert_array_equal(small.read(out / f"scene_01/images/00000{i}.png"), small.image(i))
        raw = small.depth(i, low=5000, high=65535)
        depth = np.float32(raw) / 10000.0
        depth = (depth * 1000.0).astype(np.uint16)
        np.testing.assert_array_equal(small.read(out / f"scene_01/depth/00000{i}.png"), depth)
        cut_below += int((depth != np.rint(raw / 10)).sum())
        poses[i, :3, :3] = Rotation.from_quat(row[[1, 2, 3, 0]]).as_matrix()
        poses[i, :3, 3] = row[4:]
    assert (out / "scene_01/poses.txt").read_text() == small.saved(poses)
    assert cut_below > 100  # it is not what rounding gives
    np.testing.assert_array_equal(np.loadtxt(out / "scene_01/K.txt"), ((570.3, 0, 320), (0, 570.3, 240), (0, 0, 1)))


def test_correct_export_of_rgbd_scenes_rounds_depth_and_goes_by_number(write_rgbd_scene, run_import):
    root = write_rgbd_scene(count=5)
    (root / "imgs/scene_01/00001-color.png").unlink()
    (root / "imgs/scene_01/00003-depth.png").unlink()
    path = root / "pc/01.pose"
    path.write_text("\n".join(path.read_text().splitlines()[:4]))
    out, summary = run_import(RgbdScenes, root, RgbdScenesOptions())
    poses = np.loadtxt(out / "scene_01/poses.txt").reshape(-1, 4, 4)
    assert len(poses) == 2
    for written, number in enumerate((0, 2)):
        expected = np.floor(small.depth(number, low=5000, high=65535) / 10 + 0.5)
        np.testing.assert_array_equal(small.read(out / f"scene_01/depth/00000{written}.png"), expected)
        np.testing.assert_allclose(poses[written], small.pose(number), atol=1e-8)
    assert {item.name: item.reason for item in summary.scenes[0].skipped} == {
        "00003-color.png": "it has no depth image",
        "00004-color.png": "there are only 4 poses",
    }


def test_missing_poses_of_rgbd_scenes_are_named(write_rgbd_scene, run_import):
    root = write_rgbd_scene()
    (root / "pc/01.pose").unlink()
    _, summary = run_import(RgbdScenes, root, RgbdScenesOptions())
    assert "01.pose cannot be read: No such file" in summary.failures["scene_01"]


def test_published_with_fewer_poses_than_images_is_refused(write_rgbd_scene, run_import):
    root = write_rgbd_scene()
    path = root / "pc/01.pose"
    path.write_text("\n".join(path.read_text().splitlines()[:2]))
    _, summary = run_import(RgbdScenes, root, RgbdScenesOptions(), published=True)
    assert "for each of 3 images; got 3 depth images and 2 poses" in summary.failures["scene_01"]
