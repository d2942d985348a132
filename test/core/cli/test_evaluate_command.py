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
def indices(dvmvs, make_scene, tmp_path):
    """Two scenes of one data set, and a folder with an index file for 1 and for 2 measurement frames of each."""
    scenes = [make_scene(f"mine/{name}", frames=frames) for name, frames in (("office", 7), ("stairs", 9))]
    for n in (1, 2):
        assert dvmvs("keyframes", *scenes, "--published", tmp_path / "indices", "--measurement-frames", n)[0] == 0
    return scenes, tmp_path / "indices"


def loaded(path) -> np.ndarray:
    with np.load(path) as arrays:
        assert arrays.files == ["arr_0"]
        return arrays["arr_0"]


def test_the_offline_test_writes_the_published_files_of_every_index(dvmvs, indices, weights, tmp_path):
    scenes, folder = indices
    code, out, err = dvmvs(
        "predict", *scenes, "--indices", folder, "--out", tmp_path / "o", "--published", "--weights", weights,
        "--network", "fusionnet",
    )  # fmt: skip
    assert code == 0, err
    files = {f.name: loaded(f) for f in (tmp_path / "o").iterdir()}
    assert {name: array.shape for name, array in files.items()} == {
        f"keyframe_mine_96_64_{n}_dvmvs_fusionnet_{kind}_{scene}.npz": (count, *shape)
        for n in (1, 2)
        for scene, count in (("office", 3), ("stairs", 4))
        for kind, shape in (("predictions", (64, 96)), ("errors", (8,)))
    }
    assert all(np.isfinite(array).all() for array in files.values())
    assert "office.npz and" in out


def test_the_online_test_has_its_own_name_and_agrees_with_the_offline_one(dvmvs, indices, weights, tmp_path):
    (scene, _), folder = indices
    common = ("--published", "--weights", weights, "--network", "pairnet", "--out", tmp_path / "o")
    assert dvmvs("predict", scene, *common)[0] == 0
    assert dvmvs("predict", scene, *common, "--indices", folder, "--measurement-frames", 2)[0] == 0
    online, offline = (
        loaded(tmp_path / "o" / f"keyframe_mine_96_64_2_dvmvs_pairnet{suffix}_errors_office.npz")
        for suffix in ("_online", "")
    )
    assert online == pytest.approx(offline, rel=1e-4)
    assert len(list((tmp_path / "o").iterdir())) == 4


def test_without_sensor_depth_there_are_predictions_and_no_errors(dvmvs, make_scene, weights, tmp_path):
    blind = make_scene("mine/blind", depth=False, frames=7)
    assert dvmvs("predict", blind, "--out", tmp_path / "o", "--published", "--weights", weights)[0] == 0
    (file,) = (tmp_path / "o").iterdir()
    assert file.name == "keyframe_mine_96_64_2_dvmvs_fusionnet_online_predictions_blind.npz"


def test_a_lost_line_resets_what_the_network_remembers(dvmvs, make_scene, weights, tmp_path):
    scene = make_scene(frames=9)
    lines = ["00005.png 00003.png", "00007.png 00005.png", "00009.png 00007.png"]
    depths = {}
    for name, text in (("kept", lines), ("lost", [*lines[:2], "TRACKING LOST", lines[2]]), ("alone", lines[2:])):
        (tmp_path / name).write_text("\n".join(text) + "\n")
        arguments = ("--indices", tmp_path / name, "--weights", weights, "--pictures", 0)
        assert dvmvs("predict", scene, "--out", tmp_path / f"{name}_out", *arguments)[0] == 0
        with np.load(tmp_path / f"{name}_out" / "predictions.npz") as arrays:
            depths[name] = arrays["depth"][-1]
    assert np.array_equal(depths["lost"], depths["alone"])
    assert not np.array_equal(depths["kept"], depths["alone"])


