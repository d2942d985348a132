# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""benchmarks/field.py: every recording with every network, worst first."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from dvmvs_core.data.open_sequence import open_sequence
from dvmvs_core.errors import ConfigError, DataError

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"


def load(name: str):
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, name, module)  # where a dataclass looks its module up
        spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def field():
    return load("field")


def rows_of(text: str) -> list[list[str]]:
    """The cells of the one table of a text, without its header."""
    table = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]


def test_the_page_has_every_recording_network_and_variant_and_the_constant(field, make_scene, weights, tmp_path):
    for name in ("office", "shelf"):
        make_scene(name, frames=7)
    scenes = tmp_path / "scenes.yaml"
    scenes.write_text("shelf: --max-depth 3.5\nabsent: --min-depth 1\n")
    out = tmp_path / "field.md"
    code = field.main([str(tmp_path), "--weights", str(weights), "--scenes", str(scenes), "--out", str(out),
                       "--variant", "one frame: --measurement-frames 1"])  # fmt: skip
    assert code == 0
    page = out.read_text()
    main_rows, parallax_rows = map(rows_of, page.split("## By parallax"))
    labels = [f"tiny {network}{variant}" for network in ("fusionnet", "pairnet") for variant in ("", ", one frame")]
    for scene in ("office", "shelf"):
        block = [row for row in main_rows if row[0] == scene]
        assert sorted(row[1] for row in block[:-1]) == sorted(labels)
        assert block[-1][1] == "constant median"
        ratios = [float(row[5]) for row in block]
        assert ratios[:-1] == sorted(ratios[:-1], reverse=True) and ratios[-1] == 1.0
        assert block[-1][3] == block[-1][4] == block[0][4]
    worst = {scene: max(float(row[5]) for row in main_rows if row[0] == scene) for scene in ("office", "shelf")}
    assert worst[main_rows[0][0]] == max(worst.values())
    assert len(parallax_rows) == 8
    # The command, the options and the weights are named, but no place on this machine.
    for said in (
        "python benchmarks/field.py", "--variant 'one frame: --measurement-frames 1'", "shelf with `--max-depth 3.5`",
        "`tiny.safetensors` (SHA-256 ", "torch ",
    ):  # fmt: skip
        assert said in page, said
    assert "absent" not in page and str(tmp_path) not in page


def test_a_recording_is_scored_with_its_options_and_a_variant_with_its_own(field, make_scene, weights, tmp_path):
    scene = make_scene("shelf", frames=7)
    near = field.evaluate(scene, str(weights), "pairnet", ("--max-depth", "2.5", "--measurement-frames", "1"), tmp_path)
    assert (near["depth_range_m"], near["measurement_frames"]) == ([0.5, 2.5], 1)
    with pytest.raises(DataError, match="failed"):
        field.evaluate(scene, str(weights), "pairnet", ("--min-depth", "-1"), tmp_path)


def test_kept_figures_are_taken_for_the_same_run_only(field, make_scene, weights, tmp_path, capsys):
    scene = make_scene("shelf", frames=5)
    figures = [
        field.evaluate(scene, str(weights), "pairnet", options, tmp_path / "kept")
        for options in ((), (), ("--max-depth", "2.5"))
    ]
    assert capsys.readouterr().out.count("dvmvs evaluate") == 2
    assert figures[0] == figures[1] != figures[2]
    assert len(list((tmp_path / "kept").iterdir())) == 2


def test_scenes_are_found_in_folders_and_as_folders(field, make_scene, tmp_path):
    scene = make_scene("office", frames=3)
    make_scene("blind", depth=False)
    assert field.find_scenes([tmp_path, scene]) == [scene.resolve()]
    (tmp_path / "empty").mkdir()
    for nothing in ("empty", "missing"):
        with pytest.raises(DataError, match="must be a scene folder or hold some"):
            field.find_scenes([tmp_path / nothing])


def test_bad_variants_and_options_are_refused(field, tmp_path):
    assert field.Variant.parse("a = b: --refine --limit 3").options == ("--refine", "--limit", "3")
    for wrong in ("--refine", "name:", ": --refine"):
        with pytest.raises(ConfigError, match="NAME: OPTIONS"):
            field.Variant.parse(wrong)
    file = tmp_path / "scenes.yaml"
    file.write_text("- shelf\n")
    with pytest.raises(ConfigError, match="must map names"):
        field.scene_options(file)
    assert field.scene_options(BENCHMARKS / "field_scenes.yaml")["apc-shelf"] == ("--min-depth", "0.25")


def test_strips_of_an_evaluation_are_a_picture(dvmvs, make_scene, weights, tmp_path):
    import cv2

    scene, strips = make_scene("office", frames=9), load("field_strips")
    assert dvmvs("evaluate", scene, "--weights", weights, "--out", tmp_path / "o")[0] == 0
    where = [str(tmp_path / "o" / "office"), str(scene), str(tmp_path / "strips.png")]
    assert strips.main([*where, "--frames", "4", "8"]) == 0
    two = cv2.imread(str(tmp_path / "strips.png")).shape
    assert strips.main([*where, "--count", "1"]) == 0
    assert cv2.imread(str(tmp_path / "strips.png")).shape == (two[0] // 2, *two[1:])
    assert strips.main([*where, "--frames", "3"]) == 1


def test_a_recording_backwards_has_the_same_frames_in_the_opposite_order(make_scene, tmp_path, capsys):
    scene, backwards = make_scene("office", frames=5), load("backwards")
    assert backwards.main([str(scene), "--out", str(tmp_path / "back")]) == 0
    forward, back = (list(open_sequence(path).items(True)) for path in (scene, tmp_path / "back" / "office"))
    assert len(back) == 5
    for one, other in zip(forward, reversed(back), strict=True):
        np.testing.assert_array_equal(one.frame.image, other.frame.image)
        np.testing.assert_array_equal(one.sensor_depth, other.sensor_depth)
        np.testing.assert_allclose(one.frame.world_T_cam, other.frame.world_T_cam)
        np.testing.assert_array_equal(one.frame.K, other.frame.K)
        assert one.frame.stamp_ns - forward[0].frame.stamp_ns == pytest.approx(
            back[-1].frame.stamp_ns - other.frame.stamp_ns, abs=1000
        )
    assert backwards.main([str(scene), "--out", str(tmp_path / "back")]) == 1
    assert "office exists already" in capsys.readouterr().err
    sorted((scene / "images").iterdir())[2].write_bytes(b"no image")
    assert backwards.main([str(scene), "--out", str(tmp_path / "again")]) == 1
    assert "5 images, of which only 4 can be used" in capsys.readouterr().err
    assert not list((tmp_path / "again").iterdir())
