# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""`dvmvs check` and `dvmvs keyframes`, which need no network: words, exit codes, and the published index files."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

WRONG = 3


def strict(text: str) -> dict:
    """JSON without NaN and infinity, which other readers refuse."""

    def refuse(constant: str) -> None:
        pytest.fail(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


def jumped(scene) -> None:
    """Let the camera be a metre away from its third image on."""
    poses = np.loadtxt(scene / "poses.txt")
    poses[2:, 3] += 1.0
    np.savetxt(scene / "poses.txt", poses)


def test_it_ends_with_0_where_nothing_is_wrong_and_says_what_was_not_checked(ran, make_scene, tmp_path):
    figures = tmp_path / "new" / "figures.json"
    out = ran("check", make_scene(frames=9), "--json", figures)
    assert "scene: 5 of 9 frames become keyframes" in out and "scene: not checked: " in out
    (found,) = strict(figures.read_text())["sequences"].values()
    assert (found["frames"], found["keyframes"], found["findings"], found["jumps"]) == (9, 5, [], [])
    assert all(f"scene: not checked: {sentence}\n" in out for sentence in found["not_checked"])


def test_it_ends_with_3_where_one_of_several_is_wrong_and_has_the_figures_of_all(dvmvs, make_scene, tmp_path):
    good, bad, figures = make_scene("good", frames=9), make_scene("bad", frames=9), tmp_path / "figures.json"
    jumped(bad)
    code, out, _ = dvmvs("check", good, bad, "--json", figures)
    assert code == WRONG
    assert "bad: the pose jumps at 1 of 9 images (2): use a continuous frame" in out
    found = strict(figures.read_text())["sequences"]
    assert list(found) == [str(good), str(bad)]
    assert (found[str(good)]["jumps"], found[str(bad)]["jumps"]) == ([], [2])
    assert [sentence in out for sentence in found[str(bad)]["findings"]] == [True]


def test_a_process_ends_with_the_same_code_and_with_1_where_it_could_not_check(make_scene, tmp_path):
    scene = make_scene(frames=9)
    jumped(scene)
    for path, code in ((scene, WRONG), (tmp_path / "nowhere", 1)):
        answer = subprocess.run([sys.executable, "-m", "dvmvs_core", "check", path], capture_output=True, text=True)
        assert answer.returncode == code, answer.stderr
    assert answer.stderr.startswith("dvmvs check: ") and answer.stderr.count("\n") == 1


FILES = {
    "keyframe+hololens-dataset+000+nmeas+1": ("--measurement-frames", 1),
    "keyframe+hololens-dataset+000+nmeas+2": (),
    "keyframe+hololens-dataset+000+nmeas+3": ("--measurement-frames", 3),
    "simple10+hololens-dataset+000+nmeas+2": ("--every", 10),
    "simple20+hololens-dataset+000+nmeas+2": ("--every", 20),
}


@pytest.fixture(scope="module")
def whole_scene(reference, tmp_path_factory):
    """All 373 frames of the sample scene in the published layout: poses and names, and images without content.

    The shipped index files and lists of positions tell the name of every keyframe and of every tenth frame; the others
    get names in between.
    """
    goldens = reference / "goldens"
    lines = {name: (goldens / "keyframe_indices" / name).read_text().splitlines() for name in FILES}
    names: dict[int, str] = {}
    positions = json.loads((goldens / "keyframes_online_nmeas1.json").read_text())["sequence"]
    for indices, line in zip(positions, lines["keyframe+hololens-dataset+000+nmeas+1"], strict=True):
        names.update(zip(indices, line.split(), strict=True))
    for position, line in enumerate(lines["simple10+hololens-dataset+000+nmeas+2"], start=1):
        names.setdefault(10 * position, line.split()[0])
    scene = tmp_path_factory.mktemp("published") / "hololens-dataset" / "000"
    (scene / "images").mkdir(parents=True)
    poses = (goldens / "hololens-000-poses-all-373.txt").read_text()
    latest = ""
    for i in range(len(poses.splitlines())):
        latest = names.get(i, f"{latest.removesuffix('.png')}_.png")
        (scene / "images" / latest).touch()
    (scene / "poses.txt").write_text(poses)
    np.savetxt(scene / "K.txt", np.diag((500.0, 500.0, 1.0)))
    return scene


@pytest.mark.parametrize("name", FILES)
def test_each_shipped_file_is_written_byte_for_byte_under_its_name(dvmvs, reference, whole_scene, tmp_path, name):
    code, _, err = dvmvs("keyframes", whole_scene, "--published", tmp_path / "indices", *FILES[name])
    assert (code, err) == (0, "")
    (written,) = (tmp_path / "indices").iterdir()
    assert written.name == name
    assert written.read_bytes() == (reference / "goldens" / "keyframe_indices" / name).read_bytes()


@pytest.mark.parametrize("name", FILES)
def test_the_real_frames_give_the_first_lines_of_each_file(dvmvs, hololens, reference, name):
    golden = (reference / "goldens" / "keyframe_indices" / name).read_text().splitlines(keepends=True)
    code, out, _ = dvmvs("keyframes", hololens, *FILES[name])
    lines = out.splitlines(keepends=True)
    assert code == 0
    assert len(lines) == {"keyframe": 146, "simple10": 19, "simple20": 9}[name.split("+")[0]]
    assert lines == golden[: len(lines)]


def test_several_sequences_get_a_file_each(ran, make_scene, tmp_path):
    scenes = [make_scene(f"mine/{name}", frames=7) for name in ("office", "stairs")]
    out = ran("keyframes", *scenes, "--published", tmp_path / "indices", "--every", 3)
    assert sorted(f.name for f in (tmp_path / "indices").iterdir()) == [
        "simple3+mine+office+nmeas+2", "simple3+mine+stairs+nmeas+2",
    ]  # fmt: skip
    assert out.count("2 keyframes with measurement frames, of 7 frames") == 2
    ran("keyframes", scenes[0], "--published", tmp_path / "named", "--dataset", "d", "--scene", "s")
    assert [f.name for f in (tmp_path / "named").iterdir()] == ["keyframe+d+s+nmeas+2"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    (
        (("--every", 0), "n of at least 1; got 0"),
        (("--measurement-frames", 0), "measurement_frames must lie between 1"),
        (("--every", 5, "--measurement-frames", 0), "measurement_frames must lie between 1"),
        (("--out", "a", "--published", "b"), "give one of them"),
        (("--published", "b", "--dataset", "my+set"), "must not be empty nor hold '+'"),
    ),
)
def test_what_cannot_be_is_one_line_and_writes_nothing(dvmvs, make_scene, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    scene = make_scene()
    before = sorted(tmp_path.iterdir())
    code, out, err = dvmvs("keyframes", scene, *arguments)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert said in err
    assert sorted(tmp_path.iterdir()) == before


def test_a_broken_sequence_leaves_no_file_of_the_good_one(refused, make_scene, tmp_path):
    good, broken = make_scene("good"), make_scene("broken")
    (broken / "poses.txt").write_text("1 2 3\n")
    (line,) = refused("keyframes", good, broken, "--published", tmp_path / "indices")
    assert "poses.txt, line 1 must hold 16 numbers" in line
    assert not (tmp_path / "indices").exists()
    assert "name at least one sequence" in refused("keyframes")[-1]
    assert "--published DIR" in refused("keyframes", good, good)[-1]
