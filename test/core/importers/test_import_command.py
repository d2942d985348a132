# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""`dvmvs import` and its older name `dvmvs export`, up to a scene that the rest of the package reads."""

from __future__ import annotations

import json

import numpy as np
import pytest

from dvmvs_core.cli.main import main
from dvmvs_core.data.open_sequence import open_sequence

K = np.array(((20.0, 0, 7.5), (0, 21.0, 5.5), (0, 0, 1)))


@pytest.fixture
def sens_file(tmp_path, tools):
    frames = [
        tools.pack_frame(
            np.full((4, 4), -np.inf) if i == 2 else tools.pose(i),
            tools.png(tools.image(i)),
            tools.zlib_depth(tools.depth(i)),
            1_000_000 + 33_000 * i,
        )
        for i in range(4)
    ]
    path = tmp_path / "scene0000_00.sens"
    path.write_bytes(tools.pack_sens(frames, K, K, (12, 16), (12, 16))[:-5])
    return path


def test_an_exported_scene_is_a_sequence(sens_file, tmp_path, tools, capsys):
    out, figures = tmp_path / "out", tmp_path / "figures.json"
    assert main(["export", "scannet", str(sens_file), str(out), "--json", str(figures), "--workers", "1"]) == 0
    assert "scene0000_00: left out frames 3 to 3: scene0000_00.sens is cut off there" in capsys.readouterr().out
    (scene,) = json.loads(figures.read_text())["scenes"]
    assert (scene["frames"], scene["lost_poses"], scene["skipped"][0]["count"]) == (3, 1, 1)
    sequence = open_sequence(out / "scene0000_00")
    items = list(sequence.items())
    assert [item.frame.stamp_ns for item in items] == [1_000_000_000, 1_033_000_000, 1_066_000_000]
    for i, item in enumerate(items):
        np.testing.assert_array_equal(item.frame.image, tools.image(i))
        np.testing.assert_allclose(item.sensor_depth, tools.depth(i) / 1000, rtol=1e-6)
        assert np.isfinite(item.frame.world_T_cam).all() == (i != 2)


def test_training_frames_and_published_are_flags(sens_file, tmp_path):
    out = tmp_path / "out"
    arguments = ["export", "scannet", str(sens_file), str(out), "--training", "--published", "--frame-skip", "2"]
    assert main(arguments) == 0
    assert (out / "train.txt").read_text() == "scene0000_00\n"
    assert sorted(path.name for path in (out / "scene0000_00").glob("*.npz")) == ["000000.npz"]


@pytest.mark.parametrize(
    ("dataset", "looked_for"),
    [
        ("scannet", "looked for *.sens"),
        ("7scenes", "looked for SCENE/seq-XX folders"),
        ("tum-rgbd", "looked for rgb.txt"),
        ("icl-nuim", "looked for NAME-color"),
        ("rgbd-scenes", "looked for imgs/scene_XX"),
    ],
)
def test_a_wrong_folder_is_one_line_that_says_what_was_looked_for(dataset, looked_for, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    assert main(["export", dataset, str(tmp_path / "in"), str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("dvmvs import: ") and looked_for in error
    assert not (tmp_path / "out").exists()


def test_a_scene_that_fails_is_named_and_the_exit_code_says_so(sens_file, tmp_path, tools, capsys):
    (tmp_path / "scene0001_00.sens").write_bytes(tools.pack_sens([], K, K, (12, 16), (12, 16), depth_compression=2))
    out = tmp_path / "out"
    assert main(["export", "scannet", str(tmp_path), str(out), "--workers", "1"]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "1 of 2 scenes could not be imported (scene0001_00: " in error and "got occi (2)" in error
    assert [path.name for path in out.iterdir()] == ["scene0000_00"]
