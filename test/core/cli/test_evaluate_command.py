# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""`dvmvs predict` and `dvmvs evaluate` as the published offline and online tests, and the report."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from dvmvs_core.evaluation.scoring.metrics import NAMES


@pytest.fixture
def indices(ran, make_scene, tmp_path):
    """Two scenes of one data set, and a folder with an index file for 1 and for 2 measurement frames of each."""
    scenes = [make_scene(f"mine/{name}", frames=frames) for name, frames in (("office", 7), ("stairs", 9))]
    for n in (1, 2):
        ran("keyframes", *scenes, "--published", tmp_path / "indices", "--measurement-frames", n)
    return scenes, tmp_path / "indices"


def loaded(path) -> np.ndarray:
    with np.load(path) as arrays:
        assert arrays.files == ["arr_0"]
        return arrays["arr_0"]


def test_the_offline_test_writes_the_published_files_of_every_index(ran, indices, weights, tmp_path):
    scenes, folder = indices
    out = ran(
        "predict", *scenes, "--indices", folder, "--out", tmp_path / "o", "--published", "--weights", weights,
        "--network", "fusionnet",
    )  # fmt: skip
    files = {f.name: loaded(f) for f in (tmp_path / "o").iterdir()}
    assert {name: array.shape for name, array in files.items()} == {
        f"keyframe_mine_96_64_{n}_dvmvs_fusionnet_{kind}_{scene}.npz": (count, *shape)
        for n in (1, 2)
        for scene, count in (("office", 3), ("stairs", 4))
        for kind, shape in (("predictions", (64, 96)), ("errors", (8,)))
    }
    assert all(np.isfinite(array).all() for array in files.values())
    assert "office.npz and" in out


def test_the_online_test_has_its_own_name_and_agrees_with_the_offline_one(ran, indices, weights, tmp_path):
    (scene, _), folder = indices
    common = ("predict", scene, "--published", "--weights", weights, "--network", "pairnet", "--out", tmp_path / "o")
    ran(*common)
    ran(*common, "--indices", folder, "--measurement-frames", 2)
    online, offline = (
        loaded(tmp_path / "o" / f"keyframe_mine_96_64_2_dvmvs_pairnet{suffix}_errors_office.npz")
        for suffix in ("_online", "")
    )
    assert online == pytest.approx(offline, rel=1e-4)
    assert len(list((tmp_path / "o").iterdir())) == 4


def test_without_sensor_depth_there_are_predictions_and_no_errors(ran, make_scene, weights, tmp_path):
    blind = make_scene("mine/blind", depth=False, frames=7)
    ran("predict", blind, "--out", tmp_path / "o", "--published", "--weights", weights)
    (file,) = (tmp_path / "o").iterdir()
    assert file.name == "keyframe_mine_96_64_2_dvmvs_fusionnet_online_predictions_blind.npz"


def test_a_lost_line_resets_what_the_network_remembers(predicted, make_scene, tmp_path):
    scene = make_scene(frames=9)
    lines = ["00005.png 00003.png", "00007.png 00005.png", "00009.png 00007.png"]
    depths = {}
    for name, text in (("kept", lines), ("lost", [*lines[:2], "TRACKING LOST", lines[2]]), ("alone", lines[2:])):
        (tmp_path / name).write_text("\n".join(text) + "\n")
        depths[name] = predicted(scene, "--indices", tmp_path / name, "--pictures", 0)["depth"][-1]
    assert np.array_equal(depths["lost"], depths["alone"])
    assert not np.array_equal(depths["kept"], depths["alone"])


@pytest.mark.parametrize("n", (1, 7))
def test_one_to_seven_measurement_frames(predicted, make_scene, n):
    arrays = predicted(make_scene(frames=20), "--measurement-frames", n, "--pictures", 0)
    assert arrays["measurement_index"].shape == (9, n)
    assert (arrays["measurement_index"][-1] >= 0).all()


def test_runs_of_several_sequences_and_indices_are_rows_and_folders(evaluated, indices, tmp_path):
    scenes, folder = indices
    figures, out = evaluated(*scenes, "--indices", folder, "--out", tmp_path / "o")
    names = ["office_keyframe_1", "office_keyframe_2", "stairs_keyframe_1", "stairs_keyframe_2"]
    assert [part["name"] for part in figures["sequences"]] == names
    assert sorted(folder.name for folder in (tmp_path / "o").iterdir()) == names
    assert figures["all"]["keyframes"] == 14
    assert all(name in out for name in names)


