# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Each command on small data, from its arguments to its files."""

from __future__ import annotations

import json
import sys

import cv2
import numpy as np
import pytest
import torch

from dvmvs_core.confidence import CUES, load_coefficients
from dvmvs_core.config import preset
from dvmvs_core.evaluation.scoring import calibration
from dvmvs_core.evaluation.scoring.metrics import NAMES
from dvmvs_core.matching.matched_confidence import CUES as MATCHING_CUES
from dvmvs_core.model.checkpoint import load_network, save_checkpoint
from dvmvs_core.model.dvmvs import build_network


def test_keyframes_prints_or_writes_the_index(dvmvs, ran, make_scene, tmp_path):
    scene = make_scene(frames=7)
    index = "00005.png 00003.png\n00007.png 00005.png 00003.png\n00009.png 00007.png 00005.png\n"
    assert dvmvs("keyframes", scene) == (0, index, "")
    said = ran("keyframes", scene, "--measurement-frames", 1, "--out", tmp_path / "new" / "index")
    assert (tmp_path / "new" / "index").read_text().splitlines()[1] == "00007.png 00005.png"
    assert "3 keyframes with measurement frames, of 7 frames" in said


@pytest.mark.parametrize("storage", ("mcap", "sqlite3"))
def test_bag_writes_a_bag_that_gives_the_same_depth_as_the_folder(
    ran, refused, predicted, make_scene, tmp_path, storage
):
    scene = make_scene(frames=9)
    assert f"9 frames as {storage}" in ran("bag", scene, tmp_path / "bag", "--storage", storage)
    ours, theirs = predicted(tmp_path / "bag"), predicted(scene)
    assert ours["frame_index"].tolist() == theirs["frame_index"].tolist() == [2, 4, 6, 8]
    assert np.isfinite(ours["depth"]).all()
    assert ours["depth"] == pytest.approx(theirs["depth"], rel=1e-5)
    said = refused("bag", scene, tmp_path / "bag")[-1]
    assert said.startswith(f"dvmvs bag: {tmp_path / 'bag'} exists already")


def test_predict_by_its_own_index_file_predicts_the_same(ran, predicted, make_scene, tmp_path):
    scene, common = make_scene(frames=9), ("--pictures", 0, "--device", "cpu")
    ran("keyframes", scene, "--out", tmp_path / "index")
    a, b = predicted(scene, *common), predicted(scene, "--indices", tmp_path / "index", *common)
    assert np.array_equal(a["measurement_index"], b["measurement_index"])
    assert a["depth"] == pytest.approx(b["depth"], rel=1e-5)
    assert not (tmp_path / "o" / "pictures").exists()


def test_predict_takes_limit_network_and_measurement_frames_and_draws_pictures(ran, make_scene, weights, tmp_path):
    out = ran(
        "predict", make_scene(frames=9), "--out", tmp_path / "o", "--weights", weights, "--network", "pairnet",
        "--limit", 3, "--measurement-frames", 1, "--pictures", 2,
    )  # fmt: skip
    assert "3 keyframes" in out
    with np.load(tmp_path / "o" / "predictions.npz") as arrays:
        assert arrays["measurement_index"].tolist() == [[0], [2], [4]]
    pictures = sorted((tmp_path / "o" / "pictures").iterdir())
    assert [picture.name for picture in pictures] == ["00002.png", "00006.png"]
    assert cv2.imread(str(pictures[0])).shape[1] == 5 * 96 + 4 * 4


def test_evaluate_scores_several_sequences(evaluated, make_scene, make_bag, tmp_path):
    scene, bag = make_scene("first", frames=5), make_bag(name="second", frames=7)
    figures, out = evaluated(scene, bag, "--out", tmp_path / "o")
    for word in ("first", "second", "all", "abs rel", "rmse", "tiny.safetensors"):
        assert word in out
    assert [(part["name"], part["keyframes"]) for part in figures["sequences"]] == [("first", 2), ("second", 3)]
    assert set(figures["all"]["metrics"]) == set(NAMES)
    assert figures["all"]["keyframes"] == 5
    assert (figures["preset"], figures["device"]) == ("small", "cpu")
    assert figures["latency_ms"]["median"] > 0
    assert (tmp_path / "o" / "second" / "predictions.npz").exists()


def test_evaluate_refuses_before_it_predicts(refused, make_scene, weights, tmp_path):
    blind, other, index = make_scene("blind", depth=False), make_scene("other"), tmp_path / "index"
    index.write_text("a.png b.png\n")
    for arguments, said in (
        ((blind, "--weights", weights), "no sensor depth"),
        ((), "name at least one"),
        ((blind, other, "--indices", index), "cannot be told to belong to one of 2"),
    ):
        (line,) = refused("evaluate", *arguments)
        assert said in line


def test_a_bag_with_a_cut_off_end_is_used_as_far_as_it_goes_and_says_so(dvmvs, make_bag, weights, tmp_path):
    bag = make_bag(frames=60)
    file = bag / "recording.mcap"
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 6 // 10])
    for command, option, place in (("predict", "--out", "o"), ("evaluate", "--json", "j")):
        code, out, err = dvmvs(command, bag, "--weights", weights, option, tmp_path / place)
        assert code == 0 and "Traceback" not in err
        assert "could still be read" in err and "1 part of it left out" in out
    with np.load(tmp_path / "o" / "predictions.npz") as arrays:
        assert 5 < len(arrays["depth"]) < 30
    (part,) = json.loads((tmp_path / "j").read_text())["sequences"]
    assert "could still be read" in part["faults"][file.name]
    assert 0 < part["keyframes"] < 30


