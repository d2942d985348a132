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

import numpy as np
import pytest
import torch

from dvmvs_core.confidence import CUES, load_coefficients
from dvmvs_core.config import preset
from dvmvs_core.evaluation.scoring import calibration
from dvmvs_core.evaluation.scoring.metrics import NAMES
from dvmvs_core.matching.matched_confidence import CUES as MATCHING_CUES
from dvmvs_core.model.checkpoint import save_checkpoint
from dvmvs_core.model.dvmvs import build_network


def predictions(folder) -> dict[str, np.ndarray]:
    with np.load(folder / "predictions.npz") as arrays:
        return dict(arrays)


def test_keyframes_prints_or_writes_the_index(dvmvs, make_scene, tmp_path):
    scene = make_scene(frames=7)
    code, out, err = dvmvs("keyframes", scene)
    assert (code, err) == (0, "")
    assert out == "00005.png 00003.png\n00007.png 00005.png 00003.png\n00009.png 00007.png 00005.png\n"
    code, said, _ = dvmvs("keyframes", scene, "--measurement-frames", 1, "--out", tmp_path / "new" / "index")
    assert (tmp_path / "new" / "index").read_text().splitlines()[1] == "00007.png 00005.png"
    assert "3 keyframes with measurement frames, of 7 frames" in said


@pytest.mark.parametrize("storage", ("mcap", "sqlite3"))
def test_bag_writes_a_bag_that_gives_the_same_depth_as_the_folder(dvmvs, make_scene, weights, tmp_path, storage):
    scene = make_scene(frames=9)
    code, out, _ = dvmvs("bag", scene, tmp_path / "bag", "--storage", storage)
    assert code == 0
    assert f"9 frames as {storage}" in out
    for sequence in (scene, tmp_path / "bag"):
        code, _, err = dvmvs("predict", sequence, "--out", tmp_path / f"{sequence.name}_out", "--weights", weights)
        assert code == 0, err
    ours, theirs = predictions(tmp_path / "bag_out"), predictions(tmp_path / "scene_out")
    assert ours["frame_index"].tolist() == theirs["frame_index"].tolist() == [2, 4, 6, 8]
    assert np.isfinite(ours["depth"]).all()
    assert ours["depth"] == pytest.approx(theirs["depth"], rel=1e-5)
    code, _, err = dvmvs("bag", scene, tmp_path / "bag")
    assert code == 1
    assert err.splitlines()[-1].startswith(f"dvmvs bag: {tmp_path / 'bag'} exists already")


def test_predict_by_its_own_index_file_predicts_the_same(dvmvs, make_scene, weights, tmp_path):
    scene = make_scene(frames=9)
    common = ("--weights", weights, "--pictures", 0, "--device", "cpu")
    assert dvmvs("keyframes", scene, "--out", tmp_path / "index")[0] == 0
    assert dvmvs("predict", scene, "--out", tmp_path / "a", *common)[0] == 0
    assert dvmvs("predict", scene, "--out", tmp_path / "b", "--indices", tmp_path / "index", *common)[0] == 0
    a, b = predictions(tmp_path / "a"), predictions(tmp_path / "b")
    assert np.array_equal(a["measurement_index"], b["measurement_index"])
    assert a["depth"] == pytest.approx(b["depth"], rel=1e-5)
    assert not (tmp_path / "a" / "pictures").exists()


def test_predict_takes_limit_network_and_measurement_frames(dvmvs, make_scene, weights, tmp_path):
    code, out, _ = dvmvs(
        "predict", make_scene(frames=9), "--out", tmp_path / "out", "--weights", weights, "--network", "pairnet",
        "--limit", 3, "--measurement-frames", 1, "--pictures", 2,
    )  # fmt: skip
    assert code == 0
    assert "3 keyframes" in out
    assert predictions(tmp_path / "out")["measurement_index"].tolist() == [[0], [2], [4]]
    assert [picture.name for picture in sorted((tmp_path / "out/pictures").iterdir())] == ["00002.png", "00006.png"]


