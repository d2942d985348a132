# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

from __future__ import annotations

import pytest

from dvmvs_core.data.index_files import IndexName, dataset_name, match_index_files
from dvmvs_core.data.open_sequence import open_sequence
from dvmvs_core.errors import DataError

LINES = "00005.png 00003.png\nTRACKING LOST\n00007.png 00005.png 00003.png\n"


@pytest.fixture
def indices(tmp_path):
    """A function that writes index files of these names into a folder, and returns it."""

    def write(*names: str):
        folder = tmp_path / "indices"
        folder.mkdir(exist_ok=True)
        for name in names:
            (folder / name).write_text(LINES)
        return folder

    return write


def names_of(found) -> list[list[str]]:
    return [[file.path.name for file in files] for files in found]


@pytest.mark.parametrize("name", ("keyframe+hololens-dataset+000+nmeas+2", "simple10+7scenes+office-seq-01+nmeas+11"))
def test_a_name_is_taken_apart_and_put_together_again(name):
    assert str(IndexName.parse(name)) == name


@pytest.mark.parametrize(
    "name", ("index.txt", "keyframe+a+b+nmeas+two", "keyframe+a+b+nmea+2", "keyframe++b+nmeas+2", "k+a+b+c+nmeas+2")
)
def test_other_names_do_not_follow_the_rule(name):
    assert IndexName.parse(name) is None


def test_a_name_that_could_not_be_taken_apart_is_refused():
    with pytest.raises(DataError, match="Name the data set with --dataset"):
        IndexName("keyframe", "my+set", "000", 2)


def test_a_folder_is_shared_out_by_scene(make_scene, indices):
    sequences = [open_sequence(make_scene(name)) for name in ("office", "stairs")]
    folder = indices("keyframe+x+stairs+nmeas+2", "keyframe+x+office+nmeas+1", "keyframe+x+office+nmeas+2", "notes.txt",
                     "keyframe+x+attic+nmeas+2")  # fmt: skip
    assert names_of(match_index_files([folder], sequences)) == [
        ["keyframe+x+office+nmeas+1", "keyframe+x+office+nmeas+2"], ["keyframe+x+stairs+nmeas+2"],
    ]  # fmt: skip
    assert names_of(match_index_files([folder], sequences, 2))[0] == ["keyframe+x+office+nmeas+2"]
    with pytest.raises(DataError, match="no index file belongs to .*stairs with 1 measurement frames"):
        match_index_files([folder], sequences, 1)


def test_scenes_of_one_name_are_told_apart_by_data_set(make_scene, indices):
    sequences = [open_sequence(make_scene(f"{dataset}/000")) for dataset in ("a", "b")]
    assert [dataset_name(sequence) for sequence in sequences] == ["a", "b"]
    folder = indices("keyframe+b+000+nmeas+2", "keyframe+a+000+nmeas+2")
    found = match_index_files([folder], sequences)
    assert names_of(found) == [["keyframe+a+000+nmeas+2"], ["keyframe+b+000+nmeas+2"]]


def test_a_file_belongs_to_the_only_sequence_whatever_its_name(make_scene, indices):
    sequences = [open_sequence(make_scene())]
    folder = indices("mine.txt", "keyframe+other+other+nmeas+2")
    found = match_index_files([folder / "mine.txt", folder / "keyframe+other+other+nmeas+2"], sequences)
    assert names_of(found) == [["mine.txt", "keyframe+other+other+nmeas+2"]]
    assert (found[0][0].name, found[0][0].measurement_frames) == (None, 2)


def test_of_several_sequences_a_file_must_say_whose_it_is(make_scene, indices):
    sequences = [open_sequence(make_scene(name)) for name in ("office", "stairs")]
    folder = indices("mine.txt")
    with pytest.raises(DataError, match="mine.txt cannot be told to belong to one of 2 sequences.*office, stairs"):
        match_index_files([folder / "mine.txt"], sequences)


def test_measurement_frames_shorten_every_line(make_scene, indices):
    found = match_index_files([indices("mine.txt") / "mine.txt"], [open_sequence(make_scene())], 1)
    assert [str(entry) for entry in found[0][0].entries] == [
        "00005.png 00003.png", "TRACKING LOST", "00007.png 00005.png",
    ]  # fmt: skip


def test_a_missing_file_is_one_clear_error(make_scene, tmp_path):
    with pytest.raises(DataError, match="nowhere must be a keyframe index file"):
        match_index_files([tmp_path / "nowhere"], [open_sequence(make_scene())])
