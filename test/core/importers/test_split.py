# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

from __future__ import annotations

import pytest

from dvmvs_core.errors import DataError
from dvmvs_core.importers.split import split_by_place, split_from, write_split

SCANNET = [f"scene{place:04d}_{scan:02d}" for place in range(40) for scan in range(place % 3 + 1)]


def test_nine_to_one_by_place_and_the_same_every_time():
    train, validation = split_by_place(SCANNET)
    assert sorted(train + validation) == SCANNET
    places = [{name[:9] for name in part} for part in (train, validation)]
    assert not places[0] & places[1]
    assert (len(places[0]), len(places[1])) == (36, 4)
    assert split_by_place(SCANNET[::-1]) == (train, validation)
    assert validation != SCANNET[-len(validation) :]  # shuffled


def test_the_sequences_of_a_room_stay_together_and_numbered_scenes_are_places_of_their_own():
    train, validation = split_by_place(["chess-seq-01", "chess-seq-02", "fire-seq-01", "fire-seq-02"])
    assert {name.split("-")[0] for name in train} != {name.split("-")[0] for name in validation}
    assert len(train) == len(validation) == 2
    train, validation = split_by_place(["scene_01", "scene_02"])
    assert len(train) == len(validation) == 1


def test_a_single_place_is_to_train_with():
    assert split_by_place(["office1"]) == (["office1"], [])


def test_given_lists_keep_their_order_and_lose_what_was_not_exported(tmp_path):
    (tmp_path / "train.txt").write_text("b\nx\na\n")
    (tmp_path / "validation.txt").write_text("c\n")
    assert split_from(tmp_path, ["a", "b", "c", "d"]) == (["b", "a"], ["c"])
    with pytest.raises(DataError, match=r"validation.txt lists none of the 2 exported scenes"):
        split_from(tmp_path, ["a", "b"])
    (tmp_path / "train.txt").unlink()
    with pytest.raises(DataError, match=r"train.txt cannot be read"):
        split_from(tmp_path, ["a"])


def test_lists_are_one_name_a_line(tmp_path):
    write_split(tmp_path, ["a", "b"], [])
    assert (tmp_path / "train.txt").read_text() == "a\nb\n"
    assert (tmp_path / "validation.txt").read_text() == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["train.txt", "validation.txt"]