def test_evaluate_scores_several_sequences(dvmvs, make_scene, make_bag, weights, tmp_path):
    scene, bag = make_scene("first", frames=5), make_bag(name="second", frames=7)
    figures_file = tmp_path / "figures.json"
    outputs = ("--json", figures_file, "--out", tmp_path / "o")
    code, out, err = dvmvs("evaluate", scene, bag, "--weights", weights, *outputs)
    assert code == 0, err
    for word in ("first", "second", "all", "abs rel", "rmse", "tiny.safetensors"):
        assert word in out
    figures = json.loads(figures_file.read_text())
    assert [(part["name"], part["keyframes"]) for part in figures["sequences"]] == [("first", 2), ("second", 3)]
    assert set(figures["all"]["metrics"]) == set(NAMES)
    assert figures["all"]["keyframes"] == 5
    assert (figures["preset"], figures["device"]) == ("small", "cpu")
    assert figures["latency_ms"]["median"] > 0
    assert (tmp_path / "o" / "second" / "predictions.npz").exists()


def test_evaluate_refuses_before_it_predicts(dvmvs, make_scene, weights, tmp_path):
    blind = make_scene("blind", depth=False)
    code, _, err = dvmvs("evaluate", blind, "--weights", weights)
    assert (code, err.count("\n")) == (1, 1)
    assert "no sensor depth" in err
    assert "name at least one" in dvmvs("evaluate")[2]
    index = tmp_path / "index"
    index.write_text("a.png b.png\n")
    other = make_scene("other")
    assert "cannot be told to belong to one of 2" in dvmvs("evaluate", blind, other, "--indices", index)[2]


def test_a_bag_with_a_cut_off_end_is_predicted_as_far_as_it_goes_and_says_so(dvmvs, make_bag, weights, tmp_path):
    bag = make_bag(frames=40)
    file = bag / "recording.mcap"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    code, _, err = dvmvs("predict", bag, "--out", tmp_path / "out", "--weights", weights)
    assert code == 0
    assert "could still be read" in err
    assert len(predictions(tmp_path / "out")["depth"]) > 5


@pytest.mark.parametrize(
    ("arguments", "said"),
    (
        (("--weights", "nonsense"), "nonsense"),
        (("--device", "abacus"), "abacus"),
        (("--measurement-frames", 0), "measurement_frames must lie between"),
    ),
)
def test_a_wrong_engine_option_is_one_line(dvmvs, make_scene, weights, tmp_path, arguments, said):
    arguments = arguments if "--weights" in arguments else (*arguments, "--weights", weights)
    code, _, err = dvmvs("predict", make_scene(), "--out", tmp_path / "out", *arguments)
    assert (code, err.count("\n")) == (1, 1)
    assert said in err


def test_topics_and_frames_of_a_bag_can_be_named(dvmvs, make_bag):
    bag = make_bag(frames=5)
    assert dvmvs("keyframes", bag, "--image-topic", "/camera/image_rect", "--world-frame", "odom")[0] == 0
    _, _, err = dvmvs("keyframes", bag, "--world-frame", "map")
    assert "no frame 'map'; it has base_link, camera_optical_frame, odom" in err


def test_weights_go_out_to_the_released_layout_and_come_back(dvmvs, tmp_path):
    import torch

    from dvmvs_core.config import preset
    from dvmvs_core.model.checkpoint import load_network, save_checkpoint
    from dvmvs_core.model.dvmvs import build_network

    torch.manual_seed(0)
    network = build_network(preset("paper", network="pairnet"))
    save_checkpoint(tmp_path / "a.safetensors", {"pairnet": network}, {}, half=False)
    code, out, err = dvmvs("weights", "export", tmp_path / "a.safetensors", tmp_path / "released")
    assert code == 0, err
    assert sorted(f.name for f in (tmp_path / "released").iterdir()) == [
        "0_feature_extractor", "1_feature_pyramid", "2_encoder", "3_decoder",
    ]  # fmt: skip
    (tmp_path / "released" / "notes.txt").write_text("a stray file")
    assert dvmvs("weights", "import", tmp_path / "released", tmp_path / "b.safetensors")[0] == 0
    there = network.state_dict()
    back = load_network(tmp_path / "b.safetensors")[0].state_dict()
    assert there.keys() == back.keys()
    assert all(torch.equal(there[key], back[key]) for key in there)
    assert "exists already" in dvmvs("weights", "export", tmp_path / "a.safetensors", tmp_path / "released")[2]


