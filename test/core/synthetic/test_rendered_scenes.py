# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""`dvmvs synthesize` and the folder that it writes."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from dvmvs_core.cli.main import main
from dvmvs_core.data.open_sequence import open_sequence
from dvmvs_core.errors import DataError
from dvmvs_core.synthetic import clips as clips_module
from dvmvs_core.synthetic import rendered_scenes as scene_module
from dvmvs_core.synthetic.clips import render_sequence
from dvmvs_core.synthetic.rendered_scenes import SceneFormat, write_scene

SIZE = (32, 40)


def test_synthesize_writes_a_scene_that_opens(tmp_path, capsys):
    out = tmp_path / "new" / "room"
    assert main(["synthesize", str(out), "--frames", "3", "--seed", "2", "--height", "32", "--width", "40"]) == 0
    assert "3 frames of 40x32" in capsys.readouterr().out
    sequence = open_sequence(out)
    assert sequence.depth_name == "true depth"
    frames, K = render_sequence(2, 3, *SIZE)
    items = list(sequence.items())
    for index, (item, (image, depth, world_T_cam)) in enumerate(zip(items, frames, strict=True)):
        assert np.array_equal(item.frame.image, image)
        assert item.sensor_depth == pytest.approx(depth, abs=0.0006)
        assert item.frame.world_T_cam == pytest.approx(world_T_cam, abs=1e-9)
        assert pytest.approx(K) == item.frame.K
        assert item.frame.stamp_ns == pytest.approx(1_000_000_000 + index * 1e9 / 30, abs=2)
    sheet = cv2.imread(str(out / "contact_sheet.png"))
    assert sheet.shape == (64, 120, 3)
    assert sheet[:32, 40:80, ::-1].tolist() == items[1].frame.image.tolist()


def test_synthesize_writes_training_frames(tmp_path):
    write_scene(tmp_path / "room", 2, SceneFormat(2, *SIZE, training=True))
    with np.load(tmp_path / "room" / "000001.npz") as frame:
        assert frame["image"].shape == (*SIZE, 3) and frame["depth"].dtype == np.uint16
    assert np.loadtxt(tmp_path / "room" / "poses.txt").shape == (2, 16)


def test_an_existing_folder_is_never_touched(tmp_path, capsys):
    (tmp_path / "room").mkdir()
    assert main(["synthesize", str(tmp_path / "room"), "--frames", "2"]) == 1
    assert "exists already; name a folder that does not" in capsys.readouterr().err
    assert list((tmp_path / "room").iterdir()) == []


def test_nothing_is_left_of_a_scene_that_failed(tmp_path, monkeypatch):
    def interrupted():
        yield np.zeros((*SIZE, 3), np.uint8), np.ones(SIZE, np.float32), np.eye(4)
        raise KeyboardInterrupt

    monkeypatch.setattr(scene_module, "render_sequence", lambda *args: (interrupted(), np.eye(3)))
    with pytest.raises(KeyboardInterrupt):
        write_scene(tmp_path / "room", 2, SceneFormat(3, *SIZE))
    assert list(tmp_path.iterdir()) == []


def test_a_scene_without_frames_is_refused(tmp_path):
    with pytest.raises(DataError, match="at least one frame"):
        write_scene(tmp_path / "room", 2, SceneFormat(0, *SIZE))
    assert list(tmp_path.iterdir()) == []


def synthesize_set(out, *more: str) -> int:
    return main(["synthesize", str(out), "--frames", "2", "--height", "32", "--width", "40", "--seed", "4", *more])


def test_a_set_is_what_training_reads_and_goes_on_where_it_was(tmp_path, capsys):
    out = tmp_path / "set"
    assert synthesize_set(out, "--npz", "--scenes", "2") == 0
    assert "2 scenes of 2 frames of 40x32, and contact_sheet.png" in capsys.readouterr().out
    first = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    kept = (out / "synthetic000004" / "000001.npz").stat().st_mtime_ns
    assert synthesize_set(out, "--npz", "--scenes", "3") == 0
    assert "1 scenes of 2 frames of 40x32, 2 were there before" in capsys.readouterr().out
    assert (out / "synthetic000004" / "000001.npz").stat().st_mtime_ns == kept
    lists = (out / "train.txt").read_text() + (out / "validation.txt").read_text()
    assert sorted(lists.split()) == ["synthetic000004", "synthetic000005", "synthetic000006"]
    assert set(first) < {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert cv2.imread(str(out / "contact_sheet.png")).shape == (3 * 64, 80, 3)
    for name, seed in (("synthetic000004", 4), ("synthetic000006", 6)):
        (image, depth, world_T_cam), *_ = render_sequence(seed, 2, *SIZE)[0]
        with np.load(out / name / "000000.npz") as frame:
            assert np.array_equal(frame["image"], image)
            assert frame["depth"] == pytest.approx(depth * 1000, abs=0.51)
        assert np.loadtxt(out / name / "poses.txt")[0] == pytest.approx(world_T_cam.ravel(), abs=1e-9)


def test_a_set_made_otherwise_is_in_the_way(tmp_path, capsys):
    assert synthesize_set(tmp_path / "set", "--scenes", "1") == 0
    assert synthesize_set(tmp_path / "set", "--scenes", "1", "--npz") == 1
    assert "was made otherwise" in capsys.readouterr().err
    assert synthesize_set(tmp_path / "none", "--scenes", "0") == 1
    assert "at least one scene; got 0" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_a_walk_that_no_room_has_space_for_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(clips_module, "sequence_path", lambda *args: None)
    with pytest.raises(DataError, match=r"no walk of 2 frames .* ask for fewer frames"):
        write_scene(tmp_path / "room", 2, SceneFormat(2, *SIZE))
    assert list(tmp_path.iterdir()) == []
