# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""`dvmvs check`: its words, its exit code and its figures."""

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


def test_it_ends_with_0_where_nothing_is_wrong_and_says_what_was_not_checked(dvmvs, make_scene, tmp_path):
    scene, figures = make_scene(frames=9), tmp_path / "new" / "figures.json"
    code, out, _ = dvmvs("check", scene, "--json", figures)
    assert code == 0
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
