# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.


from __future__ import annotations

import importlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from dvmvs_core.data.open_sequence import open_sequence
from dvmvs_core.synthetic.clips import render_sequence

EXAMPLES = Path(__file__).parents[2] / "examples"
ROOM = EXAMPLES / "room"


@pytest.fixture
def make_room(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    return importlib.import_module("make_room")


def test_the_room_is_small_and_whole():
    assert sum(path.stat().st_size for path in ROOM.rglob("*") if path.is_file()) < 4e6
    sequence = open_sequence(ROOM)
    items = list(sequence.items())
    assert len(items) == 48 and sequence.depth_name == "true depth" and not sequence.faults
    assert all(item.sensor_depth.shape == item.frame.image.shape[:2] == (256, 320) for item in items)
    assert all((item.sensor_depth > 0).mean() > 0.99 for item in items)
    steps_ns = np.diff([item.frame.stamp_ns for item in items])
    assert steps_ns == pytest.approx(1e9 / 15, abs=2)


def test_its_command_makes_the_same_room(make_room):
    size = (make_room.HEIGHT, make_room.WIDTH)
    frames, K = render_sequence(make_room.SEED, make_room.FRAMES, *size, make_room.SAMPLES, every=make_room.EVERY)
    image, depth, world_T_cam = next(frames)
    kept = next(open_sequence(ROOM).items())
    np.testing.assert_allclose(kept.frame.K, K, rtol=1e-9)
    np.testing.assert_allclose(kept.frame.world_T_cam, world_T_cam, atol=1e-6)
    # Another processor rounds otherwise, and an edge may fall on the other side of a pixel.
    assert np.mean(np.abs(kept.sensor_depth - depth) > 0.002) < 1e-3
    assert cv2.PSNR(kept.frame.image, image) > 32  # it was a JPEG meanwhile


def test_images_are_written_as_jpeg(make_room, tmp_path, monkeypatch):
    monkeypatch.setattr(make_room, "FRAMES", 2)
    monkeypatch.setattr(make_room, "HEIGHT", 32)
    monkeypatch.setattr(make_room, "WIDTH", 40)
    make_room.main(tmp_path / "room", seed=3)
    assert sorted(path.name for path in (tmp_path / "room" / "images").iterdir()) == ["000000.jpg", "000001.jpg"]
    assert len(list(open_sequence(tmp_path / "room").items())) == 2
