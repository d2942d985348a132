# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.


"""`dvmvs import` and its older name `dvmvs export`: scenes are written whole or not at all, and split for training."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import numpy as np
import pytest
import small_inputs as small
from format_writers import pack_sens

from dvmvs_core.cli.main import main
from dvmvs_core.data.open_sequence import open_sequence
from dvmvs_core.errors import ConfigError, DataError
from dvmvs_core.importers.dataset import FileScene
from dvmvs_core.importers.formats import IclNuimOptions, ImportOptions
from dvmvs_core.importers.icl_nuim import IclNuim
from dvmvs_core.importers.import_runner import import_scenes
from dvmvs_core.importers.scene_import import ImportStopped, import_scene
from dvmvs_core.importers.scene_writer import OutputError
from dvmvs_core.importers.split import split_by_place, split_from, write_split

ICL = IclNuim(False, IclNuimOptions())


@pytest.fixture
def root(tmp_path):
    """Three scenes of 4 frames; the pose of frame 1 is lost."""
    root = tmp_path / "in"
    for name in ("a", "b", "c"):
        blocks = []
        for i in range(4):
            small.write(root / f"{name}-color/{i:05d}.jpg", small.image(i))
            small.write(root / f"{name}-depth-clean/{i:05d}.png", small.depth(i))
            blocks.append(f"{i} {i} {i + 1}\n" + small.saved(np.full((4, 4), np.nan) if i == 1 else small.pose(i)))
        (root / f"{name}-traj.txt").write_text("".join(blocks))
    return root


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def export(root, out):
    """Import the three scenes, or those named."""

    def run(*scenes: str, to: Path = out, workers: int = 1, on_progress=lambda *what: None, **options):
        return import_scenes(ICL, root, to, ImportOptions(**options), scenes, workers, on_progress=on_progress)

    return run


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_scene_folder_has_the_parts_of_one(export, out):
    export("a")
    assert small.files(out) == small.scene_files("a", 4)
    record = json.loads((out / "a/export.json").read_text())
    assert record == {
        "dataset": "augmented ICL-NUIM",
        "training": False,
        "frame_skip": 1,
        "published": False,
        "frames": 4,
        "lost_poses": 1,
        "stamps": False,
        "skipped": [],
        "without_depth": [],
    }
    assert np.isnan(np.loadtxt(out / "a/poses.txt")[1]).all()


def test_training_frames_leave_out_lost_poses_and_come_with_a_split(root, export, out):
    export(training=True, frame_skip=3)
    assert small.files(out / "b") == ["000000.npz", "000001.npz", "K.txt", "export.json", "poses.txt"]
    with np.load(out / "b/000001.npz") as frame:
        np.testing.assert_array_equal(frame["depth"], small.depth(3))
        np.testing.assert_array_equal(frame["image"], small.read(root / "b-color/00003.jpg"))
    np.testing.assert_allclose(np.loadtxt(out / "b/poses.txt")[1].reshape(4, 4), small.pose(3), rtol=1e-8)
    train, validation = ((out / name).read_text().split() for name in ("train.txt", "validation.txt"))
    assert (len(train), len(validation)) == (2, 1)
    assert sorted(train + validation) == ["a", "b", "c"]


def test_finished_scenes_are_skipped_and_others_are_made(root, export, out):
    export("b")
    before = (out / "b/images/000000.png").stat().st_mtime_ns
    (root / "b-traj.txt").unlink()  # nothing of b is read again
    summary = export()
    assert {scene.name: scene.resumed for scene in summary.scenes} == {"a": False, "b": True, "c": False}
    assert (out / "b/images/000000.png").stat().st_mtime_ns == before
    assert [(scene.frames, scene.lost_poses) for scene in summary.scenes] == [(4, 1)] * 3


def test_what_a_killed_run_left_is_removed_first(export, out):
    left = out / ".a.partial/images/000099.png"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    export("a")
    assert sorted(path.name for path in out.iterdir()) == ["a"]
    assert len(list((out / "a/images").iterdir())) == 4


def test_a_folder_made_otherwise_is_not_taken_for_finished(export, out):
    export("a")
    with pytest.raises(DataError, match="was exported with frame_skip 1, not 2. Name another OUT, or remove it"):
        export(frame_skip=2)
    with pytest.raises(DataError, match="was exported with training False, not True"):
        export(training=True)
    (out / "b").mkdir()
    with pytest.raises(DataError, match=r"b is in the way: it was not made by an export \(no export.json\)"):
        export()
    assert list((out / "b").iterdir()) == []


def test_a_broken_scene_does_not_keep_the_others_from_being_made(root, tmp_path, export, out):
    """By processes as by one: the same bytes, and progress of each scene."""
    (root / "b-traj.txt").write_text("0 0 1\n")
    for workers, to in ((1, tmp_path / "alone"), (2, out)):
        progress = []
        summary = export(to=to, workers=workers, on_progress=lambda *what, progress=progress: progress.append(what))
        assert [scene.name for scene in summary.scenes] == ["a", "c"]
        assert "b-traj.txt must hold blocks" in summary.failures["b"]
        assert sorted(path.name for path in to.iterdir()) == ["a", "c"]
        for name in "ac":
            assert [done for scene, done, total in progress if scene == name] == [1, 2, 3, 3, 4]
    assert contents(tmp_path / "alone") == contents(out)


def test_a_scene_without_a_usable_frame_leaves_nothing(root, export, out):
    for path in (root / "b-color").iterdir():
        path.write_bytes(b"\xff\xd8 no jpeg")
    summary = export("b")
    said = "has no usable frame: 0 without a pose, 4 left out; the first that was left out is 00000.jpg"
    assert said in summary.failures["b"]
    assert list(out.iterdir()) == []


def test_a_scene_that_is_lost_throughout_is_no_scene(root, export, out):
    text = (root / "a-traj.txt").read_text().splitlines()
    (root / "a-traj.txt").write_text("\n".join(line if len(line.split()) == 3 else "nan " * 4 for line in text))
    for training in (False, True):
        summary = export("a", training=training)
        assert "has no usable frame: 4 without a pose, 0 left out" in summary.failures["a"]


def test_an_input_that_fails_while_it_is_read_fails_its_scene_only(root, monkeypatch, export, out):
    real = IclNuim.open

    def open_scene(dataset, scene):
        source = real(dataset, scene)
        if scene.name == "b":

            def frames(step):
                yield from FileScene.frames(source, 3)
                raise OSError(errno.EIO, "Input/output error")

            monkeypatch.setattr(source, "frames", frames)
        return source

    monkeypatch.setattr(IclNuim, "open", open_scene)
    summary = export()
    assert summary.failures == {"b": f"{root / 'b'} cannot be read: Input/output error"}
    assert sorted(path.name for path in out.iterdir()) == ["a", "c"]


@pytest.mark.parametrize("training", (False, True))
def test_depth_of_another_size_is_none(root, training, export):
    small.write(root / "a-depth-clean/00002.png", small.depth(0, 6, 8))
    (report,) = export("a", training=training).scenes
    assert [item.reason for item in report.without_depth] == ["depth is 8×6 and its image 16×12: not one camera"]
    assert report.skipped == (report.without_depth if training else ())


@pytest.mark.parametrize("at", ["images/000002.png", "depth/000003.png", "export.json", "000002.npz"])
def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(monkeypatch, at, export, out):
    training = at.endswith("npz")
    export("a", training=training)
    finished = contents(out)
    real_bytes, real_text, real_npz = Path.write_bytes, Path.write_text, np.savez_compressed

    def full(real):
        def write(path, *args, **kwargs):
            if str(path).endswith(f".b.partial/{at}"):
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(path, *args, **kwargs)

        return write

    monkeypatch.setattr(Path, "write_bytes", full(real_bytes))
    monkeypatch.setattr(Path, "write_text", full(real_text))
    monkeypatch.setattr(np, "savez_compressed", full(real_npz))
    with pytest.raises(OutputError, match="cannot be written: No space left on device. Free some space") as caught:
        export(training=training)
    assert "\n" not in str(caught.value)
    assert contents(out) == finished


def test_a_place_that_cannot_be_written_is_one_line(tmp_path, export):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written: .*. Name another OUT"):
        export(to=tmp_path / "file" / "out")


def test_workers_stop_when_one_cannot_write(export, out):
    out.mkdir()
    for name in "abc":
        (out / f".{name}.partial").write_text("a file where the folder must go")
    with pytest.raises(OutputError, match="cannot be written: Not a directory"):
        export(workers=2)


def test_an_interrupted_scene_leaves_nothing(root, out):
    def interrupt(done, total):
        raise KeyboardInterrupt

    (scene, *_) = ICL.find(root)
    out.mkdir()
    with pytest.raises(KeyboardInterrupt):
        import_scene(scene, out, ICL, ImportOptions(), interrupt)
    answers = iter((False, False, True))
    with pytest.raises(ImportStopped):
        import_scene(scene, out, ICL, ImportOptions(), stopped=lambda: next(answers))
    assert list(out.iterdir()) == []


def test_unknown_scenes_and_settings_out_of_range_are_refused(export, out):
    with pytest.raises(DataError, match="no scene d, e; found are a, b, c"):
        export("a", "e", "d")
    assert not out.exists()
    with pytest.raises(ConfigError, match="frame_skip must be 1 or more; got 0"):
        ImportOptions(frame_skip=0)
    with pytest.raises(ConfigError, match="frame_skip must be 1 for a published test export; got 4"):
        ImportOptions(frame_skip=4, published=True)
    assert ImportOptions(training=True, frame_skip=4, published=True).frame_skip == 4


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


K = np.array(((20.0, 0, 7.5), (0, 21.0, 5.5), (0, 0, 1)))


@pytest.fixture
def sens_file(tmp_path):
    poses = [small.pose(0), small.pose(1), np.full((4, 4), -np.inf), small.pose(3)]
    frames = [small.frame(pose, i, 1_000_000 + 33_000 * i) for i, pose in enumerate(poses)]
    path = tmp_path / "scene0000_00.sens"
    path.write_bytes(pack_sens(frames, K, K)[:-5])
    return path


def test_an_exported_scene_is_a_sequence(sens_file, tmp_path, capsys, out):
    figures = tmp_path / "figures.json"
    assert main(["export", "scannet", str(sens_file), str(out), "--json", str(figures), "--workers", "1"]) == 0
    assert "scene0000_00: left out frames 3 to 3: scene0000_00.sens is cut off there" in capsys.readouterr().out
    (scene,) = json.loads(figures.read_text())["scenes"]
    assert (scene["frames"], scene["lost_poses"], scene["skipped"][0]["count"]) == (3, 1, 1)
    sequence = open_sequence(out / "scene0000_00")
    items = list(sequence.items())
    assert [item.frame.stamp_ns for item in items] == [1_000_000_000, 1_033_000_000, 1_066_000_000]
    for i, item in enumerate(items):
        np.testing.assert_array_equal(item.frame.image, small.image(i))
        np.testing.assert_allclose(item.sensor_depth, small.depth(i) / 1000, rtol=1e-6)
        assert np.isfinite(item.frame.world_T_cam).all() == (i != 2)
    assert np.isneginf(np.loadtxt(out / "scene0000_00/poses.txt")[2]).all()


def test_training_frames_and_published_are_flags(sens_file, out):
    arguments = ["export", "scannet", str(sens_file), str(out), "--training", "--published", "--frame-skip", "2"]
    assert main(arguments) == 0
    assert (out / "train.txt").read_text() == "scene0000_00\n"
    assert sorted(path.name for path in (out / "scene0000_00").glob("*.npz")) == ["000000.npz"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    (
        ("scannet in", "holds no ScanNet scene: looked for *.sens in it and in its subfolders"),
        ("7scenes in", "holds no 7-Scenes sequence: looked for SCENE/seq-XX folders"),
        ("tum-rgbd in", "holds no TUM RGB-D sequence: looked for rgb.txt in it"),
        ("tum-rgbd missing", "missing does not exist; it must hold TUM RGB-D as it was downloaded"),
        ("icl-nuim in", "holds no ICL-NUIM scene: looked for NAME-color, NAME-depth-clean"),
        ("icl-nuim in --published", "holds no ICL-NUIM scene of livingroom1, livingroom2, office1, office2"),
        ("rgbd-scenes in", "holds no RGB-D Scenes v2 scene: looked for imgs/scene_XX and pc/XX.pose"),
    ),
)
def test_a_wrong_folder_is_one_line_that_says_what_was_looked_for(arguments, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    assert main(["export", *arguments.split(), "out"]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("dvmvs import: ") and said in error
    assert not Path("out").exists()


def test_a_scene_that_fails_is_named_and_the_exit_code_says_so(sens_file, tmp_path, capsys, out):
    (tmp_path / "scene0001_00.sens").write_bytes(pack_sens([], K, K, depth_compression=2))
    assert main(["export", "scannet", str(tmp_path), str(out), "--workers", "1"]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "1 of 2 scenes could not be imported (scene0001_00: " in error and "got occi (2)" in error
    assert [path.name for path in out.iterdir()] == ["scene0000_00"]
