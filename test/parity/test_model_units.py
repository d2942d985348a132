# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Single functions equal those of the public implementation, and the tensors of the networks have its names."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from dvmvs_core.config import preset
from dvmvs_core.model.convlstm import ConvLSTMCell, LSTMState
from dvmvs_core.model.cost_volume import cost_volume, inverse_depth_planes
from dvmvs_core.model.dvmvs import build_network
from dvmvs_core.model.hidden_state import reproject_depth, warp_hidden_state

# The largest cost is 1.0; sampling a random map amplifies the rounding of the homography.
COST_TOLERANCE = 5e-5
STATE_TOLERANCE = 5e-6


@pytest.fixture(scope="module")
def units(reference):
    stored = np.load(reference / "goldens" / "units.npz")
    return {k: torch.from_numpy(stored[k]) for k in stored.files if k[:2] in ("cv", "rp", "ls")}


def test_cost_volume(units):
    costs = cost_volume(
        units["cv_f1"],
        [units["cv_f2"], units["cv_f3"]],
        units["cv_P1"],
        [units["cv_P2"], units["cv_P3"]],
        units["cv_K"] * torch.tensor([2.0, 2.0, 1.0])[:, None],  # the file holds K at half resolution
        inverse_depth_planes(0.25, 20.0, 64),
    )
    torch.testing.assert_close(costs, units["cv_dot"], atol=COST_TOLERANCE, rtol=0)


def test_reprojected_depth(units):
    reprojected = reproject_depth(units["rp_depth"], units["cv_P2"], units["cv_P1"], units["rp_fullK"])
    torch.testing.assert_close(reprojected, units["rp_out"], atol=1e-6, rtol=0)


@pytest.fixture(scope="module")
def cell(units):
    cell = ConvLSTMCell(8, 8)
    cell.load_state_dict({"conv.weight": units["ls_w"]})
    return cell.requires_grad_(False)


def test_lstm_without_warp(units, cell):
    state = cell(units["ls_x"], LSTMState(units["ls_h"], units["ls_c"]))
    torch.testing.assert_close(state.hidden, units["ls_h0"], atol=STATE_TOLERANCE, rtol=0)
    torch.testing.assert_close(state.cell, units["ls_c0"], atol=STATE_TOLERANCE, rtol=0)


def test_lstm_with_warp(units, cell):
    depth = units["ls_depth"]
    warped = warp_hidden_state(units["ls_h"], depth, units["cv_P2"], units["cv_P1"], units["ls_K"])
    known = (depth > 0.01).expand_as(warped)
    assert not known.all()
    # The file holds the warped state before its unknown cells are zeroed.
    torch.testing.assert_close(warped[known], units["ls_hwarped"][known], atol=STATE_TOLERANCE, rtol=0)
    assert (warped[~known] == 0).all()
    state = cell(units["ls_x"], LSTMState(warped, units["ls_c"]))
    torch.testing.assert_close(state.hidden, units["ls_h1"], atol=STATE_TOLERANCE, rtol=0)
    torch.testing.assert_close(state.cell, units["ls_c1"], atol=STATE_TOLERANCE, rtol=0)


@pytest.mark.parametrize("network", ["fusionnet", "pairnet"])
def test_state_dictionaries(reference, network):
    files = json.loads((reference / "state_dict_keys.json").read_text())[network]
    with torch.device("meta"):
        built = build_network(preset("paper", network=network))
    assert sorted(name for name, _ in built.named_children()) == sorted(name[2:] for name in files)
    for name, expected in files.items():
        state = getattr(built, name[2:]).state_dict()
        found = {k: {"shape": list(t.shape), "dtype": str(t.dtype).removeprefix("torch.")} for k, t in state.items()}
        assert found == expected
        assert list(found) == list(expected)
