"""`dvmvs synthesize` and the folder that it writes."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from dvmvs_core.cli.main import main
from dvmvs_core.data.open_sequence import open_sequence
from dvmvs_core.data.synthetic import scene as scene_module
from dvmvs_core.data.synthetic.clips import render_sequence
from dvmvs_core.data.synthetic.scene import write_scene
from dvmvs_core.errors import DataError

SIZE = (32, 40)


def test_synthesize_writes_a_scene_that_opens(tmp_path, capsys):
    out = tmp_path / "new" / "room"
    assert main(["synthesize", str(out), "--frames", "3", "--seed", "2", "--height", "32", "--width", "40"]) == 0
    assert "3 frames of 40x32" in capsys.readouterr().out
    sequence = open_sequence(out)
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
    write_scene(tmp_path / "room", 2, 2, *SIZE, training=True)
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
        write_scene(tmp_path / "room", 2, 3, *SIZE)
    assert list(tmp_path.iterdir()) == []


def test_a_scene_without_frames_is_refused(tmp_path):
    with pytest.raises(DataError, match="at least one frame"):
        write_scene(tmp_path / "room", 2, 0, *SIZE)
    assert list(tmp_path.iterdir()) == []
