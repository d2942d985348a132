# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

from __future__ import annotations

import json

import pytest
import torch

from dvmvs_core.confidence import CUES, load_coefficients
from dvmvs_core.config import preset
from dvmvs_core.evaluation.scoring import calibration
from dvmvs_core.matching.matched_confidence import CUES as MATCHING_CUES
from dvmvs_core.model.checkpoint import save_checkpoint
from dvmvs_core.model.dvmvs import build_network


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
