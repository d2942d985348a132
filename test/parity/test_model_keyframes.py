# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Every intermediate result and every depth map of both networks equal the public implementation's.

Ten keyframes of a real sequence, with stand-in weights. Tolerances are those of the reference notes: threads and
convolution kernels move the depth by 2e-5 in the mean and 2.3e-4 at most, the smallest structural mistake moves the
mean by 5e-3.
"""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import torch

from dvmvs_core.config import preset
from dvmvs_core.model.convlstm import ConvLSTMCell, LSTMState
from dvmvs_core.model.cost_volume import cost_volume, inverse_depth_planes
from dvmvs_core.model.dvmvs import build_network
from dvmvs_core.model.hidden_state import lstm_depth_estimate, reproject_depth, warp_hidden_state
from dvmvs_core.preprocess import Preprocessor, normalise

MODULES = ("feature_extractor", "feature_pyramid", "encoder", "lstm_fusion", "decoder")
KEYFRAME = 3
MEAN_TOLERANCE, MAX_TOLERANCE = 1e-4, 2e-3
SCALES = {"": "full", "_half": "half", "_quarter": "quarter", "_eighth": "eighth", "_sixteenth": "sixteenth"}


def assert_depth(depth, expected, name):
    difference = np.abs(depth.numpy() - expected) / expected
    assert difference.mean() <= MEAN_TOLERANCE, name
    assert difference.max() <= MAX_TOLERANCE, name


@pytest.fixture(scope="module")
def networks(reference):
    """FusionNet and PairNet with the same stand-in weights."""
    built = {name: build_network(preset("paper", network=name)).eval() for name in ("fusionnet", "pairnet")}
    for number, module in enumerate(MODULES):
        state = torch.load(reference / "weights" / f"{number}_{module}", map_location="cpu", weights_only=True)
        for network in built.values():
            if hasattr(network, module):
                getattr(network, module).load_state_dict(state)
    return built


@pytest.fixture(scope="module")
def scene(hololens):
    """Images, poses and K as the networks take them: function of a frame's index, poses, K."""
    files = sorted((hololens / "images").iterdir())
    preprocessor = Preprocessor(np.loadtxt(hololens / "K.txt"), (360, 540), (256, 320))
    poses = torch.from_numpy(np.loadtxt(hololens / "poses.txt").reshape(-1, 1, 4, 4)).float()

    def image(index):
        rgb = cv2.cvtColor(cv2.imread(str(files[index])), cv2.COLOR_BGR2RGB)
        return torch.from_numpy(normalise(preprocessor.image(rgb)))[None]

    return image, poses, torch.from_numpy(preprocessor.K)[None]


@pytest.fixture(scope="module")
def keyframes(reference, networks, scene):
    """All that FusionNet computes on the ten keyframes, one dictionary each, and PairNet's depth."""
    network, pairnet = networks["fusionnet"], networks["pairnet"]
    image_of, poses, K = scene
    golden = np.load(reference / "goldens" / "fusionnet_golden.npz")
    seen, keyframes, features = {}, [], {}
    network.feature_extractor.register_forward_hook(lambda _, inputs, out: seen.update(layers=out))
    network.encoder.register_forward_hook(lambda _, inputs, out: seen.update(cost_volume=inputs[1], encoded=out))

    def extract(index):
        if index not in features:
            image = image_of(index)
            features[index] = image, network.extract(image), seen["layers"]
        return features[index]

    state = previous = None
    with torch.inference_mode():
        for reference_index, measurement_indices in zip(
            golden["frame_index"].tolist(), golden["measurement_index"].tolist(), strict=True
        ):
            measured = [i for i in measurement_indices if i >= 0]
            image, maps, layers = extract(reference_index)
            world_T_ref = poses[reference_index]
            shared = (
                image,
                maps,
                [extract(i)[1].matching for i in measured],
                world_T_ref,
                [poses[i] for i in measured],
                K,
            )
            half_depth = previous and reproject_depth(previous[0], previous[1], world_T_ref, K)
            estimate = None if previous is None else lstm_depth_estimate(half_depth)
            depth, state = network(*shared, state, previous and previous[1], estimate)
            previous = depth.full[:, None], world_T_ref
            keyframes.append(
                {
                    "arguments": shared,
                    "depth": depth,
                    "pairnet_depth": pairnet.decoder(image, seen["encoded"])[0],
                    "image": image,
                    **{f"layer{i}": layer for i, layer in enumerate(layers, start=1)},
                    "feat_half": maps.half,
                    "feat_quarter": maps.quarter,
                    "feat_8": maps.eighth,
                    "feat_16": maps.sixteenth,
                    "cost_volume": seen["cost_volume"],
                    **{f"skip{i}": seen["encoded"][i] for i in range(4)},
                    "bottom": seen["encoded"].bottom,
                    "h": state.hidden,
                    "c": state.cell,
                    "depth_reprojected_half": half_depth,
                    "depth_estimation": torch.zeros(1, 1, 8, 10) if estimate is None else estimate,
                }
            )
    return keyframes


