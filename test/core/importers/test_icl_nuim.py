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
from dvmvs_core.importers.formats import IclNuimOptions
from dvmvs_core.importers.icl_nuim import IclNuim


@pytest.fixture
def write_scene(tmp_path, tools):
    def write(name="office1", numbers=(0, 1, 2), first=0):
        root = tmp_path / "in"
        for number in numbers:
            tools.write_image(
                root / f"{name}-color/{number:05d}.jpg", tools.image(number), cv2.IMWRITE_JPEG_QUALITY, 95
            )
            tools.write_depth(root / f"{name}-depth-clean/{number:05d}.png", tools.depth(number))
        blocks = []
        for number in range(first, max(numbers) + 1):
            rows = "\n".join(" ".join(f"{value:.8f}" for value in row) for row in tools.pose(number))
            blocks.append(f"{number} {number} {number + 1}\n{rows}\n")
        (root / f"{name}-traj.txt").write_text("".join(blocks))
        return root

    return write


def rounded(pose):
    return np.array([[float(f"{value:.8f}") for value in row] for row in pose])


def test_published_export_is_the_published_one_bit_for_bit(write_scene, run_import, tools):
    root = write_scene()
    tools.write_image(root / "office1-color/00003.jpg", tools.image(3))  # more images than poses: left out
    write_scene("bedroom")  # none of the four
    out, _ = run_import(IclNuim, root, IclNuimOptions(), published=True)
    assert tools.files(out) == sorted(
        [f"office1/{part}/00000{i}.png" for part in ("images", "depth") for i in range(3)]
        + [f"office1/{name}" for name in ("K.txt", "export.json", "poses.txt")]
    )
    for i in range(3):
        decoded = tools.read_image(root / f"office1-color/0000{i}.jpg")
        np.testing.assert_array_equal(tools.read_image(out / f"office1/images/00000{i}.png"), decoded)
        np.testing.assert_array_equal(tools.read_depth(out / f"office1/depth/00000{i}.png"), tools.depth(i))
    lines = [" ".join(f"{value:.18e}" for value in rounded(tools.pose(i)).ravel()) + "\n" for i in range(3)]
    assert (out / "office1/poses.txt").read_text() == "".join(lines)
    np.testing.assert_array_equal(np.loadtxt(out / "office1/K.txt"), ((525, 0, 320), (0, 525, 240), (0, 0, 1)))


def test_correct_export_goes_by_number_not_by_position(write_scene, run_import, tools):
    root = write_scene(numbers=(0, 1, 2, 3), first=1)  # the trajectory begins at frame 1
    (root / "office1-depth-clean/00002.png").unlink()
    out, summary = run_import(IclNuim, root, IclNuimOptions())
    poses = np.loadtxt(out / "office1/poses.txt").reshape(-1, 4, 4)
    for written, number in enumerate((1, 2, 3)):
        np.testing.assert_allclose(poses[written], tools.pose(number), atol=2e-8)
    for written, number in ((0, 1), (2, 3)):
        np.testing.assert_array_equal(tools.read_depth(out / f"office1/depth/00000{written}.png"), tools.depth(number))
    assert len(poses) == 3
    (scene,) = summary.scenes
    assert [(item.name, item.reason) for item in scene.skipped] == [
        ("00000.jpg", "office1-traj.txt has no pose for it")
    ]
    assert [(item.name, item.reason) for item in scene.without_depth] == [("00002.jpg", "it has no depth image")]
    assert not (out / "office1/depth/000001.png").exists()
    np.testing.assert_array_equal(np.loadtxt(out / "office1/K.txt"), ((525, 0, 319.5), (0, 525, 239.5), (0, 0, 1)))


def test_missing_and_broken_parts_are_named(write_scene, run_import, tmp_path):
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
    with pytest.raises(DataError, match="holds no ICL-NUIM scene: looked for NAME-color, NAME-depth-clean"):
        run_import(IclNuim, tmp_path / "out", IclNuimOptions())
    with pytest.raises(DataError, match="holds no ICL-NUIM scene of livingroom1, livingroom2, office1, office2"):
        run_import(IclNuim, tmp_path / "out", IclNuimOptions(), published=True)


def test_published_with_fewer_images_than_poses_is_refused(write_scene, run_import):
    root = write_scene()
    (root / "office1-color/00002.jpg").unlink()
    _, summary = run_import(IclNuim, root, IclNuimOptions(), published=True)
    assert "for each of 3 poses; got 2 images and 3 depth images" in summary.failures["office1"]
