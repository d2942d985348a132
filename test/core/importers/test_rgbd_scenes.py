# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from dvmvs_core.errors import DataError
from dvmvs_core.importers.formats import RgbdScenesOptions
from dvmvs_core.importers.rgbd_scenes import RgbdScenes


@pytest.fixture
def write_scene(tmp_path, tools):
    def write(number="01", count=3):
        root = tmp_path / "in"
        lines = []
        for i in range(count):
            prefix = root / f"imgs/scene_{number}/{i:05d}"
            tools.write_image(prefix.with_name(f"{i:05d}-color.png"), tools.image(i))
            tools.write_depth(prefix.with_name(f"{i:05d}-depth.png"), tools.depth(i, low=5000, high=65535))
            x, y, z, w = Rotation.from_matrix(tools.pose(i)[:3, :3]).as_quat()
            lines.append(" ".join(f"{value:.9f}" for value in (w, x, y, z, *tools.pose(i)[:3, 3])))
        (root / "pc").mkdir(exist_ok=True)
        (root / f"pc/{number}.pose").write_text("\n".join(lines) + "\n")
        return root

    return write


def test_published_export_is_the_published_one_bit_for_bit(write_scene, run_import, tools):
    root = write_scene()
    write_scene("03")  # none of the eight
    out, _ = run_import(RgbdScenes, root, RgbdScenesOptions(), published=True)
    assert tools.files(out) == sorted(
        [f"scene_01/{part}/00000{i}.png" for part in ("images", "depth") for i in range(3)]
        + [f"scene_01/{name}" for name in ("K.txt", "export.json", "poses.txt")]
    )
    lines, cut_below = [], 0
    for i, row in enumerate(np.loadtxt(root / "pc/01.pose")):
        np.testing.assert_array_equal(tools.read_image(out / f"scene_01/images/00000{i}.png"), tools.image(i))
        raw = tools.depth(i, low=5000, high=65535)
        depth = np.float32(raw) / 10000.0
        depth = (depth * 1000.0).astype(np.uint16)
        np.testing.assert_array_equal(tools.read_depth(out / f"scene_01/depth/00000{i}.png"), depth)
        cut_below += int((depth != np.rint(raw / 10)).sum())
        world_T_cam = np.eye(4)
        world_T_cam[:3, :3] = Rotation.from_quat(row[[1, 2, 3, 0]]).as_matrix()
        world_T_cam[:3, 3] = row[4:]
        lines.append(" ".join(f"{value:.18e}" for value in world_T_cam.ravel()) + "\n")
    assert (out / "scene_01/poses.txt").read_text() == "".join(lines)
    assert cut_below > 100  # it is not what rounding gives
    np.testing.assert_array_equal(np.loadtxt(out / "scene_01/K.txt"), ((570.3, 0, 320), (0, 570.3, 240), (0, 0, 1)))


def test_correct_export_rounds_depth_and_goes_by_number(write_scene, run_import, tools):
    root = write_scene(count=5)
    (root / "imgs/scene_01/00001-color.png").unlink()
    (root / "imgs/scene_01/00003-depth.png").unlink()
    path = root / "pc/01.pose"
    path.write_text("\n".join(path.read_text().splitlines()[:4]))
    out, summary = run_import(RgbdScenes, root, RgbdScenesOptions())
    poses = np.loadtxt(out / "scene_01/poses.txt").reshape(-1, 4, 4)
    assert len(poses) == 2
    for written, number in enumerate((0, 2)):
        expected = np.floor(tools.depth(number, low=5000, high=65535) / 10 + 0.5)
        np.testing.assert_array_equal(tools.read_depth(out / f"scene_01/depth/00000{written}.png"), expected)
        np.testing.assert_allclose(poses[written], tools.pose(number), atol=1e-8)
    assert {item.name: item.reason for item in summary.scenes[0].skipped} == {
        "00003-color.png": "it has no depth image",
        "00004-color.png": "there are only 4 poses",
    }


def test_missing_parts_are_named(write_scene, run_import, tmp_path):
    root = write_scene()
    (root / "pc/01.pose").unlink()
    _, summary = run_import(RgbdScenes, root, RgbdScenesOptions())
    assert "01.pose cannot be read: No such file" in summary.failures["scene_01"]
    with pytest.raises(DataError, match=r"holds no RGB-D Scenes v2 scene: looked for imgs/scene_XX and pc/XX\.pose"):
        run_import(RgbdScenes, tmp_path / "out", RgbdScenesOptions())


def test_published_with_fewer_poses_than_images_is_refused(write_scene, run_import):
    root = write_scene()
    path = root / "pc/01.pose"
    path.write_text("\n".join(path.read_text().splitlines()[:2]))
    _, summary = run_import(RgbdScenes, root, RgbdScenesOptions(), published=True)
    assert "for each of 3 images; got 3 depth images and 2 poses" in summary.failures["scene_01"]