@pytest.mark.parametrize("network", ["fusionnet", "pairnet"])
def test_weights_go_out_as_onnx(dvmvs, weights, tmp_path, network):
    pytest.importorskip("onnx", reason="onnx is not installed: pip install onnx")
    code, out, err = dvmvs("weights", "export", weights, "--format", "onnx", "--network", network, tmp_path / "out")
    assert code == 0, err
    told = json.loads((tmp_path / "out" / "network.json").read_text())
    assert told["config"]["network"] == network and ("state" in told) == (network == "fusionnet")
    files = [part["file"] for part in (told["parts"] | told["matching"]["parts"]).values()]
    assert sorted((*files, "network.json")) == sorted(file.name for file in (tmp_path / "out").iterdir())
    assert all(file in out for file in files)


def test_without_onnx_export_says_what_to_install(dvmvs, weights, tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "dvmvs_core.runtime.onnx_export", raising=False)
    monkeypatch.setitem(sys.modules, "onnx", None)
    code, _, err = dvmvs("weights", "export", weights, "--format", "onnx", tmp_path / "out")
    assert code == 1 and "pip install onnx" in err and "Traceback" not in err
    assert not (tmp_path / "out").exists()


def test_weights_are_listed_and_described(dvmvs, weights):
    code, out, _ = dvmvs("weights", "info", weights)
    assert code == 0
    for word in ("fusionnet", "pairnet", "preset small", "96×64", "made_by", "a test"):
        assert word in out
    described = json.loads(dvmvs("weights", "info", weights, "--json")[1])
    assert described["metadata"]["made_by"] == "a test" and described["licence"] is None
    assert described["networks"]["pairnet"]["height"] == 64 and described["size_bytes"] == weights.stat().st_size
    code, out, _ = dvmvs("weights", "list")
    assert code == 0 and "small" in out and "Apache-2.0" in out
    (small,) = json.loads(dvmvs("weights", "list", "--json")[1])
    assert small["licence"] == "Apache-2.0" and small["card"].endswith("small.md")
    out = dvmvs("weights", "info", "small")[1]
    held_out = small["metadata"]["validation"]["l1-rel"]
    for said in ("licence       Apache-2.0", f"absolute relative error {held_out:.3f}", "started from  small"):
        assert said in out
    code, _, err = dvmvs("weights", "info", "nonsense")
    assert (code, err.count("\n")) == (1, 1)


def test_weights_have_a_mean(dvmvs, weights, tmp_path):
    code, out, err = dvmvs("weights", "average", weights, weights, "--out", tmp_path / "new" / "mean.safetensors")
    assert code == 0, err
    assert "mean_of" in out
    code, _, err = dvmvs("weights", "average", weights, "--out", tmp_path / "alone.safetensors")
    assert (code, err.count("\n")) == (1, 1)
    assert "at least 2 checkpoints; got 1" in err and not (tmp_path / "alone.safetensors").exists()


@pytest.fixture
def untrained(tmp_path):
    """A tiny PairNet that sees everything about half-way, which in its short range is right here and there."""
    torch.manual_seed(0)
    sizes = {"extractor_stem": 4, "extractor_channels": (4, 4, 4, 8, 8), "pyramid_channels": 4, "hyper_channels": 4}
    reach = {"min_depth_m": 1.0, "max_depth_m": 6.0, "depth_hypotheses": 8}
    config = preset("small", network="pairnet", height=64, width=96, **sizes, **reach)
    save_checkpoint(tmp_path / "pair.safetensors", {"pairnet": build_network(config)}, {"made_by": "a test"})
    return tmp_path / "pair.safetensors"


@pytest.mark.parametrize(("matching", "cues"), [("off", CUES), ("fast", MATCHING_CUES)])
def test_calibration_on_worlds_gives_a_file_that_confidence_reads(
    dvmvs, untrained, tmp_path, monkeypatch, matching, cues
):
    monkeypatch.setattr(calibration, "TEXTURES", 16)
    out = tmp_path / "new" / "confidence.json"
    code, said, err = dvmvs(
        "weights", "calibrate", "--weights", untrained, "--clips", 4, "--out", out, "--matching", matching
    )
    assert code == 0, err
    assert f"coefficients: {out}" in said
    assert "of the most confident half" in said
    coefficients = load_coefficients(out, cues)
    assert len(coefficients.weights) == len(cues)
    stored = json.loads(out.read_text())
    assert stored["keyframes"] >= 3 * 5
    assert len(stored["weights_sha256"]) == 16
    assert "command" in stored


def test_too_few_worlds_are_refused(dvmvs, untrained):
    code, _, err = dvmvs("weights", "calibrate", "--weights", untrained, "--clips", 3)
    assert code == 1
    assert err.splitlines()[-1] == "dvmvs weights: calibration needs at least 4 clips; got 3"