@pytest.mark.parametrize("n", (1, 7))
def test_one_to_seven_measurement_frames(dvmvs, make_scene, weights, tmp_path, n):
    arguments = ("--weights", weights, "--measurement-frames", n, "--pictures", 0)
    assert dvmvs("predict", make_scene(frames=20), "--out", tmp_path / "o", *arguments)[0] == 0
    with np.load(tmp_path / "o" / "predictions.npz") as arrays:
        assert arrays["measurement_index"].shape == (9, n)
        assert (arrays["measurement_index"][-1] >= 0).all()


def test_runs_of_several_sequences_and_indices_are_rows_and_folders(dvmvs, indices, weights, tmp_path):
    scenes, folder = indices
    arguments = ("--indices", folder, "--weights", weights, "--json", tmp_path / "f.json", "--out", tmp_path / "o")
    code, out, err = dvmvs("evaluate", *scenes, *arguments)
    assert code == 0, err
    figures = json.loads((tmp_path / "f.json").read_text())
    names = ["office_keyframe_1", "office_keyframe_2", "stairs_keyframe_1", "stairs_keyframe_2"]
    assert [part["name"] for part in figures["sequences"]] == names
    assert sorted(folder.name for folder in (tmp_path / "o").iterdir()) == names
    assert figures["all"]["keyframes"] == 14
    assert all(name in out for name in names)


def test_the_published_average_is_over_all_keyframes(dvmvs, indices, weights, tmp_path):
    scenes, folder = indices
    arguments = ("--indices", folder, "--measurement-frames", 2, "--weights", weights)
    files = ("--published", "--out", tmp_path / "o", "--json", tmp_path / "f.json")
    assert dvmvs("evaluate", *scenes, *arguments, *files)[0] == 0
    errors = np.concatenate([loaded(f) for f in (tmp_path / "o").glob("*_errors_*")])
    metrics = json.loads((tmp_path / "f.json").read_text())["all"]["metrics"]
    assert np.nanmean(errors, axis=0).tolist() == pytest.approx([metrics[name] for name in NAMES[:8]])


def test_the_range_of_depth_is_an_option(dvmvs, make_scene, weights, tmp_path):
    scene = make_scene(frames=5)
    (near, far) = (
        ("--json", tmp_path / f"{name}.json", "--weights", weights, *arguments)
        for name, arguments in (("near", ("--max-depth", 1.0)), ("far", ("--min-depth", 3.0)))
    )
    for arguments in (near, far):
        assert dvmvs("evaluate", scene, *arguments)[0] == 0
    bins = {name: json.loads((tmp_path / f"{name}.json").read_text())["all"]["by_distance"] for name in ("near", "far")}
    assert [(part["low"], part["high"]) for part in bins["near"]] in ([(0.5, 1.0)], [(0.5, 1.0), (1.0, 1.5)])
    assert [(part["low"], part["high"]) for part in bins["far"]] in ([(3.0, 4.0)], [(3.0, 4.0), (4.0, 5.0)])


def test_what_a_mask_hides_does_not_count(dvmvs, make_scene, weights, tmp_path):
    """Sensor depth is 10 m in the left half, which the mask hides, and 2 m in the right."""
    scene = make_scene(frames=5)
    for path in (scene / "depth").iterdir():
        cv2.imwrite(str(path), np.repeat(np.array(((10_000, 2000),), np.uint16), 24, axis=1).repeat(36, axis=0))
    mask = np.zeros((36, 48), np.uint8)
    mask[:, 24:] = 255
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    figures_file = tmp_path / "figures.json"
    arguments = ("evaluate", scene, "--weights", weights, "--json", figures_file, "--mask")
    code, _, err = dvmvs(*arguments, tmp_path / "mask.png")
    assert code == 0, err
    figures = json.loads(figures_file.read_text())
    assert [part["low"] for part in figures["all"]["by_distance"]] == [2.0]
    assert figures["mask"] == str(tmp_path / "mask.png")
    cv2.imwrite(str(tmp_path / "small.png"), mask[::2])
    for wrong, said in (("small.png", "must have the size of sensor depth, 48×36; got 48×18"), ("none", "none")):
        code, _, err = dvmvs(*arguments, tmp_path / wrong)
        assert code == 1
        assert said in err.splitlines()[-1]