def test_the_published_average_is_over_all_keyframes(evaluated, indices, tmp_path):
    scenes, folder = indices
    published = ("--published", "--out", tmp_path / "o")
    figures, _ = evaluated(*scenes, "--indices", folder, "--measurement-frames", 2, *published)
    errors = np.concatenate([loaded(f) for f in (tmp_path / "o").glob("*_errors_*")])
    metrics = figures["all"]["metrics"]
    assert np.nanmean(errors, axis=0).tolist() == pytest.approx([metrics[name] for name in NAMES[:8]])


@pytest.mark.parametrize(
    ("arguments", "bins"),
    (
        (("--max-depth", 1.0), ([(0.5, 1.0)], [(0.5, 1.0), (1.0, 1.5)])),
        (("--min-depth", 3.0), ([(3.0, 4.0)], [(3.0, 4.0), (4.0, 5.0)])),
    ),
    ids=("near", "far"),
)
def test_the_range_of_depth_is_an_option(evaluated, make_scene, arguments, bins):
    figures, _ = evaluated(make_scene(frames=5), *arguments)
    assert [(part["low"], part["high"]) for part in figures["all"]["by_distance"]] in bins


def test_what_a_mask_hides_does_not_count(evaluated, refused, make_scene, weights, tmp_path):
    """Sensor depth is 10 m in the left half, which the mask hides, and 2 m in the right."""
    scene = make_scene(frames=5)
    for path in (scene / "depth").iterdir():
        cv2.imwrite(str(path), np.repeat(np.array(((10_000, 2000),), np.uint16), 24, axis=1).repeat(36, axis=0))
    mask = np.zeros((36, 48), np.uint8)
    mask[:, 24:] = 255
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    figures, _ = evaluated(scene, "--mask", tmp_path / "mask.png")
    assert [part["low"] for part in figures["all"]["by_distance"]] == [2.0]
    assert figures["mask"] == str(tmp_path / "mask.png")
    cv2.imwrite(str(tmp_path / "small.png"), mask[::2])
    for wrong, said in (("small.png", "must have the size of sensor depth, 48×36; got 48×18"), ("none", "none")):
        assert said in refused("evaluate", scene, "--weights", weights, "--mask", tmp_path / wrong)[-1]


def test_the_first_table_has_the_worst_sequence_first_and_fits_a_terminal(evaluated, make_scene):
    scenes = [make_scene(name, frames=7) for name in ("redkitchen-seq-01", "b", "c")]
    # The depth of one is all but constant, so that nothing is as bad there as the network against the constant.
    for file in (scenes[1] / "depth").iterdir():
        flat = np.full_like(cv2.imread(str(file), cv2.IMREAD_UNCHANGED), 2000)
        flat[: len(flat) // 4] = 2100
        cv2.imwrite(str(file), flat)
    figures, out = evaluated(*scenes)
    tables = out.split("published metrics")[0].split("by parallax")
    parts = sorted(figures["sequences"], key=lambda part: -part["ratio_to_constant"])
    expected = [part["name"] for part in parts]
    assert expected[0] == "b"
    for table in tables:
        rows = [line.split() for line in table.splitlines()]
        names = [row[0] for row in rows if row and row[0] in (*expected, "all")]
        parts_of_table, rest = divmod(len(names), len(expected) + 1)
        assert names == parts_of_table * [*expected, "all"] != [] and rest == 0
        assert max(len(line.rstrip()) for line in table.splitlines()) <= 120
    for column in ("constant", "ratio", "<1.25", "<1.05", "edge F1", "shown", "sure", "wrong", "flicker"):
        assert column in tables[0]
    row = next(line.split() for line in tables[0].splitlines() if line.split()[:1] == ["b"])
    assert row[4] == f"{parts[0]['ratio_to_constant']:.2f}"


def test_a_report_with_baselines_and_one_set_against_it(ran, make_scene, weights, tmp_path):
    common = ("evaluate", make_scene(frames=9), "--weights", weights, "--network", "pairnet")
    out = ran(*common, "--baselines", "--report", tmp_path / "a")
    for said in ("constant median", "plane sweep", "by distance", f"report: {tmp_path / 'a' / 'index.html'}"):
        assert said in out
    figures = json.loads((tmp_path / "a" / "figures.json").read_text())
    assert set(figures["sequences"][0]["baselines"]) == {"constant_median", "plane_sweep"}
    assert figures["sequences"][0]["timeline"][0] == ["first", 1]
    page = (tmp_path / "a" / "index.html").read_text()
    assert page.count("data:image/jpeg") == 4 * 4
    ran(*common, "--measurement-frames", 1, "--report", tmp_path / "b", "--against", tmp_path / "a")
    assert "against: tiny (pairnet)" in (tmp_path / "b" / "index.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    (
        (("--against", "somewhere"), "name its folder with --report"),
        (("--report", "r", "--against", "somewhere"), "somewhere must be the folder of an earlier --report"),
        (("--min-depth", 3, "--max-depth", 2), "--min-depth < --max-depth; got 3.0 and 2.0"),
        (("--limit", 0), "--limit must be at least 1"),
        (("--published",), "name it with --out"),
        (("--indices", "nowhere"), "nowhere must be a keyframe index file"),
        (("--max-depth", 0.1, "--min-depth", 0.05, "--report", "r"), "no sensor depth between 0.05 and 0.1 m"),
    ),
)
def test_what_cannot_be_is_one_line_and_writes_nothing(
    refused, make_scene, weights, tmp_path, monkeypatch, arguments, said
):
    monkeypatch.chdir(tmp_path)
    scene = make_scene()
    before = sorted(tmp_path.iterdir())
    assert said in refused("evaluate", scene, "--weights", weights, *arguments)[-1]
    assert sorted(tmp_path.iterdir()) == before


