# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.


from __future__ import annotations

import json

import numpy as np
import pytest

from dvmvs_core.config import KeyframeConfig
from dvmvs_core.data.keyframe_index import (
    IndexEntry,
    IndexName,
    dataset_name,
    every_nth_keyframe,
    format_index,
    match_index_files,
    read_index,
    simulate_keyframes,
)
from dvmvs_core.data.open_sequence import open_sequence
from dvmvs_core.data.scene_folder import read_poses
from dvmvs_core.data.sequence import PoseItem
from dvmvs_core.errors import ConfigError, DataError

POSES = "goldens/hololens-000-poses-all-373.txt"


def pose_items(poses, name=lambda i: f"{i}.png") -> list[PoseItem]:
    return [PoseItem(i, name(i), i, pose) for i, pose in enumerate(poses)]


def golden_index(reference, n):
    return (reference / f"goldens/keyframe_indices/keyframe+hololens-dataset+000+nmeas+{n}").read_text()


def golden_names(reference) -> dict[int, str]:
    """The file name of each keyframe's index; the scene's numbers have gaps."""
    sequence = json.loads((reference / "goldens/keyframes_online_nmeas1.json").read_text())["sequence"]
    names = {}
    for line, indices in zip(golden_index(reference, 1).splitlines(), sequence, strict=True):
        names.update(zip(indices, line.split(), strict=True))
    return names


@pytest.mark.parametrize("n", (1, 2, 3))
def test_all_373_poses_give_the_published_file_byte_for_byte(reference, n):
    names = golden_names(reference)
    items = pose_items(read_poses(reference / POSES), lambda i: names.get(i, "not a keyframe"))
    text = format_index(simulate_keyframes(items, KeyframeConfig(measurement_frames=n)))
    assert text == golden_index(reference, n)


@pytest.mark.parametrize("step", (10, 20))
def test_every_nth_of_all_373_poses_gives_the_published_file_byte_for_byte(reference, step):
    golden = (reference / f"goldens/keyframe_indices/simple{step}+hololens-dataset+000+nmeas+2").read_text()
    simple = {}
    for position, line in enumerate(golden.splitlines(), start=1):
        simple[position * step], *_ = line.split()
    names = golden_names(reference)
    assert sum(index in names for index in simple) > len(simple) / 2
    assert all(names[index] == name for index, name in simple.items() if index in names)
    items = pose_items(read_poses(reference / POSES), lambda i: names.get(i) or simple.get(i) or "another frame")
    assert format_index(every_nth_keyframe(items, step, 2)) == golden


def test_every_nth_counts_its_tries_when_poses_are_invalid():
    """After an invalid pose the very next frame is tried; more than `max_lost_frames` of them clear the buffer."""
    poses = [np.eye(4) for _ in range(12)]
    for i in (3, 4, 7, 8, 9):
        poses[i][0, 0] = np.nan
    # 0 first; 3, 4 invalid; 5; 8, 9 invalid; 10
    for max_lost, text in ((2, "5.png 0.png\n10.png 0.png 5.png\n"), (1, "TRACKING LOST\nTRACKING LOST\n")):
        assert format_index(every_nth_keyframe(pose_items(poses), 3, 2, max_lost_frames=max_lost)) == text


def test_every_nth_must_be_positive():
    with pytest.raises(ConfigError, match="n of at least 1; got 0"):
        list(every_nth_keyframe([], 0, 2))
    with pytest.raises(ConfigError, match="measurement_frames must lie"):
        list(every_nth_keyframe([], 5, 0))


@pytest.mark.parametrize("case", ("nan_50_70", "nan_50_90", "inf_0_5", "nan_0_40"))
def test_lost_tracking_goes_as_published(reference, case):
    golden = json.loads((reference / "goldens/keyframes_tracking_lost.json").read_text())[case]
    value, first, last = case.split("_")
    poses = read_poses(reference / POSES)[: len(golden["responses"])]
    poses[int(first) : int(last)] = float(value)
    entries = list(simulate_keyframes(pose_items(poses, str), KeyframeConfig(measurement_frames=2)))
    assert sum(entry.reference is None for entry in entries) == golden["responses"].count(3)
    found = [[int(name) for name in str(entry).split()] for entry in entries if entry.reference is not None]
    assert found == golden["sequence"]


def test_the_first_200_frames_give_the_first_146_lines(reference, hololens):
    entries = list(simulate_keyframes(open_sequence(hololens).poses(), KeyframeConfig(measurement_frames=2)))
    assert len(entries) == 146
    assert format_index(entries) == "".join(golden_index(reference, 2).splitlines(keepends=True)[:146])


def test_a_lost_stretch_is_a_line_of_its_own():
    poses = [np.eye(4) for _ in range(36)]
    for i in (0, 1, 34, 35):
        poses[i][0, 3] = 0.2 * i
    for i in range(2, 34):
        poses[i][:] = np.inf
    text = format_index(simulate_keyframes(pose_items(poses), KeyframeConfig()))
    assert text == "1.png 0.png\nTRACKING LOST\n35.png 34.png\n"


def test_a_file_comes_back_as_it_was_written(tmp_path):
    entries = [IndexEntry("b.png", ("a.png",)), IndexEntry(None), IndexEntry("d.png", ("c.png", "b.png"))]
    (tmp_path / "index").write_text(format_index(entries))
    assert read_index(tmp_path / "index") == entries


@pytest.mark.parametrize(("text", "said"), (("", "it is empty"), ("a.png b.png\nlonely.png\n", "line 2 must name")))
def test_a_broken_file_is_one_clear_error(tmp_path, text, said):
    (tmp_path / "index").write_text(text)
    with pytest.raises(DataError, match=said):
        read_index(tmp_path / "index")
    with pytest.raises(DataError, match="must be a keyframe index file"):
        read_index(tmp_path / "missing")


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


@pytest.mark.parametrize(
    ("name", "follows"),
    (
        ("keyframe+hololens-dataset+000+nmeas+2", True),
        ("simple10+7scenes+office-seq-01+nmeas+11", True),
        *((name, False) for name in ("index.txt", "keyframe+a+b+nmeas+two", "keyframe+a+b+nmea+2")),
        *((name, False) for name in ("keyframe++b+nmeas+2", "k+a+b+c+nmeas+2")),
    ),
)
def test_a_name_is_taken_apart_and_put_together_again_where_it_follows_the_rule(name, follows):
    found = IndexName.parse(name)
    assert str(found) == name if follows else found is None


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


def test_of_several_sequences_a_file_must_say_whose_it_is(make_scene, indices, tmp_path):
    sequences = [open_sequence(make_scene(name)) for name in ("office", "stairs")]
    folder = indices("mine.txt")
    with pytest.raises(DataError, match="mine.txt cannot be told to belong to one of 2 sequences.*office, stairs"):
        match_index_files([folder / "mine.txt"], sequences)
    with pytest.raises(DataError, match="nowhere must be a keyframe index file"):
        match_index_files([tmp_path / "nowhere"], sequences[:1])


def test_measurement_frames_shorten_every_line(make_scene, indices):
    found = match_index_files([indices("mine.txt") / "mine.txt"], [open_sequence(make_scene())], 1)
    assert [str(entry) for entry in found[0][0].entries] == [
        "00005.png 00003.png", "TRACKING LOST", "00007.png 00005.png",
    ]  # fmt: skip
