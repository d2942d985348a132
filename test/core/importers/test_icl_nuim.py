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

from dvmvs_core.importers.formats import IclNuimOptions
from dvmvs_core.importers.icl_nuim import IclNuim


@pytest.fixture
def write_scene(tmp_path):
    def write(name="office1", numbers=(0, 1, 2), first=0):
        root = tmp_path / "in"
        for number in numbers:
            small.write(root / f"{name}-color/{number:05d}.jpg", small.image(number), cv2.IMWRITE_JPEG_QUALITY, 95)
            small.write(root / f"{name}-depth-clean/{number:05d}.png", small.depth(number))
        blocks = (f"{i} {i} {i + 1}\n{small.saved(small.pose(i), '%.8f')}" for i in range(first, max(numbers) + 1))
        (root / f"{name}-traj.txt").write_text("".join(blocks))
        return root

    return write


def test_published_export_is_the_published_one_bit_for_bit(write_scene, run_import):
    root = write_scene()
    small.write(root / "office1-color/00003.jpg", small.image(3))  # more images than poses: left out
    write_scene("bedroom")  # none of the four
    out, _ = run_import(IclNuim, root, IclNuimOptions(), published=True)
    assert small.files(out) == small.scene_files("office1", 3)
    for i in range(3):
        decoded = small.read(root / f"office1-color/0000{i}.jpg")
        np.testing.assert_array_equal(small.read(out / f"office1/images/00000{i}.png"), decoded)
        np.testing.assert_array_equal(small.read(out / f"office1/depth/00000{i}.png"), small.depth(i))
    assert (out / "office1/poses.txt").read_text() == small.saved([small.pose(i).round(8) for i in range(3)])
    np.testing.assert_array_equal(np.loadtxt(out / "office1/K.txt"), ((525, 0, 320), (0, 525, 240), (0, 0, 1)))


def test_correct_export_goes_by_number_not_by_position(write_scene, run_import):
    root = write_scene(numbers=(0, 1, 2, 3), first=1)  # the trajectory begins at frame 1
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


def test_missing_and_broken_parts_are_named(write_scene, run_import):
    root = write_scene()
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


def test_published_with_fewer_images_than_poses_is_refused(write_scene, run_import):
    root = write_scene()
    (root / "office1-color/00002.jpg").unlink()
    _, summary = run_import(IclNuim, root, IclNuimOptions(), published=True)
    assert "for each of 3 poses; got 2 images and 3 depth images" in summary.failures["office1"]