@pytest.mark.parametrize(
    ("arguments", "said"),
    (
        (("--weights", "nonsense"), "nonsense"),
        (("--device", "abacus"), "abacus"),
        (("--measurement-frames", 0), "measurement_frames must lie between"),
    ),
)
def test_a_wrong_engine_option_is_one_line(refused, make_scene, weights, tmp_path, arguments, said):
    arguments = arguments if "--weights" in arguments else (*arguments, "--weights", weights)
    (line,) = refused("predict", make_scene(), "--out", tmp_path / "out", *arguments)
    assert said in line


def test_topics_and_frames_of_a_bag_can_be_named(ran, refused, make_bag):
    bag = make_bag(frames=5)
    ran("keyframes", bag, "--image-topic", "/camera/image_rect", "--world-frame", "odom")
    said = refused("keyframes", bag, "--world-frame", "map")[-1]
    assert "no frame 'map'; it has base_link, camera_optical_frame, odom" in said


def test_weights_go_out_to_the_released_layout_and_come_back(ran, refused, tmp_path):
    torch.manual_seed(0)
    network = build_network(preset("paper", network="pairnet"))
    save_checkpoint(tmp_path / "a.safetensors", {"pairnet": network}, {}, half=False)
    export = ("weights", "export", tmp_path / "a.safetensors", tmp_path / "released")
    ran(*export)
    assert sorted(f.name for f in (tmp_path / "released").iterdir()) == [
        "0_feature_extractor", "1_feature_pyramid", "2_encoder", "3_decoder",
    ]  # fmt: skip
    (tmp_path / "released" / "notes.txt").write_text("a stray file")
    ran("weights", "import", tmp_path / "released", tmp_path / "b.safetensors")
    there = network.state_dict()
    back = load_network(tmp_path / "b.safetensors")[0].state_dict()
    assert there.keys() == back.keys()
    assert all(torch.equal(there[key], back[key]) for key in there)
    assert "exists already" in refused(*export)[-1]


@pytest.mark.parametrize("network", ["fusionnet", "pairnet"])
def test_weights_go_out_as_onnx(ran, weights, tmp_path, network):
    pytest.importorskip("onnx", reason="onnx is not installed: pip install onnx")
    out = ran("weights", "export", weights, "--format", "onnx", "--network", network, tmp_path / "out")
    told = json.loads((tmp_path / "out" / "network.json").read_text())
    assert told["config"]["network"] == network and ("state" in told) == (network == "fusionnet")
    files = [part["file"] for part in (told["parts"] | told["matching"]["parts"]).values()]
    assert sorted((*files, "network.json")) == sorted(file.name for file in (tmp_path / "out").iterdir())
    assert all(file in out for file in files)


def test_without_onnx_export_says_what_to_install(refused, weights, tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "dvmvs_core.runtime.onnx_export", raising=False)
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert "pip install onnx" in refused("weights", "export", weights, "--format", "onnx", tmp_path / "out")[-1]
    assert not (tmp_path / "out").exists()


def test_weights_are_listed_and_described(ran, refused, weights):
    out = ran("weights", "info", weights)
    for word in ("fusionnet", "pairnet", "preset small", "96×64", "made_by", "a test"):
        assert word in out
    described = json.loads(ran("weights", "info", weights, "--json"))
    assert described["metadata"]["made_by"] == "a test" and described["licence"] is None
    assert described["networks"]["pairnet"]["height"] == 64 and described["size_bytes"] == weights.stat().st_size
    out = ran("weights", "list")
    assert "small" in out and "Apache-2.0" in out
    (small,) = json.loads(ran("weights", "list", "--json"))
    assert small["licence"] == "Apache-2.0" and small["card"].endswith("small.md")
    out = ran("weights", "info", "small")
    held_out = small["metadata"]["validation"]["l1-rel"]
    for said in ("licence       Apache-2.0", f"absolute relative error {held_out:.3f}", "started from  small"):
        assert said in out
    assert len(refused("weights", "info", "nonsense")) == 1


def test_weights_have_a_mean(ran, refused, weights, tmp_path):
    assert "mean_of" in ran("weights", "average", weights, weights, "--out", tmp_path / "new" / "mean.safetensors")
    (line,) = refused("weights", "average", weights, "--out", tmp_path / "alone.safetensors")
    assert "at least 2 checkpoints; got 1" in line and not (tmp_path / "alone.safetensors").exists()


@pytest.fixture
def untrained(weights, tmp_path):
    """A tiny PairNet that sees everything about half-way, which in its short range is right here and there."""
    config = load_network(weights, "pairnet")[1].replace(min_depth_m=1.0, max_depth_m=6.0)
    torch.manual_seed(0)
    save_checkpoint(tmp_path / "pair.safetensors", {"pairnet": build_network(config)}, {"made_by": "a test"})
    return tmp_path / "pair.safetensors"


@pytest.mark.parametrize(("matching", "cues"), [("off", CUES), ("fast", MATCHING_CUES)])
def test_calibration_on_worlds_gives_a_file_that_confidence_reads(
    ran, untrained, tmp_path, monkeypatch, matching, cues
):
    monkeypatch.setattr(calibration, "TEXTURES", 16)
    out = tmp_path / "new" / "confidence.json"
    said = ran("weights", "calibrate", "--weights", untrained, "--clips", 4, "--out", out, "--matching", matching)
    assert f"coefficients: {out}" in said and "of the most confident half" in said
    coefficients = load_coefficients(out, cues)
    assert len(coefficients.weights) == len(cues)
    stored = json.loads(out.read_text())
    assert stored["keyframes"] >= 3 * 5
    assert len(stored["weights_sha256"]) == 16
    assert "command" in stored


def test_too_few_worlds_are_refused(refused, untrained):
    said = refused("weights", "calibrate", "--weights", untrained, "--clips", 3)[-1]
    assert said == "dvmvs weights: calibration needs at least 4 clips; got 3"