def test_a_scene_of_which_nothing_can_be_read_leaves_nothing_half_written(refused, make_scene, weights, tmp_path):
    scene = make_scene(frames=12)
    for path in (scene / "images").iterdir():
        path.write_bytes(path.read_bytes()[:50])
    for command, where in (("predict", ("--out", "o")), ("predict", ("--published", "--out", "p")),
                           ("evaluate", ("--report", "r", "--json", "j"))):  # fmt: skip
        places = [tmp_path / place if len(place) == 1 else place for place in where]
        assert "none of 12 images can be read" in refused(command, scene, "--weights", weights, *places)[-1]
    left = [file for place in "oprj" for file in (tmp_path / place).rglob("*") if file.is_file()]
    assert left == []


def test_a_result_bag_is_refused_where_something_lies_and_written_where_nothing_does(
    ran, refused, make_bag, weights, tmp_path
):
    bag = make_bag(frames=7)
    common = ("predict", bag, "--out", tmp_path / "o", "--weights", weights, "--pictures", 0, "--result-bag")
    assert "exists already" in refused(*common, bag)[-1] and not (tmp_path / "o").exists()
    assert f"{tmp_path / 'result'}: the frames of recording with their depth" in ran(*common, tmp_path / "result")
    assert (tmp_path / "result" / "result.mcap").exists() and (tmp_path / "result" / "metadata.yaml").exists()


def test_refined_depth_is_scored_as_such(evaluated, make_scene, tmp_path):
    scene = make_scene(frames=9)
    figures = {}
    for name, more in (("network", ()), ("refined", ("--refine",))):
        figures[name], out = evaluated(scene, "--report", tmp_path / name, *more)
        assert (", refined)" in out) == figures[name]["refined"] == (name == "refined")
    page = (tmp_path / "refined" / "index.html").read_text()
    assert "refined against the keyframes before and after" in page and "(fusionnet, refined)" in page
    assert "(fusionnet)" in (tmp_path / "network" / "index.html").read_text()
    one, other = (figures[name]["all"]["metrics"] for name in ("network", "refined"))
    assert one["abs_error"] != other["abs_error"]
    assert figures["network"]["all"]["keyframes"] == figures["refined"]["all"]["keyframes"]


def test_refined_predictions_follow_an_index_too(predicted, indices):
    (scene, _), folder = indices
    common = (scene, "--indices", folder, "--measurement-frames", 2, "--pictures", 0)
    one, other = predicted(*common), predicted(*common, "--refine")
    assert np.array_equal(one["frame_index"], other["frame_index"])
    assert one["depth"].shape == other["depth"].shape and not np.array_equal(one["depth"], other["depth"])
    assert np.array_equal(one["confidence"], other["confidence"])
    assert other["refined"].all() and not one["refined"].any()
