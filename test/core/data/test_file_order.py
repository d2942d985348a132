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
from bag_recordings import assert_same_frames

from dvmvs_core.data.file_order import is_clutter, natural_key, order_note, ordered_files
from dvmvs_core.data.open_sequence import open_sequence
from dvmvs_core.training.training_scenes import open_training_scene


@pytest.mark.parametrize(
    "names",
    (
        ("0.png", "1.png", "2.png", "10.png", "11.png"),
        ("frame_9.jpg", "frame_10.jpg", "frame_100.jpg"),
        ("00001.png", "00002.png", "00010.png"),
        ("bag_2.mcap", "bag_10.mcap"),
        # Fractions of seconds have no leading zeros to lose: .25 comes before .5.
        ("1700000000.25.png", "1700000000.5.png", "1700000001.125.png"),
        ("9.75.png", "10.5.png"),
        ("a.png", "a1.png", "a1b2.png", "b.png"),
    ),
)
def test_numbers_in_names_count_as_numbers(names):
    assert sorted(reversed(names), key=natural_key) == list(names)


def test_what_systems_leave_in_folders_is_no_file_of_a_recording(tmp_path):
    for name in ("._2.png", ".DS_Store", ".hidden.png", "Thumbs.db", "desktop.ini", "2.PNG", "1.png", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "3.png").mkdir()
    assert [file.name for file in ordered_files(tmp_path, (".png",))] == ["1.png", "2.PNG"]
    assert ordered_files(tmp_path / "nowhere", (".png",)) == []
    assert is_clutter("__MACOSX") and is_clutter("@eaDir") and not is_clutter("frame.png")


def renumber(folder, frames: int, prefix: str = "") -> None:
    """Name images 0.png, 1.png, ... without leading zeros."""
    for i in range(frames):
        (folder / f"{i + 3:05d}.png").rename(folder / f"{prefix}{i}.png")


def test_a_scene_of_names_without_leading_zeros_pairs_images_with_their_own_poses(make_scene, caplog):
    ordered = list(open_sequence(make_scene("padded", frames=14)).items())
    scene = make_scene("bare", frames=14)
    renumber(scene / "images", 14)
    renumber(scene / "depth", 14)
    sequence = open_sequence(scene)
    items = list(sequence.items())
    assert [item.name for item in items] == [f"{i}.png" for i in range(14)]
    assert_same_frames(items, ordered)
    assert caplog.text.count("2.png before 10.png, which is not the order of the alphabet") == 1
    assert sequence.notes == [order_note([scene / "images" / f"{i}.png" for i in range(14)])]


def test_depth_that_pairs_by_order_alone_is_in_the_order_of_numbers_too(make_scene):
    scene = make_scene(frames=12)
    expected = list(open_sequence(scene).items())
    renumber(scene / "depth", 12, "d")
    assert_same_frames(open_sequence(scene).items(), expected)


def test_hidden_files_are_no_frames(make_scene):
    scene = make_scene(frames=3)
    for folder in ("images", "depth"):
        (scene / folder / "._00003.png").write_bytes(b"\0\5\x16\7")
        (scene / folder / ".DS_Store").write_bytes(b"\0")
        (scene / folder / "Thumbs.db").write_bytes(b"\0")
        (scene / folder / "@eaDir").mkdir()
    sequence = open_sequence(scene)
    assert [item.name for item in sequence.items()] == ["00003.png", "00004.png", "00005.png"]
    assert (sequence.faults, sequence.notes) == ({}, [])


def test_training_scenes_are_in_the_order_of_numbers(make_scene):
    scene = make_scene(frames=12)
    for i in range(12):
        image = cv2.imread(str(scene / "images" / f"{i + 3:05d}.png"))
        np.savez(scene / f"{i}.npz", image=image, depth=np.zeros(image.shape[:2], np.uint16))
    (scene / "._0.npz").write_bytes(b"\0")
    assert [file.name for file in open_training_scene(scene).frames] == [f"{i}.npz" for i in range(12)]