def test_every_intermediate_of_the_fourth_keyframe(reference, keyframes):
    golden = np.load(reference / "goldens" / "fusionnet_intermediates_keyframe3.npz")
    assert len(golden.files) == 15
    for name in set(golden.files) - {"depth_reprojected_half"}:
        found, expected = keyframes[KEYFRAME][name].squeeze().numpy(), golden[name]
        assert found.shape == expected.shape, name
        difference, scale = np.abs(found - expected), np.abs(expected)
        assert difference.mean() <= MEAN_TOLERANCE * scale.mean(), name
        assert difference.max() <= MAX_TOLERANCE * scale.max(), name


def test_reprojected_depth_of_the_fourth_keyframe(reference, keyframes):
    """Rounding may move a point to the next cell: measured, 1 cell of 20480."""
    expected = np.load(reference / "goldens" / "fusionnet_intermediates_keyframe3.npz")["depth_reprojected_half"]
    found = keyframes[KEYFRAME]["depth_reprojected_half"][0, 0].numpy()
    same = np.isclose(found, expected, rtol=MAX_TOLERANCE, atol=1e-4)
    assert same.mean() >= 1 - 5e-4
    assert (expected > 0).mean() > 0.5


def test_statistics_of_every_intermediate_of_every_keyframe(reference, keyframes):
    """L2 norm, and mean, standard deviation, minimum and maximum in units of the largest magnitude."""
    stored = json.loads((reference / "goldens" / "fusionnet_stats.json").read_text())
    for number, (found, expected) in enumerate(zip(keyframes, stored, strict=True)):
        names = [n for n in expected if n in found and n != "depth_estimation"]
        assert len(names) == 18
        for name in names:
            x = found[name].double()
            norm, *values = expected[name]
            assert x.norm() == pytest.approx(norm, rel=MEAN_TOLERANCE), (number, name)
            statistics = [x.mean(), x.std(), x.min(), x.max()]
            assert statistics == pytest.approx(values, abs=MAX_TOLERANCE * float(x.abs().max())), (number, name)


@pytest.mark.parametrize("network", ["fusionnet", "pairnet"])
def test_depth_of_every_keyframe_at_every_scale(reference, keyframes, network):
    golden = np.load(reference / "goldens" / f"{network}_golden.npz")
    for number, keyframe in enumerate(keyframes):
        pyramid = keyframe["depth" if network == "fusionnet" else "pairnet_depth"]
        for suffix, scale in SCALES.items():
            assert_depth(getattr(pyramid, scale)[0], golden[f"depth{suffix}"][number], (number, scale))


def test_hidden_state_of_every_keyframe(reference, keyframes):
    golden = np.load(reference / "goldens" / "fusionnet_golden.npz")
    for number, keyframe in enumerate(keyframes):
        estimate, expected = keyframe["depth_estimation"][0, 0].numpy(), golden["depth_estimation"][number]
        np.testing.assert_array_equal(estimate == 0, expected == 0)
        np.testing.assert_allclose(estimate, expected, rtol=MAX_TOLERANCE)
        for name in ("h", "c"):
            sample, expected = keyframe[name][0, ::16].numpy(), golden[f"{name}_sample"][number]
            assert np.abs(sample - expected).mean() <= MEAN_TOLERANCE * np.abs(expected).mean()
            assert np.abs(sample - expected).max() <= MAX_TOLERANCE * np.abs(expected).max()


def test_pairnet_as_a_whole(reference, networks, keyframes):
    golden = np.load(reference / "goldens" / "pairnet_golden.npz")
    with torch.inference_mode():
        depth = networks["pairnet"](*keyframes[KEYFRAME]["arguments"])
    assert_depth(depth.full[0], golden["depth"][KEYFRAME], KEYFRAME)


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