def test_the_first_table_has_the_worst_sequence_first_and_fits_a_terminal(dvmvs, make_scene, weights, tmp_path):
    scenes = [make_scene(name, frames=7) for name in ("redkitchen-seq-01", "b", "c")]
    # The depth of one is all but constant, so that nothing is as bad there as the network against the constant.
    for file in (scenes[1] / "depth").iterdir():
        flat = np.full_like(cv2.imread(str(file), cv2.IMREAD_UNCHANGED), 2000)
        flat[: len(flat) // 4] = 2100
        cv2.imwrite(str(file), flat)
    code, out, err = dvmvs("evaluate", *scenes, "--weights", weights, "--json", tmp_path / "figures.json")
    assert code == 0, err
    tables = out.split("published metrics")[0].split("by parallax")
    parts = json.loads((tmp_path / "figures.json").read_text())["sequences"]
    expected = [part["name"] for part in sorted(parts, key=lambda part: -part["ratio_to_constant"])]
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
    (part,) = [part for part in parts if part["name"] == "b"]
    assert row[4] == f"{part['ratio_to_constant']:.2f}"


def test_a_report_with_baselines_and_one_set_against_it(dvmvs, make_scene, weights, tmp_path):
    scene = make_scene(frames=9)
    common = (scene, "--weights", weights, "--network", "pairnet")
    code, out, err = dvmvs("evaluate", *common, "--baselines", "--report", tmp_path / "a")
    assert code == 0, err
    for said in ("constant median", "plane sweep", "by distance", f"report: {tmp_path / 'a' / 'index.html'}"):
        assert said in out
    figures = json.loads((tmp_path / "a" / "figures.json").read_text())
    assert set(figures["sequences"][0]["baselines"]) == {"constant_median", "plane_sweep"}
    assert figures["sequences"][0]["timeline"][0] == ["first", 1]
    page = (tmp_path / "a" / "index.html").read_text()
    assert page.count("data:image/jpeg") == 4 * 4
    other = ("--measurement-frames", 1, "--report", tmp_path / "b", "--against", tmp_path / "a")
    code, _, err = dvmvs("evaluate", *common, *other)
    assert code == 0, err
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
    dvmvs, make_scene, weights, tmp_path, monkeypatch, arguments, said
):
    monkeypatch.chdir(tmp_path)
    scene = make_scene()
    before = sorted(tmp_path.iterdir())
    code, _, err = dvmvs("evaluate", scene, "--weights", weights, *arguments)
    assert code == 1
    assert said in err.splitlines()[-1]
    assert "Traceback" not in err
    assert sorted(tmp_path.iterdir()) == before


def test_a_scene_of_which_nothing_can_be_read_leaves_nothing_half_written(dvmvs, make_scene, weights, tmp_path):
    scene = make_scene(frames=12)
    for path in (scene / "images").iterdir():
        path.write_bytes(path.read_bytes()[:50])
    for command, where in (("predict", ("--out", "o")), ("predict", ("--published", "--out", "p")),
                           ("evaluate", ("--report", "r", "--json", "j"))):  # fmt: skip
        places = [tmp_path / place if len(place) == 1 else place for place in where]
        code, _, err = dvmvs(command, scene, "--weights", weights, *places)
        assert code == 1
        assert "none of 12 images can be read" in err.splitlines()[-1]
    left = [file for place in "oprj" for file in (tmp_path / place).rglob("*") if file.is_file()]
    assert left == []


def test_pictures_of_a_prediction_are_pictures(dvmvs, make_scene, weights, tmp_path):
    arguments = ("--out", tmp_path / "o", "--weights", weights, "--pictures", 1)
    assert dvmvs("predict", make_scene(frames=5), *arguments)[0] == 0
    pictures = sorted((tmp_path / "o" / "pictures").iterdir())
    assert [picture.name for picture in pictures] == ["00002.png", "00004.png"]
    assert cv2.imread(str(pictures[0])).shape[1] == 5 * 96 + 4 * 4


TIMES = ("latency_ms", "latencies_ms", "made")


def without_times(part):
    if isinstance(part, dict):
        return {key: without_times(value) for key, value in part.items() if key not in TIMES}
    return [without_times(value) for value in part] if isinstance(part, list) else part


def test_twice_the_same_command_is_byte_for_byte_the_same_but_for_the_timings(dvmvs, make_bag, weights, tmp_path):
    bag, texts = make_bag(frames=9), []
    for _ in range(2):
        assert dvmvs("evaluate", bag, "--weights", weights, "--json", tmp_path / "figures.json")[0] == 0
        texts.append(json.dumps(without_times(json.loads((tmp_path / "figures.json").read_text()))))
    assert texts[0] == texts[1]
    assert "abs_relative_error" in texts[0]


def test_a_cut_bag_is_scored_as_far_as_it_goes_and_says_so(dvmvs, make_bag, weights, tmp_path):
    bag = make_bag(frames=60)
    (file,) = bag.glob("*.mcap")
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 6 // 10])
    code, out, err = dvmvs("evaluate", bag, "--weights", weights, "--json", tmp_path / "figures.json")
    assert code == 0
    assert "could still be read" in err and "1 part of it left out" in out and "Traceback" not in err
    (part,) = json.loads((tmp_path / "figures.json").read_text())["sequences"]
    assert "could still be read" in part["faults"][file.name]
    assert 0 < part["keyframes"] < 30


def test_a_result_bag_is_refused_where_something_lies_and_written_where_nothing_does(
    dvmvs, make_bag, weights, tmp_path
):
    bag, common = make_bag(frames=7), ("--weights", weights, "--pictures", "0")
    code, _, err = dvmvs("predict", bag, "--out", tmp_path / "o", *common, "--result-bag", bag)
    assert code == 1 and "exists already" in err and not (tmp_path / "o").exists()
    code, out, err = dvmvs("predict", bag, "--out", tmp_path / "o", *common, "--result-bag", tmp_path / "result")
    assert code == 0, err
    assert f"{tmp_path / 'result'}: the frames of recording with their depth" in out
    assert (tmp_path / "result" / "result.mcap").exists() and (tmp_path / "result" / "metadata.yaml").exists()


def test_refined_depth_is_scored_as_such(dvmvs, make_scene, weights, tmp_path):
    scene = make_scene(frames=9)
    figures = {}
    for name, more in (("network", ()), ("refined", ("--refine",))):
        code, out, err = dvmvs(
            "evaluate", scene, "--weights", weights, "--json", tmp_path / "figures.json", "--report", tmp_path / name,
            *more,
        )  # fmt: skip
        assert code == 0, err
        assert (", refined)" in out) == (name == "refined")
        figures[name] = json.loads((tmp_path / "figures.json").read_text())
        assert figures[name]["refined"] == (name == "refined")
    page = (tmp_path / "refined" / "index.html").read_text()
    assert "refined against the keyframes before and after" in page and "(fusionnet, refined)" in page
    assert "(fusionnet)" in (tmp_path / "network" / "index.html").read_text()
    one, other = (figures[name]["all"]["metrics"] for name in ("network", "refined"))
    assert one["abs_error"] != other["abs_error"]
    assert figures["network"]["all"]["keyframes"] == figures["refined"]["all"]["keyframes"]


def test_refined_predictions_follow_an_index_too(dvmvs, indices, weights, tmp_path):
    scenes, folder = indices
    for name, more in (("network", ()), ("refined", ("--refine",))):
        code, _, err = dvmvs(
            "predict", scenes[0], "--indices", folder, "--measurement-frames", 2, "--out", tmp_path / name,
            "--weights", weights, "--pictures", 0, *more,
        )  # fmt: skip
        assert code == 0, err
    with (
        np.load(tmp_path / "network" / "predictions.npz") as one,
        np.load(tmp_path / "refined" / "predictions.npz") as other,
    ):
        assert np.array_equal(one["frame_index"], other["frame_index"])
        assert one["depth"].shape == other["depth"].shape and not np.array_equal(one["depth"], other["depth"])
        assert np.array_equal(one["confidence"], other["confidence"])
        assert other["refined"].all() and not one["refined"].any()
